// From values to places on paper: linear and logarithmic scales, and where their ticks go.
#ifndef MEASURE_PLOT_SCALE_H
#define MEASURE_PLOT_SCALE_H

#include <stdbool.h>

struct scale {
    bool logarithmic;
    double low, high; // ends of what is shown; their log10 when logarithmic
    double from, to;  // where the ends are drawn
};

// Logarithmic, low <= high both above 0, with room beyond both ends: `margin` of the span and at least
// `least` decades.
struct scale scale_logarithmic(double low, double high, double margin, double least);
// From 0 to above `high` > 0.
struct scale scale_linear(double high);

// Values beyond an end are placed at the end.
double scale_place(const struct scale *scale, double value);

enum { MOST_TICKS = 16 };
struct ticks {
    int count;
    double values[MOST_TICKS];
};
// Round values within the scale: whole powers of ten over many decades, with 2 and 5 between over few, steps
// of 1, 2 or 5 on linear scales and below one decade. About 3 to 9 of them.
struct ticks scale_ticks(const struct scale *scale);

// Which of `count` labels to show: the first, the last, and in order those others that keep `gap` to the ones
// shown. The places are the middles, ascending; likewise `widths`.
void scale_thin_labels(const double *places, const double *widths, int count, double gap, bool *shown);

#endif
