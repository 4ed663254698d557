#include "measure/plot_data.h"

#include <limits.h>
#include <math.h>
#include <stb/stb_ds.h>
#include <stdlib.h>

static int by_batch(const void *left, const void *right) {
    const struct plot_point *a = left, *b = right;
    return (a->batch > b->batch) - (a->batch < b->batch);
}

static int by_value(const void *left, const void *right) {
    const int *a = left, *b = right;
    return (*a > *b) - (*a < *b);
}

static void sort_line(struct plot_point *line) {
    if (arrlen(line) > 1) qsort(line, (size_t)arrlen(line), sizeof *line, by_batch);
}

static struct plot_point plain_point(int batch, enum row_status status, double value) {
    if (!(value > 0) || !isfinite(value)) value = 0;
    return (struct plot_point){.batch = batch, .status = status, .value = value, .low = value, .high = value};
}

static void collect_rows(const struct bench_record *record, struct plot_data *data) {
    bool any_speedup = false;
    for (ptrdiff_t i = 0; i < arrlen(record->rows); i++) {
        const struct bench_row *row = &record->rows[i];
        struct plot_point point = plain_point(row->batch, row->status, row->tok_s.median);
        if (row->tok_s.count > 1 && isfinite(row->tok_s.ci95_low) && isfinite(row->tok_s.ci95_high)) {
            point.low = row->tok_s.ci95_low;
            point.high = row->tok_s.ci95_high;
        }
        arrput(data->tok_s[row->kv_cache], point);
        arrput(data->batches, row->batch);
        if (row->kv_cache) arrput(data->speedup, plain_point(row->batch, row->status, row->speedup));
        any_speedup |= row->kv_cache && row->speedup > 0;
    }
    if (!any_speedup) arrfree(data->speedup);
    sort_line(data->tok_s[false]);
    sort_line(data->tok_s[true]);
    sort_line(data->speedup);
}

static void collect_reference(const struct reference *reference, struct plot_data *data) {
    for (int i = 0; i < reference->count; i++) {
        const struct reference_point *point = &reference->points[i];
        if (data->tok_s[false])
            arrput(data->published_tok_s[false], plain_point(point->batch, ROW_OK, point->uncached_tok_s));
        if (data->tok_s[true])
            arrput(data->published_tok_s[true], plain_point(point->batch, ROW_OK, point->cached_tok_s));
        if (data->speedup) arrput(data->published_speedup, plain_point(point->batch, ROW_OK, point->speedup));
        arrput(data->batches, point->batch);
    }
}

static void sort_batches(struct plot_data *data) {
    size_t count = (size_t)arrlen(data->batches), distinct = 0;
    if (count > 1) qsort(data->batches, count, sizeof *data->batches, by_value);
    for (size_t i = 0; i < count; i++) {
        if (distinct == 0 || data->batches[i] != data->batches[distinct - 1])
            data->batches[distinct++] = data->batches[i];
    }
    if (count > 0) arrsetlen(data->batches, distinct);
    data->lowest_batch = distinct ? data->batches[0] : 1;
    data->highest_batch = distinct ? data->batches[distinct - 1] : 1;
    if (data->lowest_batch < data->highest_batch) return;
    data->lowest_batch /= 2; // one batch size stands in the middle
    data->highest_batch *= 2;
}

// The whole generation at the pace that the ceilings allow.
static double ceiling_tok_s(const struct bench_record *record, bool kv_cache, int batch) {
    const struct record_workload *workload = &record->workload;
    const struct generation_shape shape = {.config = &record->model.config,
                                           .dtype = workload->dtype,
                                           .logits = workload->logits,
                                           .kv_cache = kv_cache,
                                           .batch = batch,
                                           .prompt_len = workload->prompt_len,
                                           .gen_len = workload->gen_len};
    const struct cost prefill = roofline_prefill(&shape), step = roofline_mean_step(&shape);
    double seconds = roofline_floor(&prefill, &record->ceilings).seconds +
                     (workload->gen_len - 1) * roofline_floor(&step, &record->ceilings).seconds;
    return (double)batch * workload->gen_len / seconds;
}

static void collect_ceiling(const struct bench_record *record, bool kv_cache, struct plot_data *data) {
    enum { steps = 48 };
    int before = 0;
    for (int i = 0; i <= steps; i++) {
        double batch = data->lowest_batch * pow(data->highest_batch / data->lowest_batch, (double)i / steps);
        int rounded = batch < 1 ? 1 : batch > INT_MAX ? INT_MAX : (int)lround(batch);
        if (rounded == before) continue;
        before = rounded;
        arrput(data->ceiling[kv_cache],
               plain_point(rounded, ROW_OK, ceiling_tok_s(record, kv_cache, rounded)));
    }
}

struct plot_data plot_data_collect(const struct bench_record *record, const struct reference *reference) {
    struct plot_data data = {0};
    collect_rows(record, &data);
    if (reference) collect_reference(reference, &data);
    sort_batches(&data);
    for (int kv_cache = 0; kv_cache < 2; kv_cache++) {
        if (data.tok_s[kv_cache] && record->ceilings.bandwidth > 0) collect_ceiling(record, kv_cache, &data);
    }
    return data;
}

void plot_data_free(struct plot_data *data) {
    for (int kv_cache = 0; kv_cache < 2; kv_cache++) {
        arrfree(data->tok_s[kv_cache]);
        arrfree(data->ceiling[kv_cache]);
        arrfree(data->published_tok_s[kv_cache]);
    }
    arrfree(data->speedup);
    arrfree(data->published_speedup);
    arrfree(data->batches);
    *data = (struct plot_data){0};
}

void plot_data_range(const struct plot_point *line, double *low, double *high) {
    for (ptrdiff_t i = 0; i < arrlen(line); i++) {
        if (line[i].value == 0) continue;
        // A wild interval does not squeeze the points: it is cut at the edge.
        double least = fmax(line[i].low, line[i].value / 3), most = fmin(line[i].high, line[i].value * 3);
        least = fmin(least, line[i].value);
        most = fmax(most, line[i].value);
        if (*low == 0 || least < *low) *low = least;
        if (most > *high) *high = most;
    }
}
