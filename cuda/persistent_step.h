// Decode steps of few rows as one kernel that stays on the device for many tokens (sm_90).
//
// Blocks have a multiprocessor each. A warp of every block does nothing but bring the weights that the block
// will need, layer after layer and step after step, into a ring in shared memory, as far ahead as that has
// room, though never more at once than the memory can be busy with; the others multiply.
//
// Eight blocks are a cluster, and hand activations to each other through shared memory. A cluster computes
// heads of attention all the way from the residual stream through query, key and value, softmax and
// projection back to the stream, and groups of 64 hidden units of the MLP from FC to FC2. Clusters meet only
// behind attention and behind the MLP, where the partial sums of all are added up (exchange.cuh): twice a
// layer, without barriers. Up to 4 rows every cluster adds them all up for itself; of more rows it would have
// to read too much, and a part of the stream is added up in one place for all (persistent_add.cuh).
//
// LayerNorm is deferred (deferred_norm.h). A row's result does not depend on the other rows, but its
// rounding on how many there are.
#ifndef CUDA_PERSISTENT_STEP_H
#define CUDA_PERSISTENT_STEP_H

#include "base/dtype.h"
#include "base/status.h"
#include "cuda/weights.h"

#include <cuda_runtime_api.h>
#include <stdbool.h>
#include <stdint.h>

enum {
    PERSISTENT_ROWS = 8, // at most
    PERSISTENT_D = 64,
};

struct persistent_model {
    enum dtype dtype; // T: F16 or BF16
    int L, C, H, F, V;
    float epsilon;
    float attention_scale;                                   // of layer 0
    bool attention_scale_inverse;                            // divided by 1 + layer
    struct layered qkvw, attprojw, fcw, fcprojw;             // T (outputs, inputs)
    struct layered qkv_sums, qkv_biases, fc_sums, fc_biases; // f32: deferred_norm_fold
    struct layered attprojb, fcprojb, ln1w, ln2w;            // f32 (C)
    const float *lnfw;                                       // (C)
    const void *wte, *wpe, *head;                            // T; head (V rounded up to 8, C)
    const float *head_sums, *head_biases;                    // (V rounded up to 8)
};

struct persistent_rows {
    int B, max_tokens;
    int32_t *tokens;   // (B, max_tokens)
    int32_t *lengths;  // (B), 0: a free row
    void *kv;          // T [layer][K|V] (B, H, max_tokens, D)
    int64_t kv_stride; // bytes from one of these to the next
    float *logits;     // (B, ld) of the last step, NULL: not wanted
    int ld;
    bool draws; // a kernel behind this one draws the tokens from the logits: one step at a time
};

// Whether the kernel runs this model and this many rows on the current device: sm_90, where clusters of 8
// blocks, each with a multiprocessor of its own, fit at the same time and the driver launches them so, which
// is tried; a 16-bit type, D = 64, C a multiple of 64 up to 2048, F a multiple of 64.
bool persistent_supports(enum dtype dtype, int B, int C, int H, int F, cudaStream_t stream);

// Bytes of device memory of one session: what its blocks share, and a packed copy (pack_slices.h) of the
// weights of attention's projection and FC2, 5/12 of a GPT-2's layers.
size_t persistent_workspace_bytes(int L, int C, int F, int B);

// A session's kernel with all that it is launched with. The workspace (256-byte boundary) and what model and
// rows name stay the caller's, and must outlive it.
struct persistent_step;
CHECKED cudaError_t persistent_open(const struct persistent_model *model, const struct persistent_rows *rows,
                                    void *workspace, cudaStream_t stream, struct persistent_step **step);
void persistent_close(struct persistent_step *step); // NULL is allowed

// Extends every row with 0 < length < max_tokens by `steps` tokens, greedily (lowest id on a tie), or with
// `draws` computes the logits of one step.
CHECKED cudaError_t persistent_run(struct persistent_step *step, int steps, cudaStream_t stream);

#endif
