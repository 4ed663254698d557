// One cached decode step: each row's newest token through the model to the row's next token.
//
// Where the device, the dtype and the shapes allow it, few rows are decoded by one kernel that stays on the
// device (persistent_step.h), and more, as long as cuBLASLt is not faster, by a chain of our own kernels
// (decode_linear.h, decode_head.h) that prefetch their weights across kernel boundaries; otherwise the step's
// products are cuBLASLt's. NOTES.md has the measurements.
#ifndef CUDA_CACHED_STEP_H
#define CUDA_CACHED_STEP_H

#include "cuda/session.h"

// Asks the device once for what the functions below answer, when the backend's stream is there.
void cached_step_find_kernels(struct cuda_backend *backend);

// Whether a session of this specification decodes by the persistent kernel.
bool cached_step_is_persistent(const struct cuda_backend *backend, const struct session_spec *spec);
// Whether it decodes by the chain of our own kernels.
bool cached_step_is_fused(const struct cuda_backend *backend, const struct session_spec *spec);
// Whether its LM head is ours (also behind cuBLASLt's layers).
bool cached_step_owns_head(const struct cuda_backend *backend, const struct session_spec *spec);
// STATUS_USAGE where the specification demands them and they do not exist.
CHECKED enum status cached_step_check(const struct cuda_backend *backend, const struct session_spec *spec,
                                      struct error *error);

// The decode_path operation of struct backend_ops: "persistent", "fused", "graph", or "mixed": attention and
// LM head are ours, the layers' products cuBLASLt's.
const char *cached_step_path(const struct session *session);

// Makes the session a persistent one, when its buffers are there.
CHECKED enum status cached_step_open_persistent(struct cuda_session *session, struct error *error);
// What a run of steps needs once, before the first: the plans of the products that cuBLASLt will run, and
// the rows' newest tokens embedded: every step ends by embedding the next one's tokens.
CHECKED enum status cached_step_begin(struct cuda_session *session, struct error *error);
// Of a persistent session: launches as many of `left` steps as one kernel should run, says how many in
// *taken.
CHECKED enum status cached_step_run_many(struct cuda_session *session, int left, int *taken,
                                         struct error *error);
// Of the others: launches the step of all B rows on the backend's stream: layers, logits where they are
// wanted, and the new tokens appended. `max_keys` bounds every row's length.
CHECKED enum status cached_step_run(struct cuda_session *session, int max_keys, struct error *error);

#endif
