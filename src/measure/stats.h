// Statistics of a few repeated measurements.
#ifndef MEASURE_STATS_H
#define MEASURE_STATS_H

// All in the samples' unit. A single sample has sd 0 and an interval of its own value.
struct summary {
    int count;
    double median, mean;
    double sd;                  // of the sample (n - 1)
    double cv;                  // sd / mean, 0 when the mean is 0
    double ci95_low, ci95_high; // of the mean, Student's t
    double min, max;
};

// An empty set gives all zeros.
struct summary stats_summarize(const double *samples, int count);

// The value below which `percent` (0 .. 100) of the samples lie, linear between the two nearest ranks (the
// default of NumPy and R, type 7). count >= 1. Takes O(count^2) time and no memory: meant for up to some
// thousand samples.
double stats_percentile(const double *samples, int count, double percent);

// Two-sided 95 % quantile of Student's t: P(|T| <= t) = 0.95 at `degrees` >= 1 degrees of freedom.
double stats_student_t95(int degrees);

#endif
