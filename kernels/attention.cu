// One head of one new row against `span` rows of keys and values, with an online softmax:
//   out = softmax(mask(q · kᵀ / √HEAD)) · v, row r visible to new row i when r <= at + i
// q [batch, n, q_stride], k, v [batch, rows, kv_stride], heads of HEAD numbers side by side in a row;
// out [batch, n, heads · HEAD] when one block sees all rows, otherwise
// partial [batch · n, heads, splits, 2 + HEAD]: maximum, sum and unnormalised product of one span,
// for attention_combine.
// grid (splits, heads, batch · n), 128 threads: a group of lanes holds a row, four rows (two of wide
// heads) are in flight a group. Split so that few heads still fill the multiprocessors.
// `masked`: all rows are read, those not visible deselected, in the scores and in v: 0 · NaN would be
// NaN. Otherwise rows past the newest are not read.
// Bytes: 2 · rows read · heads · HEAD · 4 each new row. The floor of a step: these at the bandwidth of
// the memory; new rows of one call share them in L2.
constexpr int packs = HEAD / VEC;
__device__ constexpr int lanes_for(int n) { return n >= 32 ? 32 : n <= 1 ? 1 : 2 * lanes_for((n + 1) / 2); }
constexpr int lanes = lanes_for(packs);          // that hold one row
constexpr int each = (packs + lanes - 1) / lanes; // packs of it in each
constexpr int groups = 128 / lanes;
constexpr int ahead = each > 1 ? 2 : 4; // rows in flight a group

extern "C" __global__ void __launch_bounds__(128)
attention(const Call* __restrict__ call, const float* __restrict__ q, const float* __restrict__ k,
          const float* __restrict__ v, float* __restrict__ partial, float* __restrict__ out, int n, int heads,
          int rows, int span, int splits, int q_stride, int kv_stride, int masked) {
    LENGTH(0, n);
    LENGTH(1, heads);
    LENGTH(2, rows);
    LENGTH(3, span);
    LENGTH(4, splits);
    LENGTH(5, q_stride);
    LENGTH(6, kv_stride);
    LENGTH(7, masked);
    const int split = blockIdx.x, head = blockIdx.y, query_row = blockIdx.z;
    const int newest = call->at + query_row % n;
    const int end = min((split + 1) * span, masked ? rows : min(rows, newest + 1));
    const int lane = threadIdx.x % lanes, group = threadIdx.x / lanes;
    const float* q_row = q + (size_t)query_row * q_stride + head * HEAD;
    const size_t entry = (size_t)(query_row / n) * rows;

    const float scale = 1.f / sqrtf((float)HEAD);
    Pack query[each], product[each];
#pragma unroll
    for (int e = 0; e < each; e++) {
        query[e] = lane + e * lanes < packs ? load(q_row, lane + e * lanes) * scale : zeros();
        product[e] = zeros();
    }
    float top = LOWEST, sum = 0.f;
    for (int base = split * span; base < end; base += groups * ahead) {
        Pack keys[ahead][each], values[ahead][each];
        float score[ahead];
        bool visible[ahead];
#pragma unroll
        for (int a = 0; a < ahead; a++) {
            const int row = base + a * groups + group;
            visible[a] = row < end && row <= newest;
            const size_t from = (entry + min(row, end - 1)) * kv_stride + head * HEAD;
#pragma unroll
            for (int e = 0; e < each; e++) {
                const bool inside = lane + e * lanes < packs;
                keys[a][e] = inside ? load(k + from, lane + e * lanes) : zeros();
                values[a][e] = inside ? load(v + from, lane + e * lanes) : zeros();
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
    float* to = splits == 1 ? out + ((size_t)query_row * heads + head) * HEAD
                            : partial + (((size_t)query_row * heads + head) * splits + split) * (2 + HEAD) + 2;
    for (int d = threadIdx.x; d < HEAD; d += 128) {
        float x = 0.f;
#pragma unroll
        for (int w = 0; w < 4; w++) x += products[w][d] * weights[w];
        to[d] = splits == 1 ? x / total_sum : x;
    }
    if (splits > 1 && threadIdx.x == 0) to[-2] = all, to[-1] = total_sum;
}
