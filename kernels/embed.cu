// out[b, i] = table[tokens[b, i]] (+ positions[at + i - left_padding[b]], padding having position 0)
// table [vocab, width], positions [capacity, width] or null, out [batch, n, width]
// grid (batch · n), 128 threads over the width.
// Bytes: 2 (3 with positions) · batch · n · width · 4. A few KB in a step: the floor is the launch.
extern "C" __global__ void __launch_bounds__(128)
embed(const Call* call, const float* __restrict__ table, const float* __restrict__ positions,
      float* out, int batch, int n, int width) {
    LENGTH(0, batch);
    LENGTH(1, n);
    LENGTH(2, width);
    begin();
    const int row = blockIdx.x, token = call->left_padding[batch + row];
    const float* from = table + (size_t)token * width;
    const float* position = positions + (size_t)max(call->at + row % n - call->left_padding[row / n], 0) * width;
    float* to = out + (size_t)row * width;
    for (int c = threadIdx.x; c < width / VEC; c += blockDim.x) {
        const Pack x = load(from, c);
        store(to, c, positions ? x + load(position, c) : x);
    }
}
