// The rows under the taps of many new rows, side by side: what turns a convolution into a product.
// rows [batch, held, stride] -> out [batch, n, K · C], the tap the slower index, zeros where there is no row, or padding
// grid (n · K · C / VEC / 256, batch), 256 threads, one pack each.
// Bytes: 2 · n · K · C · 4 an entry. The floor: these at the bandwidth of L2.
extern "C" __global__ void __launch_bounds__(256)
conv_window(const Call* call, const float* rows, float* out, int n,
            int held, int channels, int taps, int ahead, int stride, int layout) {
    LENGTH(0, n);
    LENGTH(1, held);
    LENGTH(2, channels);
    LENGTH(3, taps);
    LENGTH(4, ahead);
    LENGTH(5, stride);
    LENGTH(6, layout);
    begin();
    const int packs = channels / VEC, index = blockIdx.x * 256 + threadIdx.x;
    if (index >= n * taps * packs) return;
    const int column = index % packs, tap = index / packs % taps, i = index / packs / taps;
    const int start = call->left_padding[blockIdx.y];
    const int row = row_of(layout, held, call->at, start, n, i, taps - 1 - ahead - tap);
    const float* past = rows + (size_t)blockIdx.y * held * stride;
    store(out + (size_t)blockIdx.y * n * taps * channels, index,
          row < 0 ? zeros() : load(past + (size_t)row * stride, column));
}
