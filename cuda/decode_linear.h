// Linear layers of a decode step on sm_90a: the weights' rows are the M of the tensor-core products, the
// batch is their N.
//
// A block owns 64 outputs of a tile of rows and a share of K; the blocks that share K form a cluster and add
// their sums through distributed shared memory. The copy engine brings weights into shared memory before the
// block waits for the kernel in front (launch.cuh): in a chain of these, weights stream while activations are
// computed. LayerNorm is deferred (deferred_norm.h).
//
// A row's result does not depend on the other rows, but may on how many there are: K is cut by B.
#ifndef CUDA_DECODE_LINEAR_H
#define CUDA_DECODE_LINEAR_H

#include "cuda/decode_next.h"
#include "cuda/deferred_norm.h"

#include <stdbool.h>

enum decode_epilogue {
    DECODE_STORE,    // out (B, N) T = y
    DECODE_GELU,     // out (B, N) T = gelu(y), tanh form
    DECODE_RESIDUAL, // residual.x (B, N) += y, and what the next LayerNorm needs
};

// y (B, N) = input weight^T + bias, or with `stats` the deferred LayerNorm of the rows that input is u of.
struct decode_linear_args {
    enum dtype dtype; // T: F16 or BF16
    int B, N, K;
    const void *input;  // (B, K) T
    const void *weight; // (N, K) T
    const float *bias;  // (N); with stats b'

    const float2 *stats; // (K / 64, B), NULL: no LayerNorm
    const float *sums;   // (N) S
    float epsilon;

    enum decode_epilogue epilogue;
    void *out;                     // STORE, GELU
    struct deferred_rows residual; // RESIDUAL
    const float *next_gain;        // RESIDUAL (N): of the LayerNorm that reads the sum

    enum decode_next next;
};

// Whether the current device and this build can run the kernels of a decode step: an sm_90 device on which
// DECODE_SPLIT blocks can form a cluster, and code for it.
bool decode_device_supported(void);
// Whether there is a kernel for the shape on the current device: 16-bit types, N and K
// multiples of 64, K at most NORM_MAX_C where there is a LayerNorm.
bool decode_linear_supports(enum dtype dtype, int N, int K);
// Launches with programmatic dependency; capturable.
CHECKED cudaError_t decode_linear_run(const struct decode_linear_args *args, cudaStream_t stream);

#endif
