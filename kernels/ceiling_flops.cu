// out[thread] = the sum of eight chains x <- x · scale + add, `rounds` times each, from registers alone
// scale [1]; out [blocks · 256]
// grid (blocks), 256 threads; eight chains hide the latency of one.
// FLOPs: blocks · 256 · 8 · rounds · 2. No product of matrices can be faster.
extern "C" __global__ void __launch_bounds__(256)
ceiling_flops(const float* __restrict__ scale, float* __restrict__ out, int rounds) {
    LENGTH(0, rounds);
    const float factor = scale[0], add = 1.f;
    float chains[8];
#pragma unroll
    for (int c = 0; c < 8; ++c) chains[c] = (float)(threadIdx.x + c);
    for (int r = 0; r < rounds; ++r) {
#pragma unroll
        for (int c = 0; c < 8; ++c) chains[c] = fmaf(chains[c], factor, add);
    }
    float sum = 0.f;
#pragma unroll
    for (int c = 0; c < 8; ++c) sum += chains[c];
    out[blockIdx.x * blockDim.x + threadIdx.x] = sum;
}
