// Decode steps, as graphs (step_graphs.h) or one kernel that stays on the device (cached_step.h).
//
// A cached step's graph is made for a bound on the rows' lengths, an uncached one's for a padded number of
// packed tokens, so that they serve while rows grow. Uncached steps too large to be held up by launches are
// launched as they are, without padding.
#ifndef CUDA_DECODE_H
#define CUDA_DECODE_H

#include "cuda/session.h"

// The decode operation of struct backend_ops.
CHECKED enum status cuda_decode(struct session *session, int steps, struct error *error);

#endif
