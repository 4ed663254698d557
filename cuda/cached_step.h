// One cached decode step: each row's newest token through the model to the row's next token.
//
// Up to 16 rows in a 16-bit dtype on sm_90 and later, the step is a chain of our own kernels (skinny.h) that
// prefetch their weights across kernel boundaries; otherwise its products are cuBLASLt's. NOTES.md has the
// measurements.
#ifndef CUDA_CACHED_STEP_H
#define CUDA_CACHED_STEP_H

#include "cuda/session.h"

// The decode_path operation of struct backend_ops: "fused" when any part of the step is ours.
const char *cached_step_path(const struct session *session);

// Plans the products that cuBLASLt will run.
CHECKED enum status cached_step_prepare(struct cuda_session *session, struct error *error);

// Launches the step of all B rows on the backend's stream: embedding, layers, logits where they are wanted,
// and the new tokens appended. `max_keys` bounds every row's length.
CHECKED enum status cached_step_run(struct cuda_session *session, int max_keys, struct error *error);

#endif
