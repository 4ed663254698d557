// What a row means: its time per step against what the formulas and the device's ceilings allow.
#ifndef MEASURE_METRICS_H
#define MEASURE_METRICS_H

#include "measure/record.h"

struct row_metrics {
    struct cost prefill;
    struct cost step;      // mean over the decode steps; zero when gen_len is 1
    double busy_share;     // device's own time of the mean step / ms per step; 0: steps were not timed
    double textbook_share; // measured speed-up / the one that counting token-steps promises; 0: none measured
    struct prediction predicted; // from record->machine; zero when that is not known
    double predicted_share;      // predicted tok/s / measured; 0: not both known
    // The rest needs ceilings and a measured time per step.
    bool against_device;
    struct floor_time floor; // of the mean step
    double floor_share;      // floor / ms per step
    double bandwidth_share;  // bytes per second moved by the formula / ceiling
    double matmul_share;     // flop per second likewise
};

struct row_metrics row_metrics(const struct bench_record *record, const struct bench_row *row);

#endif
