// The operation `norm`, whose name is taken by a function of CUDA:
// out = (x - mean) / sqrt(var + eps) · gain + bias, each row by itself; without a bias by its root mean
// square: x / sqrt(mean(x²) + eps) · gain
// x, out [rows, width]; gain [width], bias [width] or null; eps as its bits
// grid (rows), 256 threads over the width: a thread keeps its first pack, and reads others, of rows beyond 1024
// numbers, three times, twice of them from L1.
// Bytes: (2 · rows + 2) · width · 4. A few KB in a step: the floor is the launch and the reductions.
extern "C" __global__ void __launch_bounds__(256)
norm_rows(const float* x, const float* __restrict__ gain, const float* __restrict__ bias, float* out, int width,
          int eps) {
    LENGTH(0, width);
    LENGTH(1, eps);
    const int first = threadIdx.x, packs = width / VEC;
    const bool inside = first < packs;
    const Pack gains = inside ? load(gain, first) : zeros(), shifts = inside && bias ? load(bias, first) : zeros();
    begin();
    const float* from = x + (size_t)blockIdx.x * width;
    float* to = out + (size_t)blockIdx.x * width;
    const Pack own = inside ? load(from, first) : zeros();
    float mean = 0.f;
    if (bias) {
        float sum = total(own);
#pragma unroll 1
        for (int c = first + 256; c < packs; c += 256) sum += total(load(from, c));
        mean = block_sum(sum) / width;
    }
    float squares = 0.f;
    if (inside) squares = dot(own - mean, own - mean, squares);
#pragma unroll 1
    for (int c = first + 256; c < packs; c += 256) {
        const Pack d = load(from, c) - mean;
        squares = dot(d, d, squares);
    }
    const float scale = 1.f / sqrtf(block_sum(squares) / width + __int_as_float(eps));
    if (inside) store(to, first, (own - mean) * scale * gains + shifts);
#pragma unroll 1
    for (int c = first + 256; c < packs; c += 256) {
        const Pack y = (load(from, c) - mean) * scale * load(gain, c);
        store(to, c, bias ? y + load(bias, c) : y);
    }
}
