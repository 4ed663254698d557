// The forward pass: which kernels run in which order. Everything is launched on the backend's stream and may
// be captured in a graph, once schedule_prepare has planned the matrix products of those sizes.
#ifndef CUDA_SCHEDULE_H
#define CUDA_SCHEDULE_H

#include "cuda/attention.h"
#include "cuda/gemm.h"
#include "cuda/session.h"

#include <stdbool.h>
#include <stdint.h>

// Whole rows from position 0, packed one after the other.
struct packed_rows {
    int count;              // rows, at most B
    int tokens;             // N: at least the sum of their lengths, at most the capacity; the rest is padding
    int longest;            // at least the longest row's length
    const int32_t *lengths; // device (count), 0: the row is free
    const int32_t *rows;    // device (count) session row of each, NULL: row i is i
    const int32_t *tokens_by_row; // device (*, tokens_stride): row r's tokens
    int tokens_stride;            //
    bool write_cache;             // keys and values go into the cache
};

// Plans the products of a pass over `tokens` packed tokens whose logits are taken of `heads` rows, and of
// `positions` consecutive positions (0: none).
CHECKED enum status schedule_prepare(struct cuda_session *session, int tokens, int heads, int positions,
                                     struct error *error);

// Leaves the residual stream of the packed tokens in x, and what their rows look like in starts and ends.
CHECKED enum status schedule_packed(struct cuda_session *session, const struct packed_rows *packed,
                                    struct error *error);

// After schedule_packed: what schedule_logits needs of the rows' last positions, as rows first .. first +
// count of `last`; with LOGITS_ALL the logits of all positions, of which those of the rows stay.
CHECKED enum status schedule_last(struct cuda_session *session, const struct packed_rows *packed, int first,
                                  struct error *error);
// The logits (count, Vp) of the first `count` rows of `last`.
CHECKED enum status schedule_logits(struct cuda_session *session, int count, struct error *error);

// After schedule_packed: normalises all N positions; then logits_chunk (n, Vp) of positions first .. first +
// n
// - 1, where n is at most the session's chunk and `first` a multiple of it.
CHECKED enum status schedule_normalize(struct cuda_session *session, int N, struct error *error);
CHECKED enum status schedule_positions(struct cuda_session *session, int first, int n, struct error *error);

// Draws the next token of `count` rows from the logits and appends it; rows as in struct packed_rows.
CHECKED enum status schedule_sample(struct cuda_session *session, int count, const int32_t *rows,
                                    struct error *error);

// ---- parts of a layer, shared with the cached step (cached_step.h)

enum product { PRODUCT_QKV, PRODUCT_ATTPROJ, PRODUCT_FC, PRODUCT_FCPROJ, LAYER_PRODUCTS, PRODUCT_LMHEAD };

// Where a layer's product finds its operands in the weights and the session's buffers.
struct gemm_operands schedule_operands(const struct cuda_session *session, enum product product, int layer);
// Plans one layer product over `tokens` rows, or the LM head's over `rows`.
CHECKED enum status schedule_prepare_product(struct cuda_session *session, enum product product, int tokens,
                                             struct error *error);
CHECKED enum status schedule_prepare_head(struct cuda_session *session, int rows, struct error *error);
// The product over `tokens` rows by cuBLASLt.
CHECKED enum status schedule_product(struct cuda_session *session, enum product product, int layer,
                                     int tokens, struct error *error);
// logits (rows, Vp) of input (rows, C) by cuBLASLt.
CHECKED enum status schedule_lm_head(struct cuda_session *session, const void *input, float *logits, int rows,
                                     struct error *error);
// LayerNorm of `rows` rows of the residual stream, of rows index[i] unless index is NULL.
CHECKED enum status schedule_layernorm(struct cuda_session *session, void *out, const int32_t *index,
                                       enum gpt2_tensor weight, enum gpt2_tensor bias, int layer, int rows,
                                       struct error *error);
// Attention of a layer, all but its rows, queries, keys and values.
struct attention_args schedule_attention(const struct cuda_session *session, int layer);
void *schedule_cache(const struct cuda_session *session, int layer, int k_or_v);
void *schedule_offset(const struct cuda_session *session, void *base, int64_t elements);

#endif
