// One head of one new row against `span` of the rows of keys and values it visits, with an online softmax:
//   out = softmax(mask(q · kᵀ · scale - slope · distance)) · v
// q [batch, n, q_stride], heads of HEAD numbers side by side in a row; k [batch / share, rows, k_stride] and
// v likewise, a head of which serves `group` heads of q, and an entry `share` entries; left_padding in `call` are
// those of the entries of k. slopes [heads] or null; scale as its bits.
// out [batch, n, heads · HEAD], at once when one block sees all rows, otherwise
// by way of partial [batch · n, heads, splits, 2 + HEAD], the maximum, sum and unnormalised product of each span, which
// the last of a head's blocks combines; done [batch · n · heads] counts them, from zero and back to it. A row that
// sees nothing is zeros.
// grid (splits, heads, batch · n), 128 threads: a group of lanes holds a row, four rows (two of wide
// heads) are in flight a group. Split so that few heads still fill the multiprocessors.
// `window`: the latest rows that are seen, ALL_OF_PAST, or ANY for rows that have no order in time.
// With MASKED all rows are visited, those not seen deselected, in the scores and in v: 0 · NaN would be
// NaN. Otherwise only those seen are; with RING these may go on in row 0 behind the last.
// Bytes: 2 · rows visited · kv heads · HEAD · 4 each new row. The floor of a step: these at the bandwidth of
// the memory; heads that share keys, and new rows of one call, share them in L2.
enum { ANY = 0, ALL_OF_PAST = 0x7fffffff };
constexpr int packs = HEAD / VEC;
__device__ constexpr int lanes_for(int n) { return n >= 32 ? 32 : n <= 1 ? 1 : 2 * lanes_for((n + 1) / 2); }
constexpr int lanes = lanes_for(packs);          // that hold one row
constexpr int each = (packs + lanes - 1) / lanes; // packs of it in each
constexpr int groups = 128 / lanes;              // of lanes in a block
constexpr int ahead = each > 1 ? 2 : 4; // rows in flight a group

// The rows that a new row visits: `count` of them from row `first` on, of which the j-th holds position
// `position + j`; of these, positions `oldest` to `newest` are seen.
struct Visited {
    int first, count, position, oldest, newest;
};

__device__ inline Visited visited(int layout, int rows, int window, int start, int query, int end) {
    if (window == ANY) return {start, rows - start, start, start, rows - 1};
    const int oldest = max(start, window < query + 1 ? query + 1 - window : 0);
    if (layout == MASKED) return {0, rows, 0, oldest, query};
    const int held = layout == BOUNDED ? 0 : end - rows; // the position before which nothing is held
    const int position = max(oldest, held);
    const int first = layout == RING ? position % rows : layout == TAIL ? position - held : position;
    return {first, min(query + 1 - position, rows), position, position, query};
}

extern "C" __global__ void __launch_bounds__(128)
attention(const Call* call, const float* q, const float* k,
          const float* v, const float* __restrict__ slopes, float* partial,
          unsigned* done, float* out, int n, int heads, int group, int share, int rows, int span, int splits,
          int q_stride, int k_stride, int v_stride, int layout, int window, int scale) {
    LENGTH(0, n);
    LENGTH(1, heads);
    LENGTH(2, group);
    LENGTH(3, share);
    LENGTH(4, rows);
    LENGTH(5, span);
    LENGTH(6, splits);
    LENGTH(7, q_stride);
    LENGTH(8, k_stride);
    LENGTH(9, v_stride);
    LENGTH(10, layout);
    LENGTH(11, window);
    LENGTH(12, scale);
    begin();
    const int split = blockIdx.x, head = blockIdx.y, query_row = blockIdx.z;
    const int entry = query_row / n / share, at = call->at;
    const int position = at + query_row % n;
    const Visited run = visited(layout, rows, window, call->left_padding[entry], position, at + n);
    const int end = min((split + 1) * span, run.count);
    const int lane = threadIdx.x % lanes, mine = threadIdx.x / lanes;
    const float* q_row = q + (size_t)query_row * q_stride + head * HEAD;
    k += (size_t)entry * rows * k_stride + head / group * HEAD;
    v += (size_t)entry * rows * v_stride + head / group * HEAD;
    const float slope = slopes ? slopes[head] : 0.f;

    Pack query[each], product[each];
#pragma unroll
    for (int e = 0; e < each; e++) {
        query[e] = lane + e * lanes < packs ? load(q_row, lane + e * lanes) * __int_as_float(scale) : zeros();
        product[e] = zeros();
    }
    float top = LOWEST, sum = 0.f;
    for (int base = split * span; base < end; base += groups * ahead) {
        Pack keys[ahead][each], values[ahead][each];
        float score[ahead];
        bool visible[ahead];
        int distance[ahead];
#pragma unroll
        for (int a = 0; a < ahead; a++) {
            const int j = base + a * groups + mine, held = run.position + j;
            visible[a] = j < end && run.oldest <= held && held <= run.newest;
            distance[a] = position - held;
            int row = run.first + min(j, end - 1);
            if (row >= rows) row -= rows; // a ring
#pragma unroll
            for (int e = 0; e < each; e++) {
                const bool inside = lane + e * lanes < packs;
                keys[a][e] = inside ? load(k + (size_t)row * k_stride, lane + e * lanes) : zeros();
                values[a][e] = inside ? load(v + (size_t)row * v_stride, lane + e * lanes) : zeros();
            }
        }
        float next = top;
#pragma unroll
        for (int a = 0; a < ahead; a++) {
            score[a] = 0.f;
#pragma unroll
            for (int e = 0; e < each; e++) score[a] = dot(query[e], keys[a][e], score[a]);
#pragma unroll
            for (int mask = lanes / 2; mask > 0; mask /= 2) score[a] += __shfl_xor_sync(FULL, score[a], mask);
            score[a] -= slope * distance[a];
            next = visible[a] ? fmaxf(next, score[a]) : next;
        }
        const float fade = expf(top - next);
        top = next;
        sum *= fade;
#pragma unroll
        for (int e = 0; e < each; e++) product[e] = product[e] * fade;
#pragma unroll
        for (int a = 0; a < ahead; a++) {
            const float p = visible[a] ? expf(score[a] - top) : 0.f;
            sum += p;
#pragma unroll
            for (int e = 0; e < each; e++) product[e] = product[e] + select(visible[a], values[a][e]) * p;
        }
    }

    // the groups of a warp, then the warps of the block, become one
#pragma unroll
    for (int mask = lanes; mask < 32; mask *= 2) {
        const float other = __shfl_xor_sync(FULL, top, mask), other_sum = __shfl_xor_sync(FULL, sum, mask);
        const float both = fmaxf(top, other), mine = expf(top - both), theirs = expf(other - both);
        top = both;
        sum = sum * mine + other_sum * theirs;
#pragma unroll
        for (int e = 0; e < each; e++) product[e] = product[e] * mine + from_lane(product[e], mask) * theirs;
    }
    __shared__ float tops[4], sums[4];
    __shared__ __align__(16) float products[4][packs * VEC];
    const int warp = threadIdx.x / 32;
    if (threadIdx.x % 32 < lanes) {
        if (lane == 0) tops[warp] = top, sums[warp] = sum;
#pragma unroll
        for (int e = 0; e < each; e++)
            if (lane + e * lanes < packs) store(products[warp], lane + e * lanes, product[e]);
    }
    __syncthreads();
    const float all = fmaxf(fmaxf(tops[0], tops[1]), fmaxf(tops[2], tops[3]));
    float weights[4], total_sum = 0.f;
#pragma unroll
    for (int w = 0; w < 4; w++) {
        weights[w] = expf(tops[w] - all);
        total_sum += sums[w] * weights[w];
    }
    const size_t query_head = (size_t)query_row * heads + head;
    float* spans = partial + query_head * splits * (2 + HEAD);
    float* to = splits == 1 ? out + query_head * HEAD : spans + split * (2 + HEAD) + 2;
    for (int d = threadIdx.x; d < HEAD; d += 128) {
        float x = 0.f;
#pragma unroll
        for (int w = 0; w < 4; w++) x += products[w][d] * weights[w];
        to[d] = splits > 1 ? x : total_sum == 0.f ? 0.f : x / total_sum;
    }
    if (splits == 1) return;
    if (threadIdx.x == 0) to[-2] = all, to[-1] = total_sum;

    __shared__ bool last;
    __threadfence(); // before the count, for the block that reads this span
    __syncthreads();
    if (threadIdx.x == 0) last = atomicInc(done + query_head, splits - 1) == splits - 1;
    __syncthreads();
    if (!last) return;
    __threadfence();
    combine(spans, out + query_head * HEAD, splits);
}
