// Thread-block clusters (sm_90): their barrier, and stores into another block's shared memory.
#ifndef CUDA_CLUSTER_CUH
#define CUDA_CLUSTER_CUH

#include <stdint.h>

// The cluster's barrier, both halves by whole warps; warps that have ended count as arrived. It orders no
// memory: a release here would wait for all earlier stores to global memory.
__device__ inline void cluster_arrive() {
    asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory");
}
__device__ inline void cluster_wait() {
    asm volatile("barrier.cluster.wait.aligned;" ::: "memory");
}

// Where the block of rank `rank` has what lies at `address` of this block's shared memory.
__device__ inline uint32_t cluster_address(uint32_t address, int rank) {
    uint32_t mapped;
    asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(mapped) : "r"(address), "r"(rank));
    return mapped;
}
// Stores 16 bytes (aligned) in the block that both addresses belong to, and counts them on its barrier
// (bulk.cuh).
__device__ inline void cluster_store(uint32_t address, uint4 v, uint32_t barrier) {
    asm volatile(
        "st.async.shared::cluster.mbarrier::complete_tx::bytes.v4.b32 [%0], {%1, %2, %3, %4}, [%5];" ::"r"(
            address),
        "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w), "r"(barrier)
        : "memory");
}
__device__ inline void cluster_store(uint32_t address, float4 v, uint32_t barrier) {
    cluster_store(
        address,
        make_uint4(__float_as_uint(v.x), __float_as_uint(v.y), __float_as_uint(v.z), __float_as_uint(v.w)),
        barrier);
}

#endif
