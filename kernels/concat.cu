// out[b] = the last `keep` rows of past[b], then new[b] without its first `skip` rows
// past [batch, held, width] or null, new [batch, n, stride], out [batch, keep + n - skip, width]
// grid (rows · width / VEC / 256, batch), 256 threads, one pack each.
// Bytes: 2 · (keep + n - skip) · width · 4 an entry. The floor: these at the bandwidth of the memory.
extern "C" __global__ void __launch_bounds__(256)
concat(const float* past, const float* fresh, float* out, int held,
       int keep, int n, int skip, int width, int stride) {
    LENGTH(0, held);
    LENGTH(1, keep);
    LENGTH(2, n);
    LENGTH(3, skip);
    LENGTH(4, width);
    LENGTH(5, stride);
    begin();
    const int packs = width / VEC, rows = keep + n - skip, index = blockIdx.x * 256 + threadIdx.x;
    if (index >= rows * packs) return;
    const int row = index / packs, column = index % packs;
    const size_t entry = blockIdx.y;
    const float* from = row < keep ? past + (entry * held + held - keep + row) * width
                                   : fresh + (entry * n + skip + row - keep) * stride;
    store(out + entry * rows * width, index, load(from, column));
}
