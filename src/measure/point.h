// One batch size: its arms repeated in turns and their tokens compared.
#ifndef MEASURE_POINT_H
#define MEASURE_POINT_H

#include "measure/bench.h"

struct point {
    struct backend *backend;
    struct telemetry *telemetry; // of its device; may be NULL
    const struct bench_options *options;
    struct bench_row *rows; // (1 or 2) one per arm, batch and kv_cache filled, the status is ROW_SKIPPED
    int row_count;
    double began;        // clock_seconds() when bench_run began
    double later_points; // the work that follows this point, as a multiple of it
};

// Fills the rows, in which failures are told. Returns STATUS_OK or STATUS_INTERRUPTED.
CHECKED enum status point_measure(const struct point *point, struct error *error);

#endif
