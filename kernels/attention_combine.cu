// Makes one result of the spans that attention left:
// partial [batch · n, heads, splits, 2 + HEAD] -> out [batch · n, heads · HEAD]
// grid (heads, batch · n), 64 threads over the head. A span of which nothing was seen has sum 0; where all
// have, the result is zeros.
// Bytes: splits · (2 + HEAD) · 4 a head. Tens of KB in a step, from L2: the floor is the launch.
extern "C" __global__ void __launch_bounds__(64)
attention_combine(const float* __restrict__ partial, float* __restrict__ out, int heads, int splits) {
    LENGTH(0, heads);
    LENGTH(1, splits);
    const size_t head = (size_t)blockIdx.y * heads + blockIdx.x;
    const float* spans = partial + head * splits * (2 + HEAD);
    float top = LOWEST;
    for (int s = 0; s < splits; s++) top = fmaxf(top, spans[s * (2 + HEAD)]);
    float sum = 0.f;
    for (int s = 0; s < splits; s++) sum += spans[s * (2 + HEAD) + 1] * expf(spans[s * (2 + HEAD)] - top);
    for (int d = threadIdx.x; d < HEAD; d += blockDim.x) {
        float x = 0.f;
#pragma unroll 4
        for (int s = 0; s < splits; s++) x += spans[s * (2 + HEAD) + 2 + d] * expf(spans[s * (2 + HEAD)] - top);
        out[head * HEAD + d] = sum == 0.f ? 0.f : x / sum;
    }
}
