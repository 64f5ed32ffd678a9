// out[block] = the sum of the numbers that the block read: nothing is done with them but that they are read
// x [size]; out [blocks]
// grid (blocks), 256 threads; each strides over the buffer, four packs in flight.
// Bytes: size · 4. This is the floor that the other kernels are held against.
extern "C" __global__ void __launch_bounds__(256)
ceiling_read(const float* __restrict__ x, float* __restrict__ out, int size) {
    LENGTH(0, size);
    const int packs = size / VEC, stride = gridDim.x * blockDim.x;
    Pack sums[4] = {zeros(), zeros(), zeros(), zeros()};
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    for (; i + 3 * stride < packs; i += 4 * stride) {
        const Pack a = load(x, i), b = load(x, i + stride), c = load(x, i + 2 * stride), d = load(x, i + 3 * stride);
        sums[0] = sums[0] + a;
        sums[1] = sums[1] + b;
        sums[2] = sums[2] + c;
        sums[3] = sums[3] + d;
    }
    for (; i < packs; i += stride) sums[0] = sums[0] + load(x, i);
    const float sum = block_sum(total((sums[0] + sums[1]) + (sums[2] + sums[3])));
    if (threadIdx.x == 0) out[blockIdx.x] = sum;
}
