// out[block] = the sum of the numbers that the block read: nothing is done with them but that they are read
// x [packs]; out [blocks]
// grid (blocks), 256 threads; each strides over the buffer, four packs in flight, `passes` times. Read past the
// first-level cache, in which a second pass would find what the first left there.
// Bytes: passes · packs · 4 VEC. This is the floor that the other kernels are held against.
__device__ inline Pack load_past_l1(const float* x, int i) { return __ldcg(reinterpret_cast<const Pack*>(x) + i); }

extern "C" __global__ void __launch_bounds__(256)
ceiling_read(const float* x, float* out, int packs, int passes) {
    LENGTH(0, packs);
    LENGTH(1, passes);
    begin();
    const int stride = gridDim.x * blockDim.x;
    Pack sums[4] = {zeros(), zeros(), zeros(), zeros()};
    for (int pass = 0; pass < passes; ++pass) {
        int i = blockIdx.x * blockDim.x + threadIdx.x;
        for (; i + 3 * stride < packs; i += 4 * stride) {
            const Pack a = load_past_l1(x, i), b = load_past_l1(x, i + stride);
            const Pack c = load_past_l1(x, i + 2 * stride), d = load_past_l1(x, i + 3 * stride);
            sums[0] = sums[0] + a;
            sums[1] = sums[1] + b;
            sums[2] = sums[2] + c;
            sums[3] = sums[3] + d;
        }
        for (; i < packs; i += stride) sums[0] = sums[0] + load_past_l1(x, i);
    }
    const float sum = block_sum(total((sums[0] + sums[1]) + (sums[2] + sums[3])));
    if (threadIdx.x == 0) out[blockIdx.x] = sum;
}
