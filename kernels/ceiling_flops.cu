// out[thread] = the sum of eight points that were turned `rounds` times by a small angle, from registers alone
// angle [1]; out [blocks · 256]
// grid (blocks), 256 threads; eight points hide the latency of one. A turn keeps its point on an ellipse for ever,
// so that the numbers never settle: equal operands would cost less power, and run at a higher clock.
// FLOPs: blocks · 256 · 8 · rounds · 4. No product of matrices can be faster.
extern "C" __global__ void __launch_bounds__(256)
ceiling_flops(const float* __restrict__ angle, float* out, int rounds) {
    LENGTH(0, rounds);
    begin();
    const float turn = angle[0];
    float x[8], y[8];
#pragma unroll
    for (int p = 0; p < 8; ++p) x[p] = random_number(8 * (blockIdx.x * blockDim.x + threadIdx.x) + p), y[p] = 0.f;
    for (int r = 0; r < rounds; ++r) {
#pragma unroll
        for (int p = 0; p < 8; ++p) x[p] = fmaf(-turn, y[p], x[p]);
#pragma unroll
        for (int p = 0; p < 8; ++p) y[p] = fmaf(turn, x[p], y[p]);
    }
    float sum = 0.f;
#pragma unroll
    for (int p = 0; p < 8; ++p) sum += x[p] + y[p];
    out[blockIdx.x * blockDim.x + threadIdx.x] = sum;
}
