// The warpgroup matrix product of sm_90a: 128 threads, both operands from shared memory, sums in registers.
// PTX ISA, "Asynchronous warpgroup level matrix instructions".
#ifndef CUDA_WGMMA_CUH
#define CUDA_WGMMA_CUH

#include "cuda/mma.cuh"

// Registers and shared memory written before are visible to the products issued next.
__device__ inline void wgmma_fence() {
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
__device__ inline void wgmma_commit() {
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
// Waits for all but the newest PENDING committed groups.
template <int PENDING>
__device__ inline void wgmma_wait() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(PENDING) : "memory");
}

// Describes rows of 64 16-bit elements (128 bytes, swizzled as tensor_map.h says), 8 rows after 8 rows. The
// tile begins on a multiple of 1024 bytes. Adding 2 to the descriptor moves on by 16 elements of each row.
__device__ inline uint64_t wgmma_tile(const void *tile) {
    constexpr uint64_t EIGHT_ROWS = 1024 / 16, SWIZZLE_128_BYTES = 1;
    return (shared_address(tile) & 0x3ffff) / 16 | uint64_t{1} << 16 | EIGHT_ROWS << 32 |
           SWIZZLE_128_BYTES << 62;
}

#define WGMMA_NUMBERS_4 "%0, %1, %2, %3"
#define WGMMA_NUMBERS_8 WGMMA_NUMBERS_4 ", %4, %5, %6, %7"
#define WGMMA_NUMBERS_16 WGMMA_NUMBERS_8 ", %8, %9, %10, %11, %12, %13, %14, %15"
#define WGMMA_NUMBERS_24 WGMMA_NUMBERS_16 ", %16, %17, %18, %19, %20, %21, %22, %23"
#define WGMMA_NUMBERS_32                                                                                     \
    WGMMA_NUMBERS_16 ", %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define WGMMA_NUMBERS_48                                                                                     \
    WGMMA_NUMBERS_32 ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47"
#define WGMMA_NUMBERS_64                                                                                     \
    WGMMA_NUMBERS_48 ", %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define WGMMA_SUMS_4(i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define WGMMA_SUMS_8(i) WGMMA_SUMS_4(i), WGMMA_SUMS_4(i + 4)
#define WGMMA_SUMS_16(i) WGMMA_SUMS_8(i), WGMMA_SUMS_8(i + 8)
#define WGMMA_SUMS_32(i) WGMMA_SUMS_16(i), WGMMA_SUMS_16(i + 16)
#define WGMMA_ISSUE(TYPE, COLUMNS, NUMBERS, A, B, ...)                                                       \
    asm volatile("{\n"                                                                                       \
                 ".reg .pred add;\n"                                                                         \
                 "setp.eq.u32 add, 0, 0;\n"                                                                  \
                 "wgmma.mma_async.sync.aligned.m64n" COLUMNS "k16.f32." TYPE "." TYPE " {" NUMBERS "}, " A   \
                 ", " B ", add, 1, 1, 0, 0;\n"                                                               \
                 "}"                                                                                         \
                 : __VA_ARGS__                                                                               \
                 : "l"(a), "l"(b))
#define WGMMA_ISSUE_T(...)                                                                                   \
    do {                                                                                                     \
        if constexpr (std::is_same_v<T, __half>)                                                             \
            WGMMA_ISSUE("f16", __VA_ARGS__);                                                                 \
        else                                                                                                 \
            WGMMA_ISSUE("bf16", __VA_ARGS__);                                                                \
    } while (0)

// d (64, N) += a (64, 16) b (N, 16)^T. A thread of warp w (of four) and lane l holds, for j < N / 8, the
// elements d[4 j .. 4 j + 3] = (r, c), (r, c + 1), (r + 8, c), (r + 8, c + 1), r = 16 w + l / 4, c = 8 j + 2
// (l % 4).
template <typename T, int N>
__device__ inline void wgmma(float (&d)[N / 2], uint64_t a, uint64_t b) {
    static_assert(N == 8 || N == 16 || N == 32 || N == 48 || N == 64 || N == 96 || N == 128);
    if constexpr (N == 8) WGMMA_ISSUE_T("8", WGMMA_NUMBERS_4, "%4", "%5", WGMMA_SUMS_4(0));
    if constexpr (N == 16) WGMMA_ISSUE_T("16", WGMMA_NUMBERS_8, "%8", "%9", WGMMA_SUMS_8(0));
    if constexpr (N == 32) WGMMA_ISSUE_T("32", WGMMA_NUMBERS_16, "%16", "%17", WGMMA_SUMS_16(0));
    if constexpr (N == 48)
        WGMMA_ISSUE_T("48", WGMMA_NUMBERS_24, "%24", "%25", WGMMA_SUMS_16(0), WGMMA_SUMS_8(16));
    if constexpr (N == 64) WGMMA_ISSUE_T("64", WGMMA_NUMBERS_32, "%32", "%33", WGMMA_SUMS_32(0));
    if constexpr (N == 96)
        WGMMA_ISSUE_T("96", WGMMA_NUMBERS_48, "%48", "%49", WGMMA_SUMS_32(0), WGMMA_SUMS_16(32));
    if constexpr (N == 128)
        WGMMA_ISSUE_T("128", WGMMA_NUMBERS_64, "%64", "%65", WGMMA_SUMS_32(0), WGMMA_SUMS_32(32));
}

#undef WGMMA_ISSUE_T
#undef WGMMA_ISSUE
#undef WGMMA_SUMS_32
#undef WGMMA_SUMS_16
#undef WGMMA_SUMS_8
#undef WGMMA_SUMS_4
#undef WGMMA_NUMBERS_64
#undef WGMMA_NUMBERS_48
#undef WGMMA_NUMBERS_32
#undef WGMMA_NUMBERS_24
#undef WGMMA_NUMBERS_16
#undef WGMMA_NUMBERS_8
#undef WGMMA_NUMBERS_4

#endif
