// out[b] = past[b], then rows of zeros:  past [batch, held, width], out [batch, rows, width]
// grid (rows · width / VEC / 256, batch), 256 threads, one pack each.
// Bytes: (held + rows) · width · 4 an entry. The floor: these at the bandwidth of the memory.
extern "C" __global__ void __launch_bounds__(256)
grow(const float* past, float* out, int held, int rows, int width) {
    LENGTH(0, held);
    LENGTH(1, rows);
    LENGTH(2, width);
    begin();
    const int packs = width / VEC, index = blockIdx.x * 256 + threadIdx.x;
    if (index >= rows * packs) return;
    const size_t entry = blockIdx.y;
    store(out + entry * rows * width, index,
          index < held * packs ? load(past + entry * held * width, index) : zeros());
}
