// What every kernel file shares: element types, 16-byte vectors, warp reductions.
#ifndef CUDA_DEVICE_CUH
#define CUDA_DEVICE_CUH

#include "base/dtype.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include <stdint.h>

constexpr int WARP = 32;
constexpr unsigned FULL_WARP = 0xffffffffu;
constexpr float LOG2E = 1.4426950408889634f;

// Calls f with a value of the element type that `dtype` names: f(float{}) and so on.
template <typename F>
auto with_element(enum dtype dtype, F f) {
    switch (dtype) {
    case DTYPE_F16:
        return f(__half{});
    case DTYPE_BF16:
        return f(__nv_bfloat16{});
    default:
        return f(float{});
    }
}

// N elements moved by one load or store.
template <typename T, int N>
struct alignas(sizeof(T) * N) vec {
    T at[N];
};

template <typename T>
constexpr int ELEMENTS_PER_16_BYTES = 16 / static_cast<int>(sizeof(T));

inline bool is_aligned_16(const void *pointer) {
    return reinterpret_cast<uintptr_t>(pointer) % 16 == 0;
}

constexpr int divide_up(int a, int b) {
    return a / b + (a % b != 0);
}

__device__ inline float warp_sum(float value) {
#pragma unroll
    for (int stride = WARP / 2; stride > 0; stride /= 2) value += __shfl_xor_sync(FULL_WARP, value, stride);
    return value;
}

__device__ inline float warp_max(float value) {
#pragma unroll
    for (int stride = WARP / 2; stride > 0; stride /= 2)
        value = fmaxf(value, __shfl_xor_sync(FULL_WARP, value, stride));
    return value;
}

// The warp's number, known to the compiler to be the same in all its lanes: it would order the products of a
// warpgroup (wgmma.cuh) one after the other where it thought that lanes might part.
__device__ inline int uniform_warp() {
    return __shfl_sync(FULL_WARP, static_cast<int>(threadIdx.x) / WARP, 0);
}

// Waits for THREADS threads (whole warps) of the block at one of its barriers; 0 is __syncthreads'.
template <int THREADS>
__device__ inline void barrier_sync(int barrier) {
    asm volatile("bar.sync %0, %1;" ::"r"(barrier), "n"(THREADS) : "memory");
}

__device__ inline float4 load_four(const float *from) {
    return *reinterpret_cast<const float4 *>(from);
}

// 0.5 y (1 + tanh(z)) = y / (1 + exp(-2 z)), z = sqrt(2/pi) (y + 0.044715 y^3): GPT-2's form of GELU.
__device__ inline float gelu_tanh(float y) {
    constexpr float SQRT_2_OVER_PI = 0.7978845608028654f;
    return __fdividef(y, 1 + exp2f(-2 * LOG2E * SQRT_2_OVER_PI * (y + 0.044715f * y * y * y)));
}

#endif
