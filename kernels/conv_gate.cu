// out = u[..C] · sigmoid(u[C..]) for many rows; with a window (that + x) · √½, x the row under its tap `own`
// u [rows, 2C], window [rows, K · C] or null, out [rows, C]
// grid (C / 256, rows), 256 threads. Bytes: 4 · rows · C · 4. The floor: these at the bandwidth of L2.
extern "C" __global__ void __launch_bounds__(256)
conv_gate(const float* u, const float* window, float* out, int channels,
          int taps, int own) {
    LENGTH(0, channels);
    LENGTH(1, taps);
    LENGTH(2, own);
    begin();
    const int channel = blockIdx.x * 256 + threadIdx.x;
    const size_t row = blockIdx.y;
    if (channel >= channels) return;
    const float y = gated(u[row * 2 * channels + channel], u[(row * 2 + 1) * channels + channel]);
    out[row * channels + channel] =
        window ? (y + window[(row * taps + own) * channels + channel]) * ROOT_HALF : y;
}
