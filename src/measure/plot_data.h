// What a plot draws, picked out of a record: lines of points over the batch size.
#ifndef MEASURE_PLOT_DATA_H
#define MEASURE_PLOT_DATA_H

#include "measure/record.h"
#include "measure/reference.h"

struct plot_point {
    int batch;
    enum row_status status;
    double value;     // 0: not measured, a gap in the line
    double low, high; // 95 % interval, both `value` where there is none
};

// Lines are stb_ds arrays of points by ascending batch size; those with nothing to draw are empty. Pairs are
// indexed by whether the cache is on.
struct plot_data {
    struct plot_point *tok_s[2];
    struct plot_point *ceiling[2]; // tok/s that the device's ceilings allow, over the whole axis
    struct plot_point *speedup;
    struct plot_point *published_tok_s[2];
    struct plot_point *published_speedup;
    int *batches;                       // (stb_ds array) all that occur, ascending and distinct
    double lowest_batch, highest_batch; // of the axis
};

// `reference` may be NULL. Only arms that the record has are drawn. The caller frees.
struct plot_data plot_data_collect(const struct bench_record *record, const struct reference *reference);
void plot_data_free(struct plot_data *data);

// Stretches *low .. *high (both 0 at first) over a line's values.
void plot_data_range(const struct plot_point *line, double *low, double *high);

#endif
