// rows[b, at + i] = new[b, i]:  rows [batch, capacity, width], new [batch, n, stride]
// grid (n · width / VEC / 256, batch), 256 threads, one pack each. The host has checked that the rows
// fit; that none is written past the end is made sure of again here, where `at` is known.
// Bytes: 2 · n · width · 4 an entry: in a step the floor is the launch.
extern "C" __global__ void __launch_bounds__(256)
write_rows(const Call* call, const float* fresh, float* rows, int n,
           int capacity, int width, int stride) {
    LENGTH(0, n);
    LENGTH(1, capacity);
    LENGTH(2, width);
    LENGTH(3, stride);
    begin();
    const int packs = width / VEC, index = blockIdx.x * 256 + threadIdx.x;
    const int i = index / packs, row = call->at + i;
    if (i >= n || row >= capacity) return;
    const size_t entry = blockIdx.y;
    store(rows + (entry * capacity + row) * width, index % packs,
          load(fresh + (entry * n + i) * stride, index % packs));
}
