// The LM head of a decode step on sm_90a, with the argmax inside: f32 logits are written only when asked for.
//
// Each block holds a tile of rows in shared memory and streams 64 vocabulary rows after the other past it;
// the final LayerNorm is deferred (deferred_norm.h). A second small kernel takes the best of all blocks'
// candidates, appends it to the row, and embeds it for the next step.
#ifndef CUDA_DECODE_HEAD_H
#define CUDA_DECODE_HEAD_H

#include "cuda/deferred_norm.h"

#include <stdbool.h>

// logits[b][v] = LN(x_b) . weight_v, partial[b][...] the best (value, id) of each block's vocabulary.
struct decode_head_args {
    enum dtype dtype; // F16 or BF16
    int B, V, K;
    struct deferred_rows rows;  // (B, K): scaled and stats are read
    const void *weight;         // (V, K) of dtype
    const float *sums, *biases; // (V): deferred_norm_fold of weight
    float epsilon;
    float *logits; // (B, ld) f32, NULL: not wanted
    int ld;
    int2 *partial; // (B, decode_head_blocks(B)): bits of an f32 value, id
};

// Whether there is a kernel for the shape on the current device: a 16-bit type, K a multiple of 64, and a
// tile of up to 96 rows fits into shared memory.
bool decode_head_supports(enum dtype dtype, int B, int K);
int decode_head_blocks(int B); // candidates per row
CHECKED cudaError_t decode_head_run(const struct decode_head_args *args, cudaStream_t stream);

// Greedy end of a step: tokens[b][lengths[b]] = the best id (lowest on a tie), then lengths[b] += 1, for rows
// with 0 < lengths[b] < max_tokens; and the beginning of the next: deferred_embed of all rows.
CHECKED cudaError_t decode_head_finish(const int2 *partial, int V, const struct deferred_embedding *next,
                                       cudaStream_t stream);

#endif
