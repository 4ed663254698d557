#include "measure/stats.h"

#include <assert.h>
#include <math.h>
#include <string.h>

// The sample that has `rank` samples before it in ascending order.
static double order_statistic(const double *samples, int count, int rank) {
    for (int i = 0; i < count; i++) {
        int below = 0, equal = 0;
        for (int j = 0; j < count; j++) {
            below += samples[j] < samples[i];
            equal += samples[j] == samples[i];
        }
        if (below <= rank && rank < below + equal) return samples[i];
    }
    return samples[count - 1]; // only with NaN among the samples
}

double stats_percentile(const double *samples, int count, double percent) {
    assert(count >= 1);
    double rank = percent / 100.0 * (count - 1);
    int below = (int)rank;
    double low = order_statistic(samples, count, below);
    if (below == count - 1) return low;
    double high = order_statistic(samples, count, below + 1);
    return low + (rank - below) * (high - low);
}

double stats_student_t95(int degrees) {
    // 0.975 quantiles as every textbook prints them.
    static const double table[] = {12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
                                   2.201,  2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
                                   2.080,  2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042};
    const int tabled = sizeof table / sizeof table[0];
    assert(degrees >= 1);
    if (degrees <= tabled) return table[degrees - 1];
    // Beyond: the Cornish-Fisher expansion around the normal quantile, good to 1e-4 from 30 degrees on.
    const double z = 1.959963984540054, n = degrees;
    return z + (pow(z, 3) + z) / (4 * n) + (5 * pow(z, 5) + 16 * pow(z, 3) + 3 * z) / (96 * n * n);
}

struct summary stats_summarize(const double *samples, int count) {
    struct summary summary;
    memset(&summary, 0, sizeof summary);
    if (count < 1) return summary;
    double sum = 0, squares = 0;
    for (int i = 0; i < count; i++) sum += samples[i];
    summary.count = count;
    summary.mean = sum / count;
    for (int i = 0; i < count; i++) squares += (samples[i] - summary.mean) * (samples[i] - summary.mean);
    summary.sd = count > 1 ? sqrt(squares / (count - 1)) : 0;
    summary.cv = summary.mean != 0 ? summary.sd / summary.mean : 0;
    double half_width = count > 1 ? stats_student_t95(count - 1) * summary.sd / sqrt(count) : 0;
    summary.ci95_low = summary.mean - half_width;
    summary.ci95_high = summary.mean + half_width;
    summary.median = stats_percentile(samples, count, 50);
    summary.min = stats_percentile(samples, count, 0);
    summary.max = stats_percentile(samples, count, 100);
    return summary;
}

struct ratio stats_ratio(const struct summary *a, const struct summary *b) {
    struct ratio ratio = {.value = b->mean / a->mean};
    const double va = a->cv * a->cv / a->count, vb = b->cv * b->cv / b->count, v = va + vb;
    if (a->count < 2 || b->count < 2 || !isfinite(v)) return ratio;
    // nu by each side's share of v, which cannot underflow; without any spread it does not matter.
    const double share = v > 0 ? va / v : 0;
    const double nu = 1 / (share * share / (a->count - 1) + (1 - share) * (1 - share) / (b->count - 1));
    const double half_width = stats_student_t95((int)fmax(nu, 1)) * sqrt(v);
    ratio.low = ratio.value * exp(-half_width);
    ratio.high = ratio.value * exp(half_width);
    return ratio;
}
