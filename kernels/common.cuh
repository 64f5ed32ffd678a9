// What every kernel shares. A kernel is compiled from this file followed by its own, with
//   VEC      4 when every width and offset is a multiple of 4 (16-byte loads and stores), otherwise 1;
//   HEAD     numbers of an attention head, for the kernels that keep a head in registers;
//   ROWS     the most rows that are worked on at once, for the kernel that keeps a sum for each;
//   LENGTHS  all run-time lengths in the order of the parameters, when they are compiled in.
// Arguments: first the pointers, then the lengths, all `int`; a number that is none, an epsilon or a
// scale, is passed as its bits. What changes between two steps of one shape is in `Call`, on the
// device, so that a captured graph serves every step.
#pragma once

struct Call {
    int at;        // index of the first new row
    int last;      // which new row the logits are wanted of
    int left_padding[1]; // [batch]: rows before are padding; then the tokens, [batch, n]
};

// Fixes the i-th length at its compiled-in value, where there is one.
#ifdef LENGTHS
__device__ constexpr int fixed_length(int i) {
    constexpr int lengths[] = {LENGTHS};
    return lengths[i];
}
#define LENGTH(i, x)                          \
    constexpr int fixed_##x = fixed_length(i); \
    x = fixed_##x
#else
#define LENGTH(i, x) (void)0
#endif

// With programmatic dependent launch a kernel starts while the one before it still runs. What kernels write is
// loaded and stored after `begin` alone, which waits for the end of that one, and lets the next one start. Constants
// may be loaded before: their pointers are `const __restrict__`, and no others, for the compiler takes it as leave
// to load early.
__device__ inline void begin() {
#if __CUDA_ARCH__ >= 900 && defined(__CUDACC_VER_MAJOR__) // a stand-in for NVRTC knows no PTX
    asm volatile("griddepcontrol.launch_dependents;\n\tgriddepcontrol.wait;" ::: "memory");
#endif
}

#define FULL 0xffffffffu
#define LOWEST -3.402823466e38f

// VEC numbers side by side, moved by one instruction.
#if VEC == 4
typedef float4 Pack;
__device__ inline Pack zeros() { return make_float4(0.f, 0.f, 0.f, 0.f); }
__device__ inline Pack operator+(Pack a, Pack b) { return make_float4(a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w); }
__device__ inline Pack operator*(Pack a, Pack b) { return make_float4(a.x * b.x, a.y * b.y, a.z * b.z, a.w * b.w); }
__device__ inline Pack operator-(Pack a, Pack b) { return make_float4(a.x - b.x, a.y - b.y, a.z - b.z, a.w - b.w); }
__device__ inline Pack operator-(Pack a, float b) { return make_float4(a.x - b, a.y - b, a.z - b, a.w - b); }
__device__ inline Pack operator*(Pack a, float b) { return make_float4(a.x * b, a.y * b, a.z * b, a.w * b); }
__device__ inline float total(Pack a) { return (a.x + a.y) + (a.z + a.w); }
// sum + a · b
__device__ inline float dot(Pack a, Pack b, float sum) {
    return fmaf(a.w, b.w, fmaf(a.z, b.z, fmaf(a.y, b.y, fmaf(a.x, b.x, sum))));
}
__device__ inline Pack select(bool wanted, Pack a) {
    return make_float4(wanted ? a.x : 0.f, wanted ? a.y : 0.f, wanted ? a.z : 0.f, wanted ? a.w : 0.f);
}
__device__ inline Pack from_lane(Pack a, int mask) {
    return make_float4(__shfl_xor_sync(FULL, a.x, mask), __shfl_xor_sync(FULL, a.y, mask),
                       __shfl_xor_sync(FULL, a.z, mask), __shfl_xor_sync(FULL, a.w, mask));
}
#else
typedef float Pack;
__device__ inline Pack zeros() { return 0.f; }
__device__ inline float total(Pack a) { return a; }
__device__ inline float dot(Pack a, Pack b, float sum) { return fmaf(a, b, sum); }
__device__ inline Pack select(bool wanted, Pack a) { return wanted ? a : 0.f; }
__device__ inline Pack from_lane(Pack a, int mask) { return __shfl_xor_sync(FULL, a, mask); }
#endif

// A number from -1 to 1 that follows from i: the hash `lowbias32` (github.com/skeeto/hash-prospector).
__device__ inline float random_number(unsigned i) {
    i = (i ^ (i >> 16)) * 0x7feb352du;
    i = (i ^ (i >> 15)) * 0x846ca68bu;
    return (float)(int)(i ^ (i >> 16)) * 4.656612873e-10f; // 2^-31
}

// x · sigmoid(x)
__device__ inline float silu_of(float x) { return x / (1.f + expf(-x)); }
#if VEC == 4
__device__ inline Pack silu_of(Pack a) { return make_float4(silu_of(a.x), silu_of(a.y), silu_of(a.z), silu_of(a.w)); }
#endif

// The pack that is `i` packs into a row.
__device__ inline Pack load(const float* row, int i) { return reinterpret_cast<const Pack*>(row)[i]; }
__device__ inline void store(float* row, int i, Pack x) { reinterpret_cast<Pack*>(row)[i] = x; }

// Of a row of `packs` the packs from `first` on, every `step`-th; zeros behind the last.
template <int N>
__device__ inline void fetch(Pack (&to)[N], const float* row, int first, int step, int packs) {
#pragma unroll
    for (int a = 0; a < N; a++) to[a] = first + a * step < packs ? load(row, first + a * step) : zeros();
}

__device__ inline float warp_sum(float x) {
    for (int mask = 16; mask > 0; mask /= 2) x += __shfl_xor_sync(FULL, x, mask);
    return x;
}

__device__ inline float warp_max(float x) {
    for (int mask = 16; mask > 0; mask /= 2) x = fmaxf(x, __shfl_xor_sync(FULL, x, mask));
    return x;
}

// The sum over a block of up to 1024 threads, a multiple of 32, known to all of them.
__device__ inline float block_sum(float x) {
    __shared__ float sums[32];
    x = warp_sum(x);
    __syncthreads(); // the sums of the call before have been read
    if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = x;
    __syncthreads();
    return warp_sum(threadIdx.x % 32 < blockDim.x / 32 ? sums[threadIdx.x % 32] : 0.f);
}

#ifdef HEAD
// What a head's result is, from the spans that blocks of 128 threads left of it: spans [splits, 2 + HEAD], each its
// maximum, its sum and its unnormalised product; out [HEAD]; splits at most 64. Every warp weighs the spans, two a
// lane, and then groups of threads over the head take every so many. A span of which nothing was seen has sum 0;
// where all have, the result is zeros. Read from L2, where the other blocks' stores are.
__device__ constexpr int columns_for(int n) { return n >= 128 ? 128 : n <= 1 ? 1 : 2 * columns_for((n + 1) / 2); }

__device__ inline void combine(const float* spans, float* out, int splits) {
    constexpr int columns = columns_for(HEAD), groups = 128 / columns; // threads over the head
    __shared__ float weights[64], parts[groups][columns];
    const int lane = threadIdx.x % 32;
    float top[2], sum[2];
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const int s = lane + 32 * i;
        top[i] = s < splits ? __ldcg(spans + s * (2 + HEAD)) : LOWEST;
        sum[i] = s < splits ? __ldcg(spans + s * (2 + HEAD) + 1) : 0.f;
    }
    const float all = warp_max(fmaxf(top[0], top[1]));
    const float weight[2] = {expf(top[0] - all), expf(top[1] - all)};
    const float total_sum = warp_sum(sum[0] * weight[0] + sum[1] * weight[1]);
    if (threadIdx.x < 32) weights[lane] = weight[0], weights[lane + 32] = weight[1];
    __syncthreads();

    const int column = threadIdx.x % columns, group = threadIdx.x / columns;
    for (int first = 0; first < HEAD; first += columns) {
        const int d = first + column;
        float x = 0.f;
        if (d < HEAD) {
#pragma unroll 4
            for (int s = group; s < splits; s += groups) x += __ldcg(spans + s * (2 + HEAD) + 2 + d) * weights[s];
        }
        if (groups > 1) { // then one round over the head is all
            parts[group][column] = x;
            __syncthreads();
            if (group > 0) return;
#pragma unroll
            for (int g = 1; g < groups; g++) x += parts[g][column];
        }
        if (d < HEAD) out[d] = total_sum == 0.f ? 0.f : x / total_sum;
    }
}
#endif

// What a dense layer does to its sums; the numbers are those of the Rust enum `Activation`.
enum { NONE = 0, GELU = 1, RELU = 2, SILU = 3, GELU_ERF = 4 };

__device__ inline float activated(int activation, float x) {
    // GPT-2's tanh approximation of the Gaussian error linear unit
    if (activation == GELU) return 0.5f * x * (1.f + tanhf(0.7978845608028654f * (x + 0.044715f * x * x * x)));
    if (activation == RELU) return fmaxf(x, 0.f);
    if (activation == GELU_ERF) return 0.5f * x * (1.f + erff(0.7071067811865476f * x));
    return activation == SILU ? silu_of(x) : x;
}

// The gated linear unit.
__device__ inline float gated(float value, float gate) { return value / (1.f + expf(-gate)); }

#define ROOT_HALF 0.70710678118654752f

// How positions lie in rows; the numbers are those of the Rust enum `Layout`.
enum { TAIL = 0, BOUNDED = 1, MASKED = 2, RING = 3 };

// The row that holds position at + i - back, where n rows are new and those before `start` are padding;
// negative where there is none. With TAIL the last n of `held` rows are the new ones.
__device__ inline int row_of(int layout, int held, int at, int start, int n, int i, int back) {
    const int position = at + i - back;
    if (position < start || i - back >= n) return -1;
    if (layout == TAIL) return held + i - n - back;
    return layout == RING ? position % held : position;
}
