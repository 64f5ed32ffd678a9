// rows[b, (at + i) mod R] = new[b, i] for the last R new rows:  rows [batch, R, width], new [batch, n, stride]
// grid (min(n, R) · width / VEC / 256, batch), 256 threads, one pack each.
// Bytes: 2 · min(n, R) · width · 4 an entry: in a step the floor is the launch.
extern "C" __global__ void __launch_bounds__(256)
write_ring(const Call* call, const float* fresh, float* rows, int n,
           int held, int width, int stride) {
    LENGTH(0, n);
    LENGTH(1, held);
    LENGTH(2, width);
    LENGTH(3, stride);
    begin();
    const int packs = width / VEC, index = blockIdx.x * 256 + threadIdx.x;
    const int i = index / packs + max(0, n - held);
    if (i >= n) return;
    const size_t entry = blockIdx.y;
    store(rows + (entry * held + (call->at + i) % held) * width, index % packs,
          load(fresh + (entry * n + i) * stride, index % packs));
}
