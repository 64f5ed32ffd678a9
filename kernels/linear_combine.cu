// The second launch of a product in several parts: out = activation(sum of parts + bias) (+ residual), parts
// being added in their order, so that a result is the same every time.
// partial [splits, rows, outs] of linear, bias [outs] or null, residual, out [rows, outs]; one thread a pack
// Bytes: (splits + 1) · rows · outs · 4, mostly from L2.
__device__ inline Pack activated_pack(int activation, Pack a) {
#if VEC == 4
    return make_float4(activated(activation, a.x), activated(activation, a.y), activated(activation, a.z),
                       activated(activation, a.w));
#else
    return activated(activation, a);
#endif
}

extern "C" __global__ void __launch_bounds__(256)
linear_combine(const float* partial, const float* __restrict__ bias,
               const float* residual, float* out, int rows, int outs, int activation,
               int splits) {
    LENGTH(0, rows);
    LENGTH(1, outs);
    LENGTH(2, activation);
    LENGTH(3, splits);
    begin();
    const int i = blockIdx.x * 256 + threadIdx.x, width = outs / VEC;
    if (i >= rows * width) return;
    Pack other = zeros(), sum = bias ? load(bias, i % width) : zeros();
    if (residual) other = load(residual, i);
#pragma unroll 4
    for (int s = 0; s < splits; s++) sum = sum + load(partial + (size_t)s * rows * outs, i);
    store(out, i, activated_pack(activation, sum) + other);
}
