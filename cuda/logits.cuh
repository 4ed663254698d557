// Logits as totally ordered keys: of two tokens the better one, by logit and then by lower id, has the
// greater key.
#ifndef CUDA_LOGITS_CUH
#define CUDA_LOGITS_CUH

#include "cuda/device.cuh"

typedef unsigned long long token_key; // the type that 64-bit atomics take

__device__ inline float logit_at(const float *logits, int id) {
    float logit = logits[id];
    return isnan(logit) ? -INFINITY : logit;
}

__device__ inline token_key key_of(float logit, int id) {
    uint32_t bits = __float_as_uint(logit + 0.0f); // -0 becomes +0, which it equals
    uint32_t ordered = bits >> 31 ? ~bits : bits | 0x80000000u;
    return static_cast<token_key>(ordered) << 32 | (0xffffffffu - static_cast<uint32_t>(id));
}

__device__ inline int id_of(token_key key) {
    return static_cast<int>(0xffffffffu - static_cast<uint32_t>(key));
}

__device__ inline float logit_of(token_key key) {
    uint32_t ordered = static_cast<uint32_t>(key >> 32);
    return __uint_as_float(ordered >> 31 ? ordered & 0x7fffffffu : ~ordered);
}

__device__ inline token_key warp_max_key(token_key key) {
#pragma unroll
    for (int stride = WARP / 2; stride > 0; stride /= 2)
        key = max(key, __shfl_xor_sync(FULL_WARP, key, stride));
    return key;
}

// The greatest key of the tokens that the block's THREADS threads see at first, first + step, ... below V;
// for every thread. Call at most once per kernel.
template <int THREADS>
__device__ token_key block_best(const float *logits, int V, int first, int step) {
    __shared__ token_key of_warp[THREADS / WARP];
    token_key best = 0;
#pragma unroll 8
    for (int id = first; id < V; id += step) best = max(best, key_of(logit_at(logits, id), id));
    best = warp_max_key(best);
    if (threadIdx.x % WARP == 0) of_warp[threadIdx.x / WARP] = best;
    __syncthreads();
    best = of_warp[0];
    for (int w = 1; w < THREADS / WARP; w++) best = max(best, of_warp[w]);
    return best;
}

#endif
