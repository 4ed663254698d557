// Matrix products with what follows them, by cuBLASLt.
//
// Weights are (outputs, inputs) row-major and activations (tokens, width) row-major, which cuBLAS, being
// column-major, sees as D = A^T B with A the weight and B the activations: no operand is ever transposed in
// memory.
#ifndef CUDA_GEMM_H
#define CUDA_GEMM_H

#include "base/dtype.h"
#include "base/status.h"

#include <cuda_runtime.h>
#include <stddef.h>

// Y (tokens, outputs) from X (tokens, inputs), W (outputs, inputs) and bias (outputs).
enum gemm_epilogue {
    GEMM_PLAIN,    // Y = X W^T
    GEMM_BIAS,     // Y = X W^T + bias
    GEMM_GELU,     // Y = gelu(X W^T + bias), the tanh form
    GEMM_RESIDUAL, // Y = Y + X W^T + bias
};

struct gemm_shape {
    int outputs, inputs;
    int tokens;
    enum dtype input;  // of W and X
    enum dtype output; // of Y and bias
    enum gemm_epilogue epilogue;
};

// Device pointers, 256-byte aligned (what lets cuBLAS use every kernel it has).
struct gemm_operands {
    const void *weight; // (outputs, inputs)
    const void *bias;   // (outputs), NULL for GEMM_PLAIN
    const void *input;  // (tokens, inputs)
    void *output;       // (tokens, outputs)
};

// Where products run. The workspace holds GEMM_WORKSPACE_BYTES and is shared by all products of the stream.
struct gemm_target {
    cudaStream_t stream;
    void *workspace;
};
enum { GEMM_WORKSPACE_BYTES = 32 << 20 }; // what cuBLAS recommends for Hopper

struct gemm_table; // the plans made so far: a shape is planned and timed once in a backend's life
struct gemm_plan;  // belongs to its table

// `deterministic`: cuBLASLt's first candidate that runs is kept instead of the fastest, which another process
// may find to be another one, with other rounding.
CHECKED enum status gemm_open(bool deterministic, struct gemm_table **table, struct error *error);
void gemm_close(struct gemm_table *table); // NULL is allowed

// The plan for `shape`, made when the table has none yet: candidates of cuBLASLt's heuristics are timed on
// the `trials` (count) operands in turn, which should together exceed the L2 cache where the engine's own
// weights do, and one is kept. Timing overwrites the outputs and waits for the stream; finding a known plan
// does neither. Above 256 tokens, neighbouring counts share a plan.
CHECKED enum status gemm_find(struct gemm_table *table, const struct gemm_shape *shape,
                              const struct gemm_operands *trials, int count, const struct gemm_target *target,
                              const struct gemm_plan **plan, struct error *error);

// Runs asynchronously; may be captured. `tokens` may differ from the count the plan was asked for only when
// gemm_find gives the same plan for it.
CHECKED enum status gemm_run(const struct gemm_plan *plan, int tokens, const struct gemm_operands *operands,
                             const struct gemm_target *target, struct error *error);

#endif
