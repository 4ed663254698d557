#include "measure/plot_scale.h"

#include <math.h>

struct scale scale_logarithmic(double low, double high, double margin, double least) {
    struct scale scale = {.logarithmic = true, .low = log10(low), .high = log10(high)};
    double room = fmax((scale.high - scale.low) * margin, least);
    scale.low -= room;
    scale.high += room;
    return scale;
}

struct scale scale_linear(double high) {
    return (struct scale){.low = 0, .high = high * 1.08};
}

double scale_place(const struct scale *scale, double value) {
    double share = ((scale->logarithmic ? log10(value) : value) - scale->low) / (scale->high - scale->low);
    return scale->from + fmin(fmax(share, 0), 1) * (scale->to - scale->from);
}

static void add_tick(struct ticks *ticks, const struct scale *scale, double value) {
    double at = scale->logarithmic ? log10(value) : value;
    double slack = (scale->high - scale->low) * 1e-9;
    if (ticks->count < MOST_TICKS && at >= scale->low - slack && at <= scale->high + slack)
        ticks->values[ticks->count++] = value;
}

// The least of 1, 2, 5 times a power of ten that is not below `step`.
static double round_step(double step) {
    double power = pow(10, floor(log10(step)));
    for (int i = 0; i < 2; i++) {
        double round = power * (i == 0 ? 1 : 2);
        if (round >= step * (1 - 1e-9)) return round;
    }
    return power * 5 >= step * (1 - 1e-9) ? power * 5 : power * 10;
}

static void add_even_ticks(struct ticks *ticks, const struct scale *scale, double low, double high) {
    double step = round_step((high - low) / 6), first = ceil(low / step - 1e-9);
    for (int i = 0; i < MOST_TICKS; i++) add_tick(ticks, scale, (first + i) * step);
}

struct ticks scale_ticks(const struct scale *scale) {
    struct ticks ticks = {0};
    double decades = scale->high - scale->low;
    if (!scale->logarithmic || decades < 0.7) {
        add_even_ticks(&ticks, scale, scale->logarithmic ? pow(10, scale->low) : scale->low,
                       scale->logarithmic ? pow(10, scale->high) : scale->high);
        return ticks;
    }
    double stride = ceil(decades / 8);
    for (double power = floor(scale->low / stride) * stride; power <= scale->high; power += stride) {
        add_tick(&ticks, scale, pow(10, power));
        if (decades >= 3) continue;
        add_tick(&ticks, scale, 2 * pow(10, power));
        add_tick(&ticks, scale, 5 * pow(10, power));
    }
    return ticks;
}

static bool apart(const double *places, const double *widths, int left, int right, double gap) {
    return places[right] - widths[right] / 2 - (places[left] + widths[left] / 2) >= gap;
}

void scale_thin_labels(const double *places, const double *widths, int count, double gap, bool *shown) {
    int last = count - 1, before = 0;
    for (int i = 0; i < count; i++) {
        shown[i] = i == 0 || (apart(places, widths, before, i, gap) &&
                              (i == last || apart(places, widths, i, last, gap)));
        if (shown[i]) before = i;
    }
}
