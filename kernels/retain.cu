// Retention, row after row and each head by itself:
//   S = decay · S + kᵀ · v,  out = q · S
// q, k [batch, n, heads · HEAD] and v [batch, n, heads · size] with their strides, decays [heads],
// state [batch, heads · HEAD, size] in place or null (then S begins as zeros and is forgotten),
// out [batch, n, heads · size]. Rows before an entry's start give zeros and leave S alone.
// grid (size / VEC / 8, heads, batch), 128 threads: eight lanes have a pack of columns of S each, sixteen
// groups of lanes share its HEAD rows, and each thread keeps its part of S in registers from the first
// new row to the last.
// Bytes: 2 · HEAD · size · 4 a head and call, and the new rows. The floor of a step: these at the
// bandwidth of the memory.
constexpr int lanes = 8, groups = 128 / lanes;
constexpr int each = (HEAD + groups - 1) / groups; // rows of S in each thread

extern "C" __global__ void __launch_bounds__(128)
retain(const Call* call, const float* q, const float* k,
       const float* v, const float* __restrict__ decays, float* state,
       float* out, int n, int heads, int size, int q_stride, int k_stride, int v_stride) {
    LENGTH(0, n);
    LENGTH(1, heads);
    LENGTH(2, size);
    LENGTH(3, q_stride);
    LENGTH(4, k_stride);
    LENGTH(5, v_stride);
    begin();
    const int head = blockIdx.y, entry = blockIdx.z, packs = size / VEC;
    const int group = threadIdx.x / lanes, column = blockIdx.x * lanes + threadIdx.x % lanes;
    const bool inside = column < packs;
    const float decay = decays[head];
    float* kept = state ? state + (size_t)(entry * heads + head) * HEAD * size : nullptr;

    Pack S[each];
#pragma unroll
    for (int e = 0; e < each; e++) {
        const int d = group + e * groups;
        S[e] = kept && inside && d < HEAD ? load(kept + (size_t)d * size, column) : zeros();
    }
    __shared__ __align__(16) float sums[4][lanes * VEC]; // of the warps
    for (int i = 0; i < n; i++) {
        const size_t row = (size_t)entry * n + i;
        float* to = out + row * heads * size + head * size;
        if (call->at + i < call->left_padding[entry]) { // so for the whole block
            if (inside && group == 0) store(to, column, zeros());
            continue;
        }
        const float* q_row = q + row * q_stride + head * HEAD;
        const float* k_row = k + row * k_stride + head * HEAD;
        const Pack value = inside ? load(v + row * v_stride + head * size, column) : zeros();
        Pack product = zeros();
#pragma unroll
        for (int e = 0; e < each; e++) {
            const int d = group + e * groups;
            if (d >= HEAD) continue;
            S[e] = S[e] * decay + value * k_row[d];
            product = product + S[e] * q_row[d];
        }
#pragma unroll
        for (int mask = lanes; mask < 32; mask *= 2) product = product + from_lane(product, mask);
        if (threadIdx.x % 32 < lanes) store(sums[threadIdx.x / 32], threadIdx.x % 32, product);
        __syncthreads();
        if (inside && group == 0)
            store(to, column, (load(sums[0], threadIdx.x) + load(sums[1], threadIdx.x)) +
                                  (load(sums[2], threadIdx.x) + load(sums[3], threadIdx.x)));
        __syncthreads(); // the sums have been read
    }
#pragma unroll
    for (int e = 0; e < each; e++) {
        const int d = group + e * groups;
        if (kept && inside && d < HEAD) store(kept + (size_t)d * size, column, S[e]);
    }
}
