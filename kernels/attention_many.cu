// Attention of many new rows: out = softmax(mask(q · kᵀ · scale - slope · distance)) · v, as attention.cu says it,
// for tiles of 16 new rows of one head of one entry, which read keys and values once for all.
// Shapes, `partial` and what is seen are those of attention.cu; layouts are TAIL, BOUNDED and MASKED.
// grid (splits · n / 16, heads, batch), 128 threads: 8 threads a new row; 32 rows of keys and of values at a time
// pass through shared memory, and `span` rows make one split, where tiles alone are too few for the device. Tiles
// that see most begin first.
// Rows of which a tile sees none are skipped; with MASKED all are visited, as that layout means. A row may hold NaN
// that no new row sees: its score is deselected, and in v it is zeros.
// FLOPs: 4 · HEAD each new row and head and row visited; bytes: 2 · rows visited · HEAD · 4 each tile and head. The
// floor is arithmetic; four numbers of a key are read from shared memory for four multiplications.
enum { ANY = 0, ALL_OF_PAST = 0x7fffffff };
constexpr int packs = HEAD / VEC;
constexpr int queries = 16, lanes = 8, keys = 32;
constexpr int each = (packs + lanes - 1) / lanes; // packs of a new row's product in each of its threads
constexpr int scores = keys / lanes;              // of a new row in each of its threads
constexpr int stride = (packs | 1) * VEC;         // odd, so that eight rows lie in different banks

// The positions that a new row sees.
struct Seen {
    int oldest, newest;
};

__device__ inline Seen seen(int rows, int window, int start, int query, int held) {
    if (window == ANY) return {start, rows - 1};
    return {max(max(start, held), window < query + 1 ? query + 1 - window : 0), query};
}

extern "C" __global__ void __launch_bounds__(128, 4)
attention_many(const Call* call, const float* q, const float* k,
               const float* v, const float* __restrict__ slopes, float* partial,
               float* out, int n, int heads, int group, int share, int rows, int span, int splits,
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
    __shared__ __align__(16) float qs[queries][stride], ks[keys][stride], vs[keys][stride];
    __shared__ float ps[queries][keys + lanes];
    const int split = blockIdx.x % splits, tile = (n + queries - 1) / queries - 1 - blockIdx.x / splits;
    const int head = blockIdx.y, entry = blockIdx.z / share;
    const int i0 = tile * queries, at = call->at, start = call->left_padding[entry];
    const int held = layout == TAIL && window != ANY ? at + n - rows : 0; // the position in row 0
    const int lane = threadIdx.x % lanes, mine = threadIdx.x / lanes, i = i0 + mine;
    q += ((size_t)blockIdx.z * n + i0) * q_stride + head * HEAD;
    k += (size_t)entry * rows * k_stride + head / group * HEAD;
    v += (size_t)entry * rows * v_stride + head / group * HEAD;
    const float slope = slopes ? slopes[head] : 0.f;

    // what this thread's new row sees, and what any of the tile does
    const Seen own = seen(rows, window, start, at + i, held);
    const int oldest = seen(rows, window, start, at + i0, held).oldest;
    const int newest = seen(rows, window, start, min(at + i0 + queries, at + n) - 1, held).newest;
    const bool all = layout == MASKED && window != ANY;
    const int first = (all ? 0 : oldest - held) + split * span;
    const int end = min(first + span, all ? rows : newest - held + 1);

    for (int p = threadIdx.x; p < queries * packs; p += 128) {
        const int row = p / packs, pack = p % packs;
        store(qs[row], pack, i0 + row < n ? load(q + (size_t)row * q_stride, pack) * __int_as_float(scale) : zeros());
    }
    Pack product[each];
#pragma unroll
    for (int e = 0; e < each; e++) product[e] = zeros();
    float top = LOWEST, sum = 0.f;
    for (int base = first; base < end; base += keys) {
        __syncthreads(); // the tile before has been read
#pragma unroll 4
        for (int p = threadIdx.x; p < keys * packs; p += 128) {
            const int row = base + p / packs, pack = p % packs;
            const bool inside = row < end;
            store(ks[p / packs], pack, inside ? load(k + (size_t)row * k_stride, pack) : zeros());
            const Pack value = inside ? load(v + (size_t)row * v_stride, pack) : zeros();
            store(vs[p / packs], pack, select(oldest <= row + held && row + held <= newest, value));
        }
        __syncthreads();
        float score[scores] = {};
#pragma unroll 2
        for (int p = 0; p < packs; p++) {
            const Pack query = load(qs[mine], p);
#pragma unroll
            for (int s = 0; s < scores; s++) score[s] = dot(query, load(ks[lane + s * lanes], p), score[s]);
        }
        float next = top;
        bool visible[scores];
#pragma unroll
        for (int s = 0; s < scores; s++) {
            const int row = base + lane + s * lanes, position = row + held;
            visible[s] = row < end && own.oldest <= position && position <= own.newest;
            score[s] -= slope * (at + i - position);
            next = visible[s] ? fmaxf(next, score[s]) : next;
        }
#pragma unroll
        for (int mask = lanes / 2; mask > 0; mask /= 2) next = fmaxf(next, __shfl_xor_sync(FULL, next, mask));
        const float fade = expf(top - next);
        top = next;
        sum *= fade;
#pragma unroll
        for (int s = 0; s < scores; s++) {
            const float p = visible[s] ? expf(score[s] - top) : 0.f;
            sum += p;
            ps[mine][lane + s * lanes] = p;
        }
        __syncwarp(); // a new row's threads are of one warp
#pragma unroll
        for (int e = 0; e < each; e++) product[e] = product[e] * fade;
#pragma unroll 2
        for (int j = 0; j < keys; j++) {
            const float p = ps[mine][j];
#pragma unroll
            for (int e = 0; e < each; e++)
                if (lane + e * lanes < packs) product[e] = product[e] + load(vs[j], lane + e * lanes) * p;
        }
    }
#pragma unroll
    for (int mask = lanes / 2; mask > 0; mask /= 2) sum += __shfl_xor_sync(FULL, sum, mask);
    if (i >= n) return;
    const size_t query_head = ((size_t)blockIdx.z * n + i) * heads + head;
    // 2 + HEAD numbers are no whole packs
    float* to = splits == 1 ? out + query_head * HEAD : partial + (query_head * splits + split) * (2 + HEAD) + 2;
    const float part = splits > 1 ? 1.f : sum == 0.f ? 0.f : 1.f / sum;
#pragma unroll
    for (int e = 0; e < each; e++)
        if (lane + e * lanes < packs) {
            const Pack x = product[e] * part;
#if VEC == 4
            float* place = to + (lane + e * lanes) * VEC;
            place[0] = x.x, place[1] = x.y, place[2] = x.z, place[3] = x.w;
#else
            to[lane + e * lanes] = x;
#endif
        }
    if (splits > 1 && lane == 0) to[-2] = top, to[-1] = sum;
}
