// Bulk copies into shared memory (compute capability 9.0) and the barriers in shared memory that count their
// bytes.
//
// A barrier's phase ends when its expected arrivals and the bytes promised to it are all there; waiting names
// the parity of the phase: 0 for the first, then 1, 0, ... PTX ISA, "mbarrier" and "cp.async.bulk".
#ifndef CUDA_BULK_CUH
#define CUDA_BULK_CUH

#include "cuda/mma.cuh"

#include <cuda.h>
#include <stdint.h>

__device__ inline void barrier_init(uint64_t *barrier, int arrivals) {
#if __CUDA_ARCH__ >= 900
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(arrivals)
                 : "memory");
#endif
}

// By the thread that initialised barriers, before the block's barrier that shows them to the others.
__device__ inline void barrier_init_fence() {
#if __CUDA_ARCH__ >= 900
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
#endif
}

// Arrives, and promises `bytes` of bulk copies to the current phase.
__device__ inline void barrier_expect(uint64_t *barrier, uint32_t bytes) {
#if __CUDA_ARCH__ >= 900
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)),
                 "r"(bytes)
                 : "memory");
#endif
}

__device__ inline void barrier_arrive(uint64_t *barrier) {
#if __CUDA_ARCH__ >= 900
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(barrier)) : "memory");
#endif
}

// Returns when the phase of this parity is over; what it brought is then visible.
__device__ inline void barrier_wait(uint64_t *barrier, uint32_t parity) {
#if __CUDA_ARCH__ >= 900
    asm volatile("{\n"
                 ".reg .pred done;\n"
                 "again:\n"
                 "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
                 "@!done bra again;\n"
                 "}" ::"r"(shared_address(barrier)),
                 "r"(parity)
                 : "memory");
#endif
}

// A place in a ring of stages with a barrier each, and the parity of that barrier's current phase.
struct ring {
    int stage = 0;
    uint32_t parity = 0;
    __device__ void advance(int stages, int by = 1) {
        stage += by;
        if (stage < stages) return;
        stage -= stages;
        parity ^= 1;
    }
};

// Brings `bytes` from global memory, past the L1; addresses and bytes are multiples of 16. By one thread.
__device__ inline void copy_bytes(void *to, const void *from, uint32_t bytes, uint64_t *barrier) {
#if __CUDA_ARCH__ >= 900
    asm volatile(
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
            shared_address(to)),
        "l"(__cvta_generic_to_global(from)), "r"(bytes), "r"(shared_address(barrier))
        : "memory");
#endif
}

// For copy_bytes_once: what is read once a step should not push other things out of the L2.
__device__ inline uint64_t evict_first_policy() {
    uint64_t policy = 0;
#if __CUDA_ARCH__ >= 900
    asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
#endif
    return policy;
}
__device__ inline void copy_bytes_once(void *to, const void *from, uint32_t bytes, uint64_t *barrier,
                                       uint64_t policy) {
#if __CUDA_ARCH__ >= 900
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint "
                 "[%0], [%1], %2, [%3], %4;" ::"r"(shared_address(to)),
                 "l"(__cvta_generic_to_global(from)), "r"(bytes), "r"(shared_address(barrier)), "l"(policy)
                 : "memory");
#endif
}

// Into the L2 only; address and bytes as above.
__device__ inline void prefetch_bytes(const void *from, uint32_t bytes) {
#if __CUDA_ARCH__ >= 900
    asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(__cvta_generic_to_global(from)),
                 "r"(bytes)
                 : "memory");
#endif
}

// One box of a matrix's tensor map (tensor_map.h), whose first element is (row, column). Elements outside of
// the matrix arrive as zeros and count as bytes.
__device__ inline void copy_box(void *to, const CUtensorMap *map, int row, int column, uint64_t *barrier) {
#if __CUDA_ARCH__ >= 900
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes "
                 "[%0], [%1, {%2, %3}], [%4];" ::"r"(shared_address(to)),
                 "l"(map), "r"(column), "r"(row), "r"(shared_address(barrier))
                 : "memory");
#endif
}

// The same of a map by chunks of 64 columns: from chunk `chunk` on.
__device__ inline void copy_chunks(void *to, const CUtensorMap *map, int row, int chunk, uint64_t *barrier) {
#if __CUDA_ARCH__ >= 900
    asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes "
                 "[%0], [%1, {%2, %3, %4}], [%5];" ::"r"(shared_address(to)),
                 "l"(map), "r"(0), "r"(row), "r"(chunk), "r"(shared_address(barrier))
                 : "memory");
#endif
}

#endif
