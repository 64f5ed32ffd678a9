// One new row of a convolution with its gated linear unit, in one pass:
//   u = bias + Σ_k x[p-K+1+k+ahead] · W[k],  y = u[..C] · sigmoid(u[C..]),  with a residual (y + x[p]) · √½
// rows [batch, held, stride], weight [2C, K · C] with the tap the slower index, bias [2C] or null, out [batch, 1, C]
// grid (C / 2, batch), 128 threads: a block makes two channels of four rows of the weight, as linear_one.
// Bytes: 2C · K · C · 4 of weights, once an entry (from L2 after the first). The floor of a step: these
// bytes at the bandwidth of the memory.
extern "C" __global__ void __launch_bounds__(128)
conv_glu(const Call* call, const float* rows, const float* __restrict__ weight,
         const float* __restrict__ bias, float* out, int held, int channels, int taps, int ahead,
         int residual, int stride, int layout) {
    LENGTH(0, held);
    LENGTH(1, channels);
    LENGTH(2, taps);
    LENGTH(3, ahead);
    LENGTH(4, residual);
    LENGTH(5, stride);
    LENGTH(6, layout);
    begin();
    __shared__ float sums[4][4];
    const int first = blockIdx.x * 2, at = call->at, start = call->left_padding[blockIdx.y], packs = channels / VEC;
    const float* past = rows + (size_t)blockIdx.y * held * stride;
    const float* w[4];
    float sum[4];
#pragma unroll
    for (int j = 0; j < 4; j++) {
        const int channel = min(first + j % 2, channels - 1);
        w[j] = weight + (size_t)(j < 2 ? channel : channels + channel) * taps * channels;
        sum[j] = 0.f;
    }
#pragma unroll 2
    for (int k = threadIdx.x; k < taps * packs; k += 128) {
        const int tap = k / packs, row = row_of(layout, held, at, start, 1, 0, taps - 1 - ahead - tap);
        const Pack x = row < 0 ? zeros() : load(past + (size_t)row * stride, k - tap * packs);
#pragma unroll
        for (int j = 0; j < 4; j++) sum[j] = dot(load(w[j], k), x, sum[j]);
    }
#pragma unroll
    for (int j = 0; j < 4; j++) {
        sum[j] = warp_sum(sum[j]);
        if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32][j] = sum[j];
    }
    __syncthreads();
    const int j = threadIdx.x, channel = first + j;
    if (j >= 2 || channel >= channels) return;
    float value = (sums[0][j] + sums[1][j]) + (sums[2][j] + sums[3][j]);
    float gate = (sums[0][j + 2] + sums[1][j + 2]) + (sums[2][j + 2] + sums[3][j + 2]);
    if (bias) value += bias[channel], gate += bias[channels + channel];
    float y = gated(value, gate);
    if (residual) {
        const int own = row_of(layout, held, at, start, 1, 0, 0);
        y = (y + (own < 0 ? 0.f : past[(size_t)own * stride + channel])) * ROOT_HALF;
    }
    out[(size_t)blockIdx.y * channels + channel] = y;
}
