// out = silu(x[..F]) ⊙ x[F..], each row by itself
// x [rows, 2F], out [rows, F]
// grid (rows · F / VEC / 256), 256 threads, one pack each.
// Bytes: 3 · rows · F · 4. A few KB in a step: the floor is the launch.
extern "C" __global__ void __launch_bounds__(256)
swiglu(const float* x, float* out, int rows, int width) {
    LENGTH(0, rows);
    LENGTH(1, width);
    begin();
    const int packs = width / VEC, index = blockIdx.x * 256 + threadIdx.x;
    if (index >= rows * packs) return;
    const float* row = x + (size_t)(index / packs) * 2 * width;
    store(out, index, silu_of(load(row, index % packs)) * load(row + width, index % packs));
}
