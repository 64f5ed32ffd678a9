// out[b, i] = the row `back` before new row i, zeros where that is before the first
// rows [batch, held, stride], out [batch, n, width]
// grid (n · width / VEC / 256, batch), 256 threads, one pack each.
// Bytes: 2 · n · width · 4 an entry: in a step the floor is the launch.
extern "C" __global__ void __launch_bounds__(256)
lag(const Call* call, const float* rows, float* out, int n, int held,
    int width, int stride, int layout, int back) {
    LENGTH(0, n);
    LENGTH(1, held);
    LENGTH(2, width);
    LENGTH(3, stride);
    LENGTH(4, layout);
    LENGTH(5, back);
    begin();
    const int packs = width / VEC, index = blockIdx.x * 256 + threadIdx.x;
    if (index >= n * packs) return;
    const size_t entry = blockIdx.y;
    const int row = row_of(layout, held, call->at, call->left_padding[entry], n, index / packs, back);
    store(out + entry * n * width, index,
          row < 0 ? zeros() : load(rows + (entry * held + row) * stride, index % packs));
}
