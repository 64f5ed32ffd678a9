// out[b] = x[order[b]]:  x [.., size], out [batch, size], order [batch] ints
// grid (size / VEC / 256, batch), 256 threads, one pack each.
// Bytes: 2 · batch · size · 4. The floor: these at the bandwidth of the memory.
extern "C" __global__ void __launch_bounds__(256)
gather_batch(const int* order, const float* x, float* out, int size) {
    LENGTH(0, size);
    begin();
    const int index = blockIdx.x * 256 + threadIdx.x;
    if (index >= size / VEC) return;
    store(out + (size_t)blockIdx.y * size, index, load(x + (size_t)order[blockIdx.y] * size, index));
}
