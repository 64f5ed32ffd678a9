// out = activation(x · weightᵀ + bias) (+ residual), for many rows of x: a tiled matrix product
// x [rows, inner], weight [outs, inner], bias [outs] or null, residual, out [rows, outs]
// grid (outs / 64, rows / 64), 256 threads: a block makes a tile of 64 × 64, a thread 4 × 4 of it in
// registers, from slices of 16 in shared memory; the next slice is on its way while one is worked on.
// FLOPs: 2 · rows · outs · inner; bytes: each weight once for 64 rows of x. The floor is arithmetic
// from a few dozen rows on; this tile reaches a good part of it, not all.
#define TILE 64
#define SLICE 16

// Four numbers of a row from column k on, zeros where the matrix ends.
__device__ inline float4 four(const float* m, int row, int rows, int k, int inner) {
    float4 x = make_float4(0.f, 0.f, 0.f, 0.f);
    if (row >= rows || k >= inner) return x;
    const float* from = m + (size_t)row * inner + k;
#if VEC == 4
    return *reinterpret_cast<const float4*>(from);
#else
    x.x = from[0];
    if (k + 1 < inner) x.y = from[1];
    if (k + 2 < inner) x.z = from[2];
    if (k + 3 < inner) x.w = from[3];
    return x;
#endif
}

extern "C" __global__ void __launch_bounds__(256)
linear(const float* __restrict__ x, const float* __restrict__ weight, const float* __restrict__ bias,
       const float* __restrict__ residual, float* __restrict__ out, int rows, int inner, int outs,
       int activation) {
    LENGTH(0, rows);
    LENGTH(1, inner);
    LENGTH(2, outs);
    LENGTH(3, activation);
    __shared__ __align__(16) float xs[SLICE][TILE + 4], ws[SLICE][TILE + 4];
    const int row0 = blockIdx.y * TILE, out0 = blockIdx.x * TILE;
    const int from = threadIdx.x / 4, k4 = threadIdx.x % 4 * 4;            // what this thread fetches
    const int tx = threadIdx.x % 16 * 4, ty = threadIdx.x / 16 * 4;        // what it computes
    float sum[4][4] = {};
    float4 a = four(x, row0 + from, rows, k4, inner), b = four(weight, out0 + from, outs, k4, inner);
    for (int k = 0; k < inner; k += SLICE) {
        xs[k4][from] = a.x, xs[k4 + 1][from] = a.y, xs[k4 + 2][from] = a.z, xs[k4 + 3][from] = a.w;
        ws[k4][from] = b.x, ws[k4 + 1][from] = b.y, ws[k4 + 2][from] = b.z, ws[k4 + 3][from] = b.w;
        __syncthreads();
        a = four(x, row0 + from, rows, k + SLICE + k4, inner);
        b = four(weight, out0 + from, outs, k + SLICE + k4, inner);
#pragma unroll
        for (int s = 0; s < SLICE; s++) {
            const float4 l = *reinterpret_cast<const float4*>(&xs[s][ty]);
            const float4 r = *reinterpret_cast<const float4*>(&ws[s][tx]);
            const float left[4] = {l.x, l.y, l.z, l.w}, right[4] = {r.x, r.y, r.z, r.w};
#pragma unroll
            for (int i = 0; i < 4; i++)
#pragma unroll
                for (int j = 0; j < 4; j++) sum[i][j] = fmaf(left[i], right[j], sum[i][j]);
        }
        __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int j = 0; j < 4; j++) {
            const int row = row0 + ty + i, o = out0 + tx + j;
            if (row >= rows || o >= outs) continue;
            const float y = activated(activation, sum[i][j] + (bias ? bias[o] : 0.f));
            const size_t at = (size_t)row * outs + o;
            out[at] = residual ? y + residual[at] : y;
        }
}
