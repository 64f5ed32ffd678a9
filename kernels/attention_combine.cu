// Makes one result of the spans that attention left:
// partial [batch · n, heads, splits, 2 + HEAD] -> out [batch · n, heads · HEAD]; splits at most 64
// grid (heads, batch · n), 128 threads: every warp weighs the spans, two a lane, and then groups of threads
// over the head take every so many spans. A span of which nothing was seen has sum 0; where all have, the
// result is zeros.
// Bytes: splits · (2 + HEAD) · 4 a head. Tens of KB in a step, from L2: the floor is the launch.
__device__ constexpr int columns_for(int n) { return n >= 128 ? 128 : n <= 1 ? 1 : 2 * columns_for((n + 1) / 2); }
constexpr int columns = columns_for(HEAD); // threads over the head
constexpr int groups = 128 / columns;

extern "C" __global__ void __launch_bounds__(128)
attention_combine(const float* __restrict__ partial, float* __restrict__ out, int heads, int splits) {
    LENGTH(0, heads);
    LENGTH(1, splits);
    __shared__ float weights[64], parts[groups][columns];
    const size_t head = (size_t)blockIdx.y * heads + blockIdx.x;
    const float* spans = partial + head * splits * (2 + HEAD);
    const int lane = threadIdx.x % 32;
    float top[2], sum[2];
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const int s = lane + 32 * i;
        top[i] = s < splits ? spans[s * (2 + HEAD)] : LOWEST;
        sum[i] = s < splits ? spans[s * (2 + HEAD) + 1] : 0.f;
    }
    const float all = warp_max(fmaxf(top[0], top[1]));
    const float weight[2] = {expf(top[0] - all), expf(top[1] - all)};
    const float total_sum = warp_sum(sum[0] * weight[0] + sum[1] * weight[1]);
    if (threadIdx.x < 32) weights[lane] = weight[0], weights[lane + 32] = weight[1];
    __syncthreads();

    const int column = threadIdx.x % columns, group = threadIdx.x / columns;
    for (int first = 0; first < HEAD; first += columns) {
        const int d = first + column;
        float x = 0.f;
        if (d < HEAD) {
#pragma unroll 4
            for (int s = group; s < splits; s += groups) x += spans[s * (2 + HEAD) + 2 + d] * weights[s];
        }
        if (groups > 1) { // then one round over the head is all
            parts[group][column] = x;
            __syncthreads();
            if (group > 0) return;
#pragma unroll
            for (int g = 1; g < groups; g++) x += parts[g][column];
        }
        if (d < HEAD) out[head * HEAD + d] = total_sum == 0.f ? 0.f : x / total_sum;
    }
}
