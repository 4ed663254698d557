// What the linear layers and the LM head for few rows share: how a warp holds weights and x.
//
// A lane takes 8 consecutive k of one weight row (16 bytes, so a warp's load covers 8 rows x 64 bytes) and
// the same 8 k of one or two rows of x: the products' k order is permuted, the same way on both sides.
#ifndef CUDA_SKINNY_CUH
#define CUDA_SKINNY_CUH

#include "cuda/device.cuh"
#include "cuda/launch.cuh"
#include "cuda/mma.cuh"
#include "cuda/skinny.h"

#include <math.h>

constexpr int SKINNY_LANE_K = 8;   // k a lane holds of one row
constexpr int SKINNY_BLOCK_K = 32; // k a warp covers with one load: 4 lanes per row

// One load of weights: read once, by this lane alone. Deliberately not a read-only (nc) load: those the
// compiler may sink below dependency_wait(), and then nothing is prefetched.
__device__ inline uint4 load_streaming(const void *address) {
    uint4 value;
    asm volatile("ld.global.L1::no_allocate.L2::128B.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
                 : "l"(address)
                 : "memory");
    return value;
}

// The a operands of the two products that cover SKINNY_BLOCK_K: words 0..3 of row g and of row g + 8.
struct skinny_fragment {
    uint32_t low[4], high[4];
};

template <typename T>
__device__ inline void multiply(float (&sum)[4], const skinny_fragment &x, const uint4 &w) {
    const uint32_t first[4] = {x.low[0], x.high[0], x.low[1], x.high[1]};
    const uint32_t second[4] = {x.low[2], x.high[2], x.low[3], x.high[3]};
    mma_16x8x16<T>(sum, first, w.x, w.y);
    mma_16x8x16<T>(sum, second, w.z, w.w);
}

// Elements between normalised rows in shared memory: two rows' 64-byte pieces fall into different banks.
__host__ __device__ constexpr int skinny_row_stride(int K) {
    return K + 32;
}

// ---- LayerNorm of rows of x (B, K) by one block, from f32 into T, rows skinny_row_stride(K) apart
//
// Every line of x is read once per block. (With every warp reading its own slice of every row, the few lines
// that hold x are asked for by all warps of the device at once, and their L2 slices serve them one by one:
// measured 3000 to 5000 cycles instead of 2000.)

// Mean and 1 / standard deviation.
__device__ inline float2 skinny_stats(float sum, float squares, float epsilon, int K) {
    const float mean = sum / (float)K;
    return make_float2(mean, rsqrtf(fmaxf(squares / (float)K - mean * mean, 0.0f) + epsilon));
}

template <typename T>
__device__ inline void normalise_vector(T *out, float4 v, float2 stats, const float *gain,
                                        const float *offset) {
    const float4 w = *reinterpret_cast<const float4 *>(gain), b = *reinterpret_cast<const float4 *>(offset);
    const uint2 words = {
        pack_pair<T>((v.x - stats.x) * stats.y * w.x + b.x, (v.y - stats.x) * stats.y * w.y + b.y),
        pack_pair<T>((v.z - stats.x) * stats.y * w.z + b.z, (v.w - stats.x) * stats.y * w.w + b.w)};
    *reinterpret_cast<uint2 *>(out) = words;
}

__device__ inline float sum_of(float4 v) {
    return (v.x + v.y) + (v.z + v.w);
}
__device__ inline float sum_of_squares(float4 v) {
    return (v.x * v.x + v.y * v.y) + (v.z * v.z + v.w * v.w);
}

// One warp a row. A lane keeps VECTORS x 4 values, VECTORS >= K / 128. Ends with a block barrier.
template <typename T, int VECTORS>
__device__ inline void normalise_rows(T *out, const float *x, const float *gain, const float *offset,
                                      float epsilon, int B, int K) {
    const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, warps = blockDim.x / WARP;
    for (int b = warp; b < B; b += warps) {
        float4 v[VECTORS];
        float sum = 0, squares = 0;
#pragma unroll
        for (int i = 0; i < VECTORS; i++) {
            const int k = (i * WARP + lane) * 4;
            v[i] = k < K ? __ldcg(reinterpret_cast<const float4 *>(x + (size_t)b * K + k))
                         : make_float4(0, 0, 0, 0);
        }
#pragma unroll
        for (int i = 0; i < VECTORS; i++) {
            sum += sum_of(v[i]);
            squares += sum_of_squares(v[i]);
        }
        const float2 stats = skinny_stats(warp_sum(sum), warp_sum(squares), epsilon, K);
#pragma unroll
        for (int i = 0; i < VECTORS; i++) {
            const int k = (i * WARP + lane) * 4;
            if (k < K)
                normalise_vector<T>(out + b * skinny_row_stride(K) + k, v[i], stats, gain + k, offset + k);
        }
    }
    __syncthreads();
}

// Both vectors of a norm into shared memory, `to` (2 K): weight, then bias.
__device__ inline void stage_norm(float *to, const float *gain, const float *offset, int K) {
    for (int i = threadIdx.x; i < K / 2; i += blockDim.x) {
        const bool second = i >= K / 4;
        const float4 *from =
            reinterpret_cast<const float4 *>(second ? offset : gain) + (second ? i - K / 4 : i);
        reinterpret_cast<float4 *>(to)[i] = *from;
    }
}

// GPT-2's tanh form.
__device__ inline float skinny_gelu(float x) {
    const float sqrt_2_over_pi = 0.7978845608028654f;
    return 0.5f * x * (1.0f + tanhf(sqrt_2_over_pi * (x + 0.044715f * x * x * x)));
}

// An attribute of the current device, 0 when there is none to ask.
inline int skinny_device_attribute(cudaDeviceAttr attribute) {
    int device = 0, value = 0;
    if (cudaGetDevice(&device) != cudaSuccess ||
        cudaDeviceGetAttribute(&value, attribute, device) != cudaSuccess)
        return 0;
    return value;
}

// Programmatic dependent launch and room for the prefetch exist from sm_90 on.
inline bool skinny_device_is_supported() {
    return skinny_device_attribute(cudaDevAttrComputeCapabilityMajor) >= 9;
}

#endif
