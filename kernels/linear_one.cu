// out = activation(x · weightᵀ + bias) (+ residual), for few rows of x: a matrix-vector product
// x [rows, inner], weight [outs, inner], bias [outs] or null, residual, out [rows, outs]; rows at most ROWS
// grid (outs / 4), 128 threads, a warp an output, where a row of the weight is short (up to WARP_INNER);
// grid (outs), 128 threads, all four warps an output, where it is long: a narrow layer then still has a
// block for each of its outputs (split-K within the block). AHEAD packs of weights are in flight a thread, the
// first of them and the bias asked for before the kernel ahead has ended: of rows up to 768 and, with four warps,
// 3072 numbers that is all of them. Each is read once for all rows of x, which come from L1 and L2.
// Bytes: outs · inner · 4 of weights. The floor of a step: these bytes at the bandwidth of the memory.
#define WARP_INNER 768
#define AHEAD 6

extern "C" __global__ void __launch_bounds__(128)
linear_one(const float* x, const float* __restrict__ weight, const float* __restrict__ bias, const float* residual,
           float* out, int rows, int inner, int outs, int activation) {
    LENGTH(0, rows);
    LENGTH(1, inner);
    LENGTH(2, outs);
    LENGTH(3, activation);
    __shared__ float sums[4][ROWS];
    const int warps = inner > WARP_INNER ? 4 : 1, threads = 32 * warps; // that share an output
    const int lane = threadIdx.x % threads, o = blockIdx.x * (4 / warps) + threadIdx.x / threads;
    const bool writes = lane < rows && o < outs; // thread r writes row r
    const size_t at = (size_t)lane * outs + o;
    const float* w = weight + (size_t)min(o, outs - 1) * inner;
    const int packs = inner / VEC;

    Pack weights[AHEAD];
    fetch(weights, w, lane, threads, packs);
    const float shift = writes && bias ? bias[o] : 0.f;
    begin();
    const float kept = writes && residual ? residual[at] : 0.f;
    float sum[ROWS] = {};
    for (int base = lane;;) {
#pragma unroll
        for (int a = 0; a < AHEAD; a++) {
            const int k = min(base + a * threads, packs - 1); // past the end: some number times zero
#pragma unroll
            for (int r = 0; r < ROWS; r++)
                sum[r] = dot(weights[a], load(x + (size_t)min(r, rows - 1) * inner, k), sum[r]);
        }
        base += AHEAD * threads;
        if (base >= packs) break;
        fetch(weights, w, base, threads, packs);
    }

    float mine = 0.f;
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        sum[r] = warp_sum(sum[r]);
        if (lane == r) mine = sum[r];
        if (warps > 1 && threadIdx.x % 32 == 0) sums[threadIdx.x / 32][r] = sum[r];
    }
    if (warps > 1) { // so for the whole grid
        __syncthreads();
        if (lane < ROWS) mine = (sums[0][lane] + sums[1][lane]) + (sums[2][lane] + sums[3][lane]);
    }
    if (!writes) return;
    const float y = activated(activation, mine + shift);
    out[at] = residual ? y + kept : y;
}
