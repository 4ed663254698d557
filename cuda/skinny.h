// Matrix products for a few rows (B <= 16) that run at the speed of reading the weights once.
//
// y (B, N) = epilogue(f(x) W^T + bias), f(x) = LayerNorm(x) or x. One tensor-core product m16n8k16 takes up
// to 16 rows as M, so the batch is free up to there; a block owns 8 or 16 outputs and its warps split K.
// Every weight a block needs is on its way into registers before the block waits for the kernel in front
// (launch.cuh), so that a chain of these streams weights from memory without a pause between kernels.
//
// A row's result depends on nothing but the row: not on B, not on the other rows.
#ifndef CUDA_SKINNY_H
#define CUDA_SKINNY_H

#include "base/dtype.h"
#include "base/status.h"

#include <cuda_runtime_api.h>
#include <stdbool.h>
#include <stdint.h>

enum { SKINNY_MAX_ROWS = 16 };

enum skinny_epilogue {
    SKINNY_STORE,    // out (B, N) of dtype
    SKINNY_GELU,     // out (B, N) of dtype, tanh form
    SKINNY_RESIDUAL, // out (B, N) f32 += y
};

// LayerNorm applied to f32 rows on their way in; weight == NULL: x is of dtype and taken as it is.
struct skinny_norm {
    const float *weight, *bias; // (K)
    float epsilon;
};

struct skinny_args {
    enum dtype dtype; // F16 or BF16: of W, bias, x without a norm, and stored outputs
    int B, N, K;
    const void *x; // (B, K) f32 with a norm, dtype without
    struct skinny_norm norm;
    const void *weight; // (N, K)
    const void *bias;   // (N) of dtype, or f32 for SKINNY_RESIDUAL
    enum skinny_epilogue epilogue;
    void *out;
};

// Whether this build has a kernel for the shape; K a multiple of 32, N of 16, on sm_90 or later.
bool skinny_supports(enum dtype dtype, int B, int N, int K, bool norm);
CHECKED cudaError_t skinny_run(const struct skinny_args *args, cudaStream_t stream);

// The LM head with the argmax inside: partial (B, skinny_head_blocks()) of (value, id) pairs, the best of
// each block's share of the vocabulary, for skinny_head_finish. logits (B, ld) f32 are written only when not
// NULL.
struct skinny_head_args {
    enum dtype dtype;
    int B, V, K;
    const float *x; // (B, K)
    struct skinny_norm norm;
    const void *weight; // (V, K), readable up to the next multiple of 8 rows
    float *logits;
    int ld;
    int2 *partial; // (B, skinny_head_blocks()): bits of an f32 value, id
};
bool skinny_head_supports(enum dtype dtype, int B, int K);
int skinny_head_blocks(void); // of the current device
CHECKED cudaError_t skinny_head_run(const struct skinny_head_args *args, cudaStream_t stream);

// Greedy end of a step: tokens[b][lengths[b]] = the best id (lowest on a tie), then lengths[b] += 1, for rows
// with 0 < lengths[b] < max_tokens.
CHECKED cudaError_t skinny_head_finish(const int2 *partial, int B, int V, int32_t *tokens, int max_tokens,
                                       int32_t *lengths, cudaStream_t stream);

#endif
