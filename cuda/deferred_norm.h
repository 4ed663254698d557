// LayerNorm applied after the product that it feeds.
//
//   LN(x) W^T + b = rstd (u W^T - mean S) + b',   u = gain x,  S = W gain,  b' = b + W offset
//
// (gain and offset are LayerNorm's weight and bias, S and b' one number per output). The kernel that adds to
// the residual stream x leaves u in 16 bits and, per row, the statistics of every 64 channels; the product
// needs no pass over x of its own. u is rounded where the normalised x would have been rounded.
#ifndef CUDA_DEFERRED_NORM_H
#define CUDA_DEFERRED_NORM_H

#include "base/dtype.h"
#include "base/status.h"

#include <cuda_runtime_api.h>
#include <stdint.h>

enum {
    NORM_SEGMENT = 64, // channels that share one mean and one sum of squares
    NORM_MAX_C = 2048,
};

// What stands for the residual stream x (B, C) between two kernels of a step.
struct deferred_rows {
    float *x;      // (B, C)
    void *scaled;  // (B, C) T: u, scaled by a power of two that keeps f16 from overflowing
    float2 *stats; // (C / 64, B): mean, and sum of squared differences from it
};

// sums[n] = sum over k of gain[k] weight[n][k], biases[n] = bias[n] + sum over k of offset[k] weight[n][k];
// weight (N, K) and bias (N, NULL: zeros) of dtype, a 16-bit type, K a multiple of 8.
CHECKED cudaError_t deferred_norm_fold(enum dtype dtype, const void *weight, const void *bias,
                                       const float *gain, const float *offset, int N, int K, float *sums,
                                       float *biases, cudaStream_t stream);

// What the beginning of a step needs to embed each row's newest token, at position lengths[b] - 1: x[b] =
// wte[token] + wpe[position]; free rows (length 0) become zeros.
struct deferred_embedding {
    enum dtype dtype;          // F16 or BF16
    int B, C;                  // C a multiple of 64, at most NORM_MAX_C
    struct deferred_rows rows; // written
    const float *gain;         // (C) of the first LayerNorm
    const void *wte, *wpe;     // (V, C), (context, C) of dtype
    int32_t *tokens;           // (B, max_tokens)
    int32_t *lengths;          // (B)
    int max_tokens;
};
CHECKED cudaError_t deferred_embed(const struct deferred_embedding *embedding, cudaStream_t stream);

// scaled and stats of rows (B, C) whose x is there already, for the LayerNorm with weight `gain`.
CHECKED cudaError_t deferred_prepare(enum dtype dtype, const struct deferred_rows *rows, const float *gain,
                                     int B, int C, cudaStream_t stream);

#endif
