// The operation `norm`, whose name is taken by a function of CUDA:
// out = (x - mean) / sqrt(var + eps) · gain + bias, each row by itself; without a bias by its root mean
// square: x / sqrt(mean(x²) + eps) · gain
// x, out [rows, width]; gain [width], bias [width] or null; eps as its bits
// grid (rows), 256 threads over the width; the row is read three times, twice of them from L1.
// Bytes: (2 · rows + 2) · width · 4. A few KB in a step: the floor is the launch and the reductions.
extern "C" __global__ void __launch_bounds__(256)
norm_rows(const float* __restrict__ x, const float* __restrict__ gain, const float* __restrict__ bias,
          float* __restrict__ out, int width, int eps) {
    LENGTH(0, width);
    LENGTH(1, eps);
    const float* from = x + (size_t)blockIdx.x * width;
    float* to = out + (size_t)blockIdx.x * width;
    float mean = 0.f;
    if (bias) {
        float sum = 0.f;
        for (int c = threadIdx.x; c < width / VEC; c += blockDim.x) sum += total(load(from, c));
        mean = block_sum(sum) / width;
    }
    float squares = 0.f;
    for (int c = threadIdx.x; c < width / VEC; c += blockDim.x) {
        const Pack d = load(from, c) - mean;
        squares = dot(d, d, squares);
    }
    const float scale = 1.f / sqrtf(block_sum(squares) / width + __int_as_float(eps));
    for (int c = threadIdx.x; c < width / VEC; c += blockDim.x) {
        const Pack y = (load(from, c) - mean) * scale * load(gain, c);
        store(to, c, bias ? y + load(bias, c) : y);
    }
}
