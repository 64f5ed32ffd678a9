// out = activation(norm(x) · weightᵀ + bias) (+ residual), for few rows of x that are short: norm_rows and linear_one
// in one
// x [rows, inner], gain [inner], shift [inner] or null (then by the root mean square), weight [outs, inner], bias
// [outs] or null, residual, out [rows, outs]; inner at most 768, rows at most 32, eps as its bits
// grid (outs / 4), 128 threads, a warp an output. What does not depend on x is worked out before the kernel ahead
// has ended: weight · gain, which stays in registers, and Σ weight · shift. Then
//   norm(x) · w = Σ (x - mean) · (w · gain) / √(var + eps) + Σ w · shift
// and x, of which every warp makes its own mean and variance, is read once.
// Bytes: outs · inner · 4 of weights. The floor of a step: these bytes at the bandwidth of the memory.
#define PACKS (768 / 32 / VEC) // in a lane

extern "C" __global__ void __launch_bounds__(128)
linear_normed(const float* x, const float* __restrict__ gain, const float* __restrict__ shift,
              const float* __restrict__ weight, const float* __restrict__ bias, const float* residual, float* out,
              int rows, int inner, int outs, int activation, int eps) {
    LENGTH(0, rows);
    LENGTH(1, inner);
    LENGTH(2, outs);
    LENGTH(3, activation);
    LENGTH(4, eps);
    const int lane = threadIdx.x % 32, o = blockIdx.x * 4 + threadIdx.x / 32, packs = inner / VEC;
    const bool writes = lane < rows && o < outs; // lane r writes row r
    const size_t at = (size_t)lane * outs + o;
    Pack w[PACKS], other[PACKS];
    fetch(w, weight + (size_t)min(o, outs - 1) * inner, lane, 32, packs);
    float constant = 0.f;
    if (shift) {
        fetch(other, shift, lane, 32, packs);
#pragma unroll
        for (int a = 0; a < PACKS; a++) constant = dot(w[a], other[a], constant);
    }
    fetch(other, gain, lane, 32, packs);
#pragma unroll
    for (int a = 0; a < PACKS; a++) w[a] = w[a] * other[a];
    constant = warp_sum(constant) + (writes && bias ? bias[o] : 0.f);
    begin();

    const float kept = writes && residual ? residual[at] : 0.f;
    float mine = 0.f;
#pragma unroll 1
    for (int r = 0; r < rows; r++) {
        fetch(other, x + (size_t)r * inner, lane, 32, packs);
        float mean = 0.f;
        if (shift) {
#pragma unroll
            for (int a = 0; a < PACKS; a++) mean += total(other[a]);
            mean = warp_sum(mean) / inner;
        }
        float sum = 0.f, squares = 0.f;
#pragma unroll
        for (int a = 0; a < PACKS; a++) {
            const Pack d = select(lane + 32 * a < packs, other[a] - mean);
            sum = dot(w[a], d, sum);
            squares = dot(d, d, squares);
        }
        sum = warp_sum(sum), squares = warp_sum(squares);
        if (lane == r) mine = sum / sqrtf(squares / inner + __int_as_float(eps));
    }
    if (!writes) return;
    const float y = activated(activation, mine + constant);
    out[at] = residual ? y + kept : y;
}
