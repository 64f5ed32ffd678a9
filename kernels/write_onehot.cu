// rows[b, r] += Σ_i (r == at + i) · new[b, i], over all R rows:  rows [batch, R, width], new [batch, n, stride]
// grid (R · width / VEC / 256, batch), 256 threads, one pack each.
// Bytes: 2 · R · width · 4 an entry, and new once a row from L1. The floor: these at the bandwidth of
// the memory.
extern "C" __global__ void __launch_bounds__(256)
write_onehot(const Call* call, const float* fresh, float* rows, int n,
             int capacity, int width, int stride) {
    LENGTH(0, n);
    LENGTH(1, capacity);
    LENGTH(2, width);
    LENGTH(3, stride);
    begin();
    const int packs = width / VEC, index = blockIdx.x * 256 + threadIdx.x, row = index / packs;
    if (row >= capacity) return;
    const size_t entry = blockIdx.y;
    float* to = rows + entry * capacity * width;
    Pack sum = load(to, index);
    const float* from = fresh + entry * n * stride + index % packs * VEC;
    const int wanted = row - call->at;
#pragma unroll 1
    for (int i = 0; i < n; i++, from += stride) sum = sum + load(from, 0) * (i == wanted ? 1.f : 0.f);
    store(to, index, sum);
}
