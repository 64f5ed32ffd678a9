// One new row of a causal convolution with its gated linear unit and residual, in one pass:
//   u = bias + Σ_k x[p-K+1+k] · W[k],  out = (u[..C] · sigmoid(u[C..]) + x[p]) · √½
// rows [batch, held, stride], weight [2C, K · C] with the tap the slower index, bias [2C], out [batch, 1, C]
// grid (C / 2, batch), 128 threads: a block makes two channels of four rows of the weight, as linear_one.
// Bytes: 2C · K · C · 4 of weights, once an entry (from L2 after the first). The floor of a step: these
// bytes at the bandwidth of the memory.
extern "C" __global__ void __launch_bounds__(128)
conv_glu(const Call* __restrict__ call, const float* __restrict__ rows, const float* __restrict__ weight,
         const float* __restrict__ bias, float* __restrict__ out, int held, int channels, int taps, int stride,
         int layout) {
    LENGTH(0, held);
    LENGTH(1, channels);
    LENGTH(2, taps);
    LENGTH(3, stride);
    LENGTH(4, layout);
    __shared__ float sums[4][4];
    const int first = blockIdx.x * 2, at = call->at, packs = channels / VEC;
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
        const int tap = k / packs, row = row_of(layout, held, at, 1, 0, taps - 1 - tap);
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
    const float value = (sums[0][j] + sums[1][j]) + (sums[2][j] + sums[3][j]) + bias[channel];
    const float gate =
        (sums[0][j + 2] + sums[1][j + 2]) + (sums[2][j + 2] + sums[3][j + 2]) + bias[channels + channel];
    const float residual = past[(size_t)row_of(layout, held, at, 1, 0, 0) * stride + channel];
    out[(size_t)blockIdx.y * channels + channel] = gated(value, gate, residual);
}
