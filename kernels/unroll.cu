// The `keep` rows before position `at` of a ring or a queue, oldest first, then new:
// past [batch, held, past_stride], new [batch, n, stride], out [batch, keep + n, width]; zeros before position 0,
// padding moved like any row
// grid ((keep + n) · width / VEC / 256, batch), 256 threads, one pack each.
// Bytes: 2 · (keep + n) · width · 4 an entry. The floor: these at the bandwidth of L2.
extern "C" __global__ void __launch_bounds__(256)
unroll(const Call* call, const float* past, const float* fresh,
       float* out, int keep, int held, int n, int width, int past_stride, int stride, int layout) {
    LENGTH(0, keep);
    LENGTH(1, held);
    LENGTH(2, n);
    LENGTH(3, width);
    LENGTH(4, past_stride);
    LENGTH(5, stride);
    LENGTH(6, layout);
    begin();
    const int packs = width / VEC, index = blockIdx.x * 256 + threadIdx.x;
    const int row = index / packs, column = index % packs;
    if (row >= keep + n) return;
    const size_t entry = blockIdx.y;
    Pack x = zeros();
    if (row >= keep) {
        x = load(fresh + (entry * n + row - keep) * stride, column);
    } else {
        const int from = row_of(layout, held, call->at, 0, 0, 0, keep - row);
        if (from >= 0) x = load(past + (entry * held + from) * past_stride, column);
    }
    store(out + entry * (keep + n) * width, index, x);
}
