// Makes one result of the spans that attention_many left:
// partial [batch · n, heads, splits, 2 + HEAD] -> out [batch · n, heads · HEAD]; splits at most 64
// grid (heads, batch · n), 128 threads, as `combine` says.
// Bytes: splits · (2 + HEAD) · 4 a head. Tens of KB, from L2: the floor is the launch.
extern "C" __global__ void __launch_bounds__(128)
attention_combine(const float* partial, float* out, int heads, int splits) {
    LENGTH(0, heads);
    LENGTH(1, splits);
    begin();
    const size_t head = (size_t)blockIdx.y * heads + blockIdx.x;
    combine(partial + head * splits * (2 + HEAD), out + head * HEAD, splits);
}
