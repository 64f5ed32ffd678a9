// Moves every row n places down, drops the first n, appends the last of new:
// rows [batch, R, width] in place, new [batch, n, stride]
// grid (width / VEC / 128, batch), 128 threads: a thread owns a column, so that no row is overwritten
// before it has moved.
// Bytes: 2 · R · width · 4 an entry: in a step the floor is the launch.
extern "C" __global__ void __launch_bounds__(128)
shift(const float* fresh, float* rows, int n, int held, int width, int stride) {
    LENGTH(0, n);
    LENGTH(1, held);
    LENGTH(2, width);
    LENGTH(3, stride);
    begin();
    const int column = blockIdx.x * 128 + threadIdx.x;
    if (column >= width / VEC) return;
    const size_t entry = blockIdx.y;
    float* to = rows + entry * held * width;
    const int kept = max(0, held - n);
    for (int row = 0; row < kept; row++)
        store(to + (size_t)row * width, column, load(to + (size_t)(row + n) * width, column));
    for (int row = kept; row < held; row++)
        store(to + (size_t)row * width, column, load(fresh + (entry * n + n - held + row) * stride, column));
}
