// out[i] = a number from -1 to 1 that follows from i: data to read, when it must be neither equal nor sent there
// out [packs]
// grid (blocks), 256 threads, each strides over the buffer. Bytes: packs · 4 VEC.
extern "C" __global__ void __launch_bounds__(256)
fill_random(float* out, int packs) {
    LENGTH(0, packs);
    begin();
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < packs; i += gridDim.x * blockDim.x)
#pragma unroll
        for (int k = 0; k < VEC; ++k) out[(size_t)VEC * i + k] = random_number((unsigned)VEC * i + k);
}
