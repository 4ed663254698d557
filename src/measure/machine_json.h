// A machine (predict.h) as JSON: in records, in predictions and in the cache.
#ifndef MEASURE_MACHINE_JSON_H
#define MEASURE_MACHINE_JSON_H

#include "measure/predict.h"

#include <jansson.h>

// {"read_bytes_per_s", "matmul_flop_per_s", "cached_step_s", ...}, all null when the machine is not known. A
// new reference, NULL when memory runs out.
json_t *machine_json(const struct machine *machine);

// The opposite; a message says which field is missing or no number from 0.
CHECKED enum status machine_read(const json_t *json, struct machine *machine, struct error *error);

#endif
