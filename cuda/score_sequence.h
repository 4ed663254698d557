// The score operation of struct backend_ops.
#ifndef CUDA_SCORE_SEQUENCE_H
#define CUDA_SCORE_SEQUENCE_H

#include "engine/backend.h"

CHECKED enum status cuda_score(struct session *session, const struct score_request *request,
                               struct error *error);

#endif
