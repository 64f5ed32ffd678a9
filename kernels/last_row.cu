// out[b] = x[b, last]:  x [batch, n, width], out [batch, 1, width]
// grid (width / VEC / 256, batch), 256 threads. Bytes: 2 · width · 4 an entry: the floor is the launch.
extern "C" __global__ void __launch_bounds__(256)
last_row(const Call* call, const float* x, float* out, int n, int width) {
    LENGTH(0, n);
    LENGTH(1, width);
    begin();
    const int column = blockIdx.x * 256 + threadIdx.x;
    if (column >= width / VEC) return;
    const size_t entry = blockIdx.y;
    store(out + entry * width, column, load(x + (entry * n + call->last) * width, column));
}
