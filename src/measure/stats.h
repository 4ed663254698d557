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

// The ratio of two means with its 95 % interval, from the variances of their logarithms by the delta method,
// v = (sd / mean)^2 / n (Hedges, Gurevitch & Curtis 1999), and Welch's degrees of freedom (Welch 1947),
// rounded down:
//   log r +- t(nu) sqrt(v_a + v_b),  nu = (v_a + v_b)^2 / (v_a^2 / (n_a - 1) + v_b^2 / (n_b - 1))
// Means must be above 0. Where a side has a single sample (or no finite spread), the interval is not known:
// low = high = 0.
struct ratio {
    double value; // mean of b / mean of a
    double low, high;
};
struct ratio stats_ratio(const struct summary *a, const struct summary *b);

// Two-sided 95 % quantile of Student's t: P(|T| <= t) = 0.95 at `degrees` >= 1 degrees of freedom.
double stats_student_t95(int degrees);

#endif
