// The probe operation of struct backend_ops: what the device really does.
#ifndef CUDA_PROBE_H
#define CUDA_PROBE_H

#include "engine/backend.h"

CHECKED enum status cuda_probe(struct backend *backend, const struct probe *probe, double *seconds,
                               struct error *error);

#endif
