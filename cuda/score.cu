// Losses and best tokens of rows of logits.
#include "cuda/logits.cuh"
#include "cuda/sample.h"

constexpr int THREADS = 512;

// One block per row.
__global__ void __launch_bounds__(THREADS)
    score_kernel(const float *logits, int V, int ld, const int32_t *targets, float *nll, int32_t *argmax) {
    __shared__ float of_warp[THREADS / WARP];
    int row = static_cast<int>(blockIdx.x);
    logits += static_cast<int64_t>(row) * ld;
    int best = id_of(block_best<THREADS>(logits, V, static_cast<int>(threadIdx.x), THREADS));
    if (threadIdx.x == 0) argmax[row] = best;
    if (!targets) return;
    int target = targets[row];
    if (target < 0) {
        if (threadIdx.x == 0) nll[row] = 0;
        return;
    }
    float highest = logits[best], sum = 0;
#pragma unroll 8
    for (int id = static_cast<int>(threadIdx.x); id < V; id += THREADS) sum += expf(logits[id] - highest);
    sum = warp_sum(sum);
    if (threadIdx.x % WARP == 0) of_warp[threadIdx.x / WARP] = sum;
    __syncthreads();
    if (threadIdx.x != 0) return;
    sum = 0;
    for (int w = 0; w < THREADS / WARP; w++) sum += of_warp[w];
    nll[row] = logf(sum) + (highest - logits[target]);
}

cudaError_t score_rows(const float *logits, int n, int V, int ld, const int32_t *targets, float *nll,
                       int32_t *argmax, cudaStream_t stream) {
    score_kernel<<<n, THREADS, 0, stream>>>(logits, V, ld, targets, nll, argmax);
    return cudaGetLastError();
}
