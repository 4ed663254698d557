// The few tensor-core, copy and arithmetic instructions (sm_80) that have no C++ name of their own. Operand
// layouts: PTX ISA, "Matrix fragments for mma.m16n8k16".
#ifndef CUDA_MMA_CUH
#define CUDA_MMA_CUH

#include "cuda/device.cuh"

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <stdint.h>
#include <type_traits>

__device__ inline uint32_t shared_address(const void *pointer) {
    return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

// Brings the line of 128 bytes around this address of global memory into the L2.
__device__ inline void prefetch_line(const void *address) {
    asm volatile("prefetch.global.L2 [%0];" ::"l"(address));
}

// Starts a copy of 4 bytes from global into shared memory, of zeros when not valid.
__device__ inline void copy_async_4(void *to, const void *from, bool valid) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(shared_address(to)), "l"(from),
                 "r"(valid ? 4 : 0)
                 : "memory");
}
// Starts a copy of 16 bytes from global into shared memory, of zeros when not valid.
__device__ inline void copy_async_16(void *to, const void *from, bool valid) {
    asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(shared_address(to)),
                 "l"(from), "r"(valid ? 16 : 0)
                 : "memory");
}
__device__ inline void copy_async_commit() {
    asm volatile("cp.async.commit_group;" ::: "memory");
}
// Waits for this thread's copies of all but the newest PENDING groups.
template <int PENDING>
__device__ inline void copy_async_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}

// Four 8x8 matrices of 16-bit elements; lane i passes the address of row i % 8 of matrix i / 8.
__device__ inline void load_matrices(uint32_t (&to)[4], const void *row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(shared_address(row))
                 : "memory");
}
__device__ inline void load_matrices_transposed(uint32_t (&to)[4], const void *row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(shared_address(row))
                 : "memory");
}

// c (16, 8) += a (16, 16) b (16, 8), f32 accumulators.
template <typename T>
__device__ inline void mma_16x8x16(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    if constexpr (std::is_same_v<T, __half>) {
        asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
            "{%0, %1, %2, %3};"
            : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
    } else {
        asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, "
            "%9}, "
            "{%0, %1, %2, %3};"
            : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
    }
}

// Two neighbours in a row, the first in the low half.
template <typename T>
__device__ inline uint32_t pack_pair(float first, float second) {
    if constexpr (std::is_same_v<T, __half>) {
        __half2 pair = __floats2half2_rn(first, second);
        return reinterpret_cast<uint32_t &>(pair);
    } else {
        __nv_bfloat162 pair = __floats2bfloat162_rn(first, second);
        return reinterpret_cast<uint32_t &>(pair);
    }
}

// What pack_pair packed.
template <typename T>
__device__ inline vec<float, 2> unpack_pair(uint32_t pair) {
    if constexpr (std::is_same_v<T, __half>) {
        const float2 both = __half22float2(reinterpret_cast<const __half2 &>(pair));
        return {both.x, both.y};
    } else { // bf16 is the upper half of f32
        return {__uint_as_float(pair << 16), __uint_as_float(pair & 0xffff0000u)};
    }
}

// 2 to this power; results below 2^-126 become zero.
__device__ inline float exp2_flushed(float value) {
    float result;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(value));
    return result;
}

#endif
