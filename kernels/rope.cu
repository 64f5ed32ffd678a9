// Turns each head of `size` numbers by its position: numbers j and j + size / 2 are a point, turned by the
// angle whose cosine is cos_sin[p, j] and whose sine is cos_sin[p, j + size / 2], p = at + i - left_padding[b]
// (padding has position 0)
// x [batch, n, stride], cos_sin [capacity, size], out [batch, n, width]
// grid (width / 2 / VEC / 128, batch · n), 128 threads, a pack of points each.
// Bytes: (2 · width + size) · 4 a row. A few KB in a step: the floor is the launch.
extern "C" __global__ void __launch_bounds__(128)
rope(const Call* call, const float* x, const float* __restrict__ cos_sin,
       float* out, int n, int width, int size, int stride) {
    LENGTH(0, n);
    LENGTH(1, width);
    LENGTH(2, size);
    LENGTH(3, stride);
    begin();
    const int half = size / 2, points = blockIdx.x * 128 + threadIdx.x, row = blockIdx.y;
    if (points >= width / 2 / VEC) return;
    const int position = max(call->at + row % n - call->left_padding[row / n], 0);
    const int head = points / (half / VEC), j = points % (half / VEC);
    const float* turn = cos_sin + (size_t)position * size;
    const float* from = x + (size_t)row * stride + head * size;
    float* to = out + (size_t)row * width + head * size;
    const Pack left = load(from, j), right = load(from + half, j);
    const Pack cosine = load(turn, j), sine = load(turn + half, j);
    store(to, j, left * cosine - right * sine);
    store(to + half, j, right * cosine + left * sine);
}
