// The ceilings of a device, by short probes of the backend.
#ifndef MEASURE_CEILINGS_H
#define MEASURE_CEILINGS_H

#include "measure/roofline.h"

// Takes some seconds: a cold read of 256 MiB to 1 GiB, square products of the vendor's library at the largest
// size that is quick, the least step. The rate is of the backend's dtype.
CHECKED enum status ceilings_measure(struct backend *backend, struct ceilings *ceilings, struct error *error);

#endif
