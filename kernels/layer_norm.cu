// out = (x - mean) / sqrt(var + 1e-5) · gain + bias, each row by itself
// x, out [rows, width]; gain, bias [width]
// grid (rows), 256 threads over the width; the row is read three times, twice of them from L1.
// Bytes: (2 · rows + 2) · width · 4. A few KB in a step: the floor is the launch and two reductions.
extern "C" __global__ void __launch_bounds__(256)
layer_norm(const float* __restrict__ x, const float* __restrict__ gain, const float* __restrict__ bias,
           float* __restrict__ out, int width) {
    LENGTH(0, width);
    const float* from = x + (size_t)blockIdx.x * width;
    float* to = out + (size_t)blockIdx.x * width;
    float sum = 0.f;
    for (int c = threadIdx.x; c < width / VEC; c += blockDim.x) sum += total(load(from, c));
    const float mean = block_sum(sum) / width;
    float squares = 0.f;
    for (int c = threadIdx.x; c < width / VEC; c += blockDim.x) {
        const Pack d = load(from, c) - mean;
        squares = dot(d, d, squares);
    }
    const float scale = 1.f / sqrtf(block_sum(squares) / width + 1e-5f);
    for (int c = threadIdx.x; c < width / VEC; c += blockDim.x)
        store(to, c, (load(from, c) - mean) * scale * load(gain, c) + load(bias, c));
}
