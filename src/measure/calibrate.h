// The model of time of predict.h for the engine on this device: what a few short runs of one row (where the
// persistent kernel or fused ones decode, also of the most rows each takes) and of two larger prefills say.
#ifndef MEASURE_CALIBRATE_H
#define MEASURE_CALIBRATE_H

#include "measure/predict.h"

// A prefill of 8 tokens and 8 steps of one row, with and without the cache, and prefills of 64 tokens of 2
// and 8 rows (32 and 128 on a quick device); takes about a second on a GPU and some seconds on a CPU. A fixed
// time is what was measured less the work that the model of time sees in it. Where the work alone would take
// longer, the weights come from the chip's cache, and the bandwidth becomes the one that was seen. A context
// too short for the runs leaves machine_of_ceilings.
CHECKED enum status calibrate(struct backend *backend, const struct ceilings *ceilings,
                              struct machine *machine, struct error *error);

// The same from the cache (cache.h; key: device, threads, dtype, shape of the model, engine version), as
// ceilings_get.
CHECKED enum status calibrate_get(struct backend *backend, const struct ceilings *ceilings, bool refresh,
                                  struct machine *machine, struct error *note, struct error *error);

#endif
