// out[b] = index of the largest number in the first row of x[b], ties to the lowest index
// x [batch, rows, width], out [batch] ints
// grid (batch), 1024 threads. Bytes: width · 4 an entry: the floor is one multiprocessor's share of L2.
__device__ inline void keep_larger(float& value, int& index, float other, int other_index) {
    if (other > value || (other == value && other_index < index)) value = other, index = other_index;
}

extern "C" __global__ void __launch_bounds__(1024)
argmax(const float* x, int* out, int rows, int width) {
    LENGTH(0, rows);
    LENGTH(1, width);
    begin();
    __shared__ float values[32];
    __shared__ int indices[32];
    const float* row = x + (size_t)blockIdx.x * rows * width;
    float value = LOWEST;
    int index = 0x7fffffff;
    for (int c = threadIdx.x; c < width; c += blockDim.x) keep_larger(value, index, row[c], c);
    for (int pass = 0; pass < 2; pass++) { // within each warp, then the warps' results
        for (int mask = 16; mask > 0; mask /= 2) {
            const float other = __shfl_xor_sync(FULL, value, mask);
            keep_larger(value, index, other, __shfl_xor_sync(FULL, index, mask));
        }
        if (pass == 0) {
            if (threadIdx.x % 32 == 0) values[threadIdx.x / 32] = value, indices[threadIdx.x / 32] = index;
            __syncthreads();
            value = LOWEST, index = 0x7fffffff;
            const int warps = blockDim.x / 32;
            if (threadIdx.x % 32 < warps) value = values[threadIdx.x % 32], index = indices[threadIdx.x % 32];
        }
    }
    if (threadIdx.x == 0) out[blockIdx.x] = index < width ? index : 0;
}
