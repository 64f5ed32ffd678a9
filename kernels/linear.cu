// out = activation(x · weightᵀ + bias) (+ residual), for many rows of x: a tiled matrix product
// x [rows, inner], weight [outs, inner], bias [outs] or null, residual, out [rows, outs]
// grid (outs / 128, rows / 64, splits), 128 threads: a block makes a tile of 64 rows × 128 outs, a thread 8 × 8 of it
// in registers, from slices of 16 in two buffers of shared memory; the next slice is on its way while one is
// worked on. Where tiles are too few for the device, each goes over `part` of inner alone (a multiple of a
// slice), and its sums go to partial [splits, rows, outs], for linear_combine.
// FLOPs: 2 · rows · outs · inner; bytes: each weight once for 64 rows of x, and with splits twice the partial
// sums. The floor is arithmetic from a few dozen rows on: a thread reads 16 numbers from shared memory for 64
// multiplications, as fast as the one can be read and the others done.
#define SLICE 16
#define ROW_TILE 64
#define OUT_TILE 128

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

// A thread's eight numbers of a slice lie in two groups of four, `apart` from each other: neighbouring threads then
// read neighbouring groups.
__device__ inline void eight(const float* from, int apart, float (&to)[8]) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const float4 x = *reinterpret_cast<const float4*>(from + half * apart);
        to[4 * half] = x.x, to[4 * half + 1] = x.y, to[4 * half + 2] = x.z, to[4 * half + 3] = x.w;
    }
}

extern "C" __global__ void __launch_bounds__(128, 3)
linear(const float* x, const float* __restrict__ weight, const float* __restrict__ bias, const float* residual,
       float* partial, float* out, int rows, int inner, int outs, int activation, int part) {
    LENGTH(0, rows);
    LENGTH(1, inner);
    LENGTH(2, outs);
    LENGTH(3, activation);
    LENGTH(4, part);
    begin();
    __shared__ __align__(16) float xs[2][SLICE][ROW_TILE + 4], ws[2][SLICE][OUT_TILE + 4];
    const int row0 = blockIdx.y * ROW_TILE, out0 = blockIdx.x * OUT_TILE;
    const int from = threadIdx.x / 4, k4 = threadIdx.x % 4 * 4;     // what this thread fetches, and every 32nd row after
    const int tx = threadIdx.x % 16 * 4, ty = threadIdx.x / 16 * 4; // what it computes
    float sum[8][8] = {};
    const int first = blockIdx.z * part, end = min(first + part, inner);
    float4 a[ROW_TILE / 32], b[OUT_TILE / 32];
    const auto fetch = [&](int k) {
#pragma unroll
        for (int i = 0; i < ROW_TILE / 32; i++) a[i] = four(x, row0 + from + 32 * i, rows, k + k4, end, inner);
#pragma unroll
        for (int i = 0; i < OUT_TILE / 32; i++) b[i] = four(weight, out0 + from + 32 * i, outs, k + k4, end, inner);
    };
    fetch(first);
    int buffer = 0;
    for (int k = first; k < end; k += SLICE, buffer ^= 1) {
#pragma unroll
        for (int i = 0; i < ROW_TILE / 32; i++) {
            float(*to)[ROW_TILE + 4] = xs[buffer] + k4;
            to[0][from + 32 * i] = a[i].x, to[1][from + 32 * i] = a[i].y;
            to[2][from + 32 * i] = a[i].z, to[3][from + 32 * i] = a[i].w;
        }
#pragma unroll
        for (int i = 0; i < OUT_TILE / 32; i++) {
            float(*to)[OUT_TILE + 4] = ws[buffer] + k4;
            to[0][from + 32 * i] = b[i].x, to[1][from + 32 * i] = b[i].y;
            to[2][from + 32 * i] = b[i].z, to[3][from + 32 * i] = b[i].w;
        }
        __syncthreads(); // all have also done with the other buffer, which is filled next
        fetch(k + SLICE);
#pragma unroll
        for (int s = 0; s < SLICE; s++) {
            float left[8], right[8];
            eight(&xs[buffer][s][ty], ROW_TILE / 2, left);
            eight(&ws[buffer][s][tx], OUT_TILE / 2, right);
#pragma unroll
            for (int i = 0; i < 8; i++)
#pragma unroll
                for (int j = 0; j < 8; j++) sum[i][j] = fmaf(left[i], right[j], sum[i][j]);
        }
    }
#pragma unroll
    for (int i = 0; i < 8; i++)
#pragma unroll
        for (int j = 0; j < 8; j++) {
            const int row = row0 + ty + i % 4 + i / 4 * (ROW_TILE / 2), o = out0 + tx + j % 4 + j / 4 * (OUT_TILE / 2);
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
