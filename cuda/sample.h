// The next token of each row, and scores, from logits (rows, ld) f32 of which the first V columns count.
#ifndef CUDA_SAMPLE_H
#define CUDA_SAMPLE_H

#include "base/status.h"
#include "engine/sampling.h"

#include <cuda_runtime_api.h>
#include <stddef.h>
#include <stdint.h>

// All pointers are device memory.
struct sample_args {
    struct sampling sampling;
    const float *logits; // (count, ld)
    int count, V, ld;
    const int32_t *rows;      // (count) session row of each row of logits; NULL: row i is i
    int32_t *tokens;          // (B, max_tokens)
    int32_t *lengths;         // (B)
    const uint64_t *requests; // (B); not read when greedy
    int max_tokens;
    // sample_workspace_bytes(count) bytes, zeroed once by the owner; every run leaves it zeroed.
    void *workspace;
};

size_t sample_workspace_bytes(int count);

// Draws by the rule of engine/sampling.h for each live row (0 < lengths[row] < max_tokens), writes
// tokens[row][lengths[row]] and then adds one to lengths[row]; other rows are untouched. The random number is
// curand_uniform after curand_init(seed, requests[row], lengths[row]). NaN counts as minus infinity; an id is
// always in 0 .. V - 1. Deterministic: probabilities are summed as integers, so no order of summation enters.
CHECKED cudaError_t sample_run(const struct sample_args *args, cudaStream_t stream);

// nll[i] = log(sum exp(logits[i])) - logits[i][targets[i]], 0 where targets[i] is -1; argmax[i] the highest
// logit's id, the lowest on a tie. targets (n), nll (n), argmax (n); targets and nll may be NULL together.
CHECKED cudaError_t score_rows(const float *logits, int n, int V, int ld, const int32_t *targets, float *nll,
                               int32_t *argmax, cudaStream_t stream);

#endif
