// out = (a + b) · scale:  a, b, out [size]; scale as its bits
// grid (size / VEC / 256), 256 threads, one pack each.
// Bytes: 3 · size · 4. A few KB in a step: the floor is the launch.
extern "C" __global__ void __launch_bounds__(256)
add(const float* a, const float* b, float* out, int size, int scale) {
    LENGTH(0, size);
    LENGTH(1, scale);
    begin();
    const int index = blockIdx.x * 256 + threadIdx.x;
    if (index >= size / VEC) return;
    store(out, index, (load(a, index) + load(b, index)) * __int_as_float(scale));
}
