// out = activation(x · weightᵀ + bias) (+ residual), for many rows of x: a tiled matrix product
// x [rows, inner], weight [outs, inner], bias [outs] or null, residual, out [rows, outs]
// grid (outs / 64, rows / 64, splits), 256 threads: a block makes a tile of 64 × 64, a thread 4 × 4 of it in
// registers, from slices of 16 in two buffers of shared memory; the next slice is on its way while one is
// worked on. Where tiles are too few for the device, each goes over `part` of inner alone (a multiple of a
// slice), and its sums go to partial [splits, rows, outs], for linear_combine.
// FLOPs: 2 · rows · outs · inner; bytes: each weight once for 64 rows of x, and with splits twice the partial
// sums. The floor is arithmetic from a few dozen rows on; this tile reaches a good part of it, not all. 8 × 8 sums a
// thread in tiles of 64 × 128 were tried on an H200 and took longer.
#define TILE 64
#define SLICE 16

// Four numbers of a row from column k on, zeros from column `end` and behind the last row.
__device__ inline float4 four(const float* m, int row, int rows, int k, int end, int inner) {
    float4 x = make_float4(0.f, 0.f, 0.f, 0.f);
    if (row >= rows || k >= end) return x;
    const float* from = m + (size_t)row * inner + k;
#if VEC == 4
    return *reinterpret_cast<const float4*>(from);
#else
    x.x = from[0];
    if (k + 1 < end) x.y = from[1];
    if (k + 2 < end) x.z = from[2];
    if (k + 3 < end) x.w = from[3];
    return x;
#endif
}

extern "C" __global__ void __launch_bounds__(256)
linear(const float* x, const float* __restrict__ weight, const float* __restrict__ bias, const float* residual,
       float* partial, float* out, int rows, int inner, int outs, int activation, int part) {
    LENGTH(0, rows);
    LENGTH(1, inner);
    LENGTH(2, outs);
    LENGTH(3, activation);
    LENGTH(4, part);
    begin();
    __shared__ __align__(16) float xs[2][SLICE][TILE + 4], ws[2][SLICE][TILE + 4];
    const int row0 = blockIdx.y * TILE, out0 = blockIdx.x * TILE;
    const int from = threadIdx.x / 4, k4 = threadIdx.x % 4 * 4;            // what this thread fetches
    const int tx = threadIdx.x % 16 * 4, ty = threadIdx.x / 16 * 4;        // what it computes
    float sum[4][4] = {};
    const int first = blockIdx.z * part, end = min(first + part, inner);
    float4 a = four(x, row0 + from, rows, first + k4, end, inner);
    float4 b = four(weight, out0 + from, outs, first + k4, end, inner);
    int buffer = 0;
    for (int k = first; k < end; k += SLICE, buffer ^= 1) {
        float(*xb)[TILE + 4] = xs[buffer], (*wb)[TILE + 4] = ws[buffer];
        xb[k4][from] = a.x, xb[k4 + 1][from] = a.y, xb[k4 + 2][from] = a.z, xb[k4 + 3][from] = a.w;
        wb[k4][from] = b.x, wb[k4 + 1][from] = b.y, wb[k4 + 2][from] = b.z, wb[k4 + 3][from] = b.w;
        __syncthreads(); // all have also done with the other buffer, which is filled next
        a = four(x, row0 + from, rows, k + SLICE + k4, end, inner);
        b = four(weight, out0 + from, outs, k + SLICE + k4, end, inner);
#pragma unroll
        for (int s = 0; s < SLICE; s++) {
            const float4 l = *reinterpret_cast<const float4*>(&xb[s][ty]);
            const float4 r = *reinterpret_cast<const float4*>(&wb[s][tx]);
            const float left[4] = {l.x, l.y, l.z, l.w}, right[4] = {r.x, r.y, r.z, r.w};
#pragma unroll
            for (int i = 0; i < 4; i++)
#pragma unroll
                for (int j = 0; j < 4; j++) sum[i][j] = fmaf(left[i], right[j], sum[i][j]);
        }
    }
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int j = 0; j < 4; j++) {
            const int row = row0 + ty + i, o = out0 + tx + j;
            if (row >= rows || o >= outs) continue;
            const size_t at = (size_t)row * outs + o;
            if (gridDim.z > 1) {
                partial[(size_t)blockIdx.z * rows * outs + at] = sum[i][j];
                continue;
            }
            const float y = activated(activation, sum[i][j] + (bias ? bias[o] : 0.f));
            out[at] = residual ? y + residual[at] : y;
        }
}
