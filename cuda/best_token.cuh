// The best of a row's tokens so far: the highest logit, of equal ones the lowest id.
#ifndef CUDA_BEST_TOKEN_CUH
#define CUDA_BEST_TOKEN_CUH

#include "cuda/device.cuh"

struct best {
    float value;
    int id;
};
__device__ inline best better(best a, best b) {
    return b.value > a.value || (b.value == a.value && b.id < a.id) ? b : a;
}

// Each group of so many neighbouring lanes gets its best. By whole warps.
template <int lanes>
__device__ inline best best_of_lanes(best found) {
#pragma unroll
    for (int step = lanes / 2; step > 0; step /= 2)
        found = better(found, {__shfl_xor_sync(FULL_WARP, found.value, step),
                               __shfl_xor_sync(FULL_WARP, found.id, step)});
    return found;
}

#endif
