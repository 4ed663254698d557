// Activations handed from block to block of one running kernel: the data itself says that it is there.
//
// A word holds an f32 or half of something else, and is EMPTY until it is written. EMPTY is a NaN that no
// arithmetic produces (the device's own NaNs are 0x7fff and 0x7fffffff), so a reader polls the words that it
// needs anyway and never waits for a flag besides. NCCL's protocol LL does the same with a flag in every
// 8 bytes.
//
// Words are written and read with relaxed order at device scope. What makes it safe to use a word again is up
// to the user: between emptying it and its next reader's first poll there must be a barrier of all blocks.
#ifndef CUDA_EXCHANGE_CUH
#define CUDA_EXCHANGE_CUH

#include "cuda/mma.cuh"

#include <stdint.h>

constexpr uint32_t EMPTY = 0xffffffffu;

__device__ inline void publish(uint32_t *word, uint32_t value) {
    asm volatile("st.relaxed.gpu.global.u32 [%0], %1;" ::"l"(word), "r"(value) : "memory");
}
__device__ inline void publish(uint2 *pair, uint2 value) {
    asm volatile("st.relaxed.gpu.global.v2.u32 [%0], {%1, %2};" ::"l"(pair), "r"(value.x), "r"(value.y)
                 : "memory");
}
__device__ inline void publish_empty(uint4 *piece) {
    asm volatile("st.relaxed.gpu.global.v4.u32 [%0], {%1, %1, %1, %1};" ::"l"(piece), "r"(EMPTY) : "memory");
}

// Reads a piece if `wanted`, else what it would read into stays as it is; without a branch.
__device__ inline void peek_if(bool wanted, uint4 &v, const uint4 *piece) {
    asm volatile("{\n"
                 ".reg .pred wanted;\n"
                 "setp.ne.u32 wanted, %5, 0;\n"
                 "@wanted ld.relaxed.gpu.global.v4.u32 {%0, %1, %2, %3}, [%4];\n"
                 "}"
                 : "+r"(v.x), "+r"(v.y), "+r"(v.z), "+r"(v.w)
                 : "l"(piece), "r"((uint32_t)wanted)
                 : "memory");
}

__device__ inline bool is_empty(uint32_t word) {
    return word == EMPTY;
}
__device__ inline bool is_empty(uint4 piece) {
    return is_empty(piece.x) || is_empty(piece.y) || is_empty(piece.z) || is_empty(piece.w);
}

// Polls for the pieces of all lanes of a warp, lane by lane from place(0), place(1), ..., until all are
// there. No branch per load: when the last warp of all blocks notices its pieces decides a step's time.
template <int count, typename Place>
__device__ inline void receive(uint4 (&pieces)[count], Place place) {
    bool missing;
#pragma unroll
    for (uint4 &piece : pieces) piece = make_uint4(EMPTY, EMPTY, EMPTY, EMPTY);
    do {
        missing = false;
#pragma unroll
        for (int i = 0; i < count; i++) peek_if(is_empty(pieces[i]), pieces[i], place(i));
#pragma unroll
        for (const uint4 &piece : pieces) missing |= is_empty(piece);
    } while (__any_sync(FULL_WARP, missing));
}

// For a barrier of all blocks made of such words: what a thread did before the fence, and what others did
// before they met it, is visible to whoever acquires a word that the thread published behind the fence.
__device__ inline void fence_blocks() {
    asm volatile("fence.acq_rel.gpu;" ::: "memory");
}
// If `wanted`, as peek_if. A fence behind a peek would wait for the reader's own stores, too.
__device__ inline void acquire_if(bool wanted, uint2 &v, const uint2 *pair) {
    asm volatile("{\n"
                 ".reg .pred wanted;\n"
                 "setp.ne.u32 wanted, %3, 0;\n"
                 "@wanted ld.acquire.gpu.global.v2.u32 {%0, %1}, [%2];\n"
                 "}"
                 : "+r"(v.x), "+r"(v.y)
                 : "l"(pair), "r"((uint32_t)wanted)
                 : "memory");
}

#endif
