// out = activation(x · weightᵀ + bias) (+ residual), for few rows of x: a matrix-vector product
// x [rows, inner], weight [outs, inner], bias [outs] or null, residual, out [rows, outs]
// grid (outs / 4, rows), 128 threads: a block takes four rows of the weight, its threads lie side by
// side along them, and the loop is unrolled twice: eight 16-byte loads of weights in flight a thread.
// Bytes: outs · inner · 4 of weights, once a row of x (from L2 after the first). The floor of a step:
// these bytes at the bandwidth of the memory.
#define OUTS 4
extern "C" __global__ void __launch_bounds__(128)
linear_one(const float* __restrict__ x, const float* __restrict__ weight, const float* __restrict__ bias,
           const float* __restrict__ residual, float* __restrict__ out, int inner, int outs, int activation) {
    LENGTH(0, inner);
    LENGTH(1, outs);
    LENGTH(2, activation);
    __shared__ float sums[4][OUTS];
    const int first = blockIdx.x * OUTS;
    const float* row = x + (size_t)blockIdx.y * inner;
    const float* w[OUTS];
    float sum[OUTS];
#pragma unroll
    for (int j = 0; j < OUTS; j++) {
        w[j] = weight + (size_t)min(first + j, outs - 1) * inner;
        sum[j] = 0.f;
    }
#pragma unroll 2
    for (int k = threadIdx.x; k < inner / VEC; k += 128) {
        const Pack a = load(row, k);
#pragma unroll
        for (int j = 0; j < OUTS; j++) sum[j] = dot(load(w[j], k), a, sum[j]);
    }
#pragma unroll
    for (int j = 0; j < OUTS; j++) {
        sum[j] = warp_sum(sum[j]);
        if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32][j] = sum[j];
    }
    __syncthreads();
    const int j = threadIdx.x, o = first + j;
    if (j >= OUTS || o >= outs) return;
    const float sum_of_warps = (sums[0][j] + sums[1][j]) + (sums[2][j] + sums[3][j]);
    const float y = activated(activation, sum_of_warps + (bias ? bias[o] : 0.f));
    const size_t at = (size_t)blockIdx.y * outs + o;
    out[at] = residual ? y + residual[at] : y;
}
