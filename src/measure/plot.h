// Draws a bench record: tok/s over the batch size with and without the KV cache, and the speed-up.
//
// Points are medians, bars the 95 % interval of the mean. Dashed lines are what the device's measured
// ceilings would allow: B G / (floor of the prefill + (G - 1) floor of the mean step), see roofline.h. Batch
// sizes without a figure show as gaps and are named with their status in the caption; figures of rows that
// are not ok (partial, mismatch) are hollow.
#ifndef MEASURE_PLOT_H
#define MEASURE_PLOT_H

#include "measure/record.h"
#include "measure/reference.h"

#include <stdbool.h>
#include <stdio.h>

// A picture of its own, light or dark as the viewer prefers. `reference` is drawn beside the record; NULL:
// none. Fails when memory runs out; a failed write is left in ferror(file) for whoever owns the file.
CHECKED enum status plot_write_svg(const struct bench_record *record, const struct reference *reference,
                                   FILE *file, struct error *error);

struct plot_terminal {
    int columns;
    bool unicode; // else ASCII
};
// The same as text.
CHECKED enum status plot_write_text(const struct bench_record *record, const struct reference *reference,
                                    const struct plot_terminal *terminal, FILE *file, struct error *error);

#endif
