// What a session remembers of its last prefill or decode, and how the host reads it.
#ifndef CUDA_RESULTS_H
#define CUDA_RESULTS_H

#include "cuda/session.h"

// After the last launch of a prefill or decode: keeps its tokens and logits for the functions below.
CHECKED enum status results_of_prompts(struct cuda_session *session, const struct prompt_batch *prompts,
                                       struct error *error);
CHECKED enum status results_of_steps(struct cuda_session *session, int steps, struct error *error);

// The device passes the beginning of step `index` (the end of the one before); nothing in untimed sessions.
CHECKED enum status results_mark_step(struct cuda_session *session, int index, struct error *error);

// The operations of struct backend_ops of the same names.
CHECKED enum status cuda_collect(struct session *session, int32_t *tokens, struct error *error);
CHECKED enum status cuda_logits(struct session *session, int row, float *logits, struct error *error);
CHECKED enum status cuda_step_times(struct session *session, float *milliseconds, struct error *error);

#endif
