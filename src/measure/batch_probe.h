// One batch size tried on a real session.
#ifndef MEASURE_BATCH_PROBE_H
#define MEASURE_BATCH_PROBE_H

#include "measure/discover.h"

// Fills *probe. STATUS_OK also when the batch does not fit.
CHECKED enum status batch_probe_run(struct backend *backend, const struct discover_options *options,
                                    int batch, struct batch_probe *probe, struct error *error);

// Bytes of device memory that a session leaves beyond the reserve, by the ledger's account.
int64_t batch_probe_room(const struct backend *backend, const struct discover_options *options, int batch);

#endif
