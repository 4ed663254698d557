// Decode steps as CUDA graphs.
//
// A step is captured once and replayed unpatched while rows grow, because tokens, lengths and sampling state
// live in device memory. A cached step's graph is made for a bound on the rows' lengths, an uncached one's
// for a padded number of packed tokens. Uncached steps too large to be held up by launches are launched as
// they are, without padding.
#ifndef CUDA_DECODE_H
#define CUDA_DECODE_H

#include "cuda/session.h"

// The decode operation of struct backend_ops.
CHECKED enum status cuda_decode(struct session *session, int steps, struct error *error);

void decode_free_graphs(struct cuda_session *session);

#endif
