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

#endif
