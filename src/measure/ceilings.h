// The ceilings of a device, by short probes of the backend.
#ifndef MEASURE_CEILINGS_H
#define MEASURE_CEILINGS_H

#include "measure/roofline.h"

// Takes some seconds: a cold read of 256 MiB to 1 GiB, square products of the vendor's library at the largest
// size that is quick, the least operation. The rate is of the backend's dtype.
CHECKED enum status ceilings_measure(struct backend *backend, struct ceilings *ceilings, struct error *error);

// The same from the cache (cache.h; key: device, its detail with driver, threads, dtype, engine version),
// or measured and then cached; `refresh` measures in any case. What was wrong with the cache is in
// note->message, which is empty otherwise: the ceilings are good all the same.
CHECKED enum status ceilings_get(struct backend *backend, bool refresh, struct ceilings *ceilings,
                                 struct error *note, struct error *error);

#endif
