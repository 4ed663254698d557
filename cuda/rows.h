// Whole packed rows, from their tokens to their next token: prompts, and prefixes recomputed without a cache.
#ifndef CUDA_ROWS_H
#define CUDA_ROWS_H

#include "cuda/session.h"

// Draws the next token of `count` rows of `lengths` (count, on the host) tokens, in chunks of whole rows that
// fit the session's capacity. `rows` (device, (count)) names their session rows and `device_lengths` holds
// their lengths; NULL: row i is i, with the session's own lengths. Their keys and values go into the cache of
// a session that has one.
CHECKED enum status rows_run(struct cuda_session *session, const int *lengths, int count, const int32_t *rows,
                             const int32_t *device_lengths, struct error *error);

// The same as one chunk of `tokens` (at least the sum of the lengths, at most the capacity) with no row
// longer than `longest`: of the first `prompts` of the session's prompts, or with 0 of all B rows. It knows
// nothing of the lengths of now, so that a graph of it stays valid. Its products must have been planned.
CHECKED enum status rows_run_packed(struct cuda_session *session, int prompts, int tokens, int longest,
                                    struct error *error);

// The prefill operation of struct backend_ops, and the retire operation.
CHECKED enum status cuda_prefill(struct session *session, const struct prompt_batch *prompts,
                                 struct error *error);
CHECKED enum status cuda_retire(struct session *session, const int *rows, int count, struct error *error);

#endif
