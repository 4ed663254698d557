#include "measure/report_causes.h"

#include "measure/metrics.h"
#include "measure/report_grid.h"

#include <stb/stb_ds.h>

static void put_milliseconds(struct grid_row *cells, int *column, double milliseconds) {
    grid_put(cells, column, "%.*f", milliseconds >= 100 ? 1 : milliseconds >= 1 ? 2 : 4, milliseconds);
}

static void put_percent(struct grid_row *cells, int *column, double share) {
    grid_put(cells, column, "%.*f %%", share < 0.095 ? 1 : 0, share * 100);
}

static void put_row(struct grid_row *cells, const struct bench_row *row, const struct row_metrics *metrics) {
    int column = 0;
    grid_put(cells, &column, "%d", row->batch);
    grid_put(cells, &column, "%s", row->kv_cache ? "on" : "off");
    if (row->step.count > 0) {
        put_milliseconds(cells, &column, row->step.p50);
        put_milliseconds(cells, &column, row->step.p95);
        put_milliseconds(cells, &column, row->step.p99);
        put_percent(cells, &column, metrics->busy_share);
    } else {
        column += 4;
    }
    if (!metrics->against_device) return;
    put_milliseconds(cells, &column, metrics->floor.seconds * 1e3);
    put_percent(cells, &column, metrics->floor_share);
    put_percent(cells, &column, metrics->bandwidth_share);
    put_percent(cells, &column, metrics->matmul_share);
    grid_put(cells, &column, "%s", limit_name(metrics->floor.limit));
}

static void write_steps(const struct bench_record *record, bool markdown, FILE *file) {
    static const char *const device_columns[] = {"floor ms", "% floor", "% bw", "% flop"};
    struct grid grid = {0};
    bool anything = false;
    grid_add_column(&grid, "batch", false);
    grid_add_column(&grid, "cache", true);
    grid_add_column(&grid, "step p50 ms", false);
    grid_add_column(&grid, "p95", false);
    grid_add_column(&grid, "p99", false);
    grid_add_column(&grid, "% busy", false);
    if (record->ceilings.bandwidth > 0) {
        for (int i = 0; i < 4; i++) grid_add_column(&grid, device_columns[i], false);
        grid_add_column(&grid, "bound", true);
    }
    for (ptrdiff_t i = 0; i < arrlen(record->rows); i++) {
        const struct bench_row *row = &record->rows[i];
        const struct row_metrics metrics = row_metrics(record, row);
        if (row->step.count == 0 && !metrics.against_device) continue;
        put_row(grid_add_row(&grid), row, &metrics);
        anything = true;
    }
    if (anything) {
        fputs(markdown ? "\n\n" : "\n", file);
        grid_write(&grid, markdown, file);
    }
    grid_free(&grid);
}

// The smallest and the largest measured speed-up; false when there is none.
static bool speedup_range(const struct bench_record *record, double *low, double *high) {
    *low = *high = 0;
    for (ptrdiff_t i = 0; i < arrlen(record->rows); i++) {
        double speedup = record->rows[i].speedup;
        if (speedup == 0) continue;
        if (*low == 0 || speedup < *low) *low = speedup;
        if (speedup > *high) *high = speedup;
    }
    return *high > 0;
}

static void write_token_steps(const struct bench_record *record, FILE *file) {
    const struct record_workload *workload = &record->workload;
    double low, high;
    if (!speedup_range(record, &low, &high)) return;
    const struct token_steps steps = roofline_token_steps(workload->prompt_len, workload->gen_len);
    fprintf(file,
            "\nCounting token-steps per row (%.0f without the cache, %.0f with it), the cache would be worth "
            "%.1f×.\nMeasured: ",
            steps.uncached, steps.cached, steps.ratio);
    if (low < high)
        fprintf(file, "%.2f× to %.2f×, %.1f to %.1f %% of that.", low, high, low / steps.ratio * 100,
                high / steps.ratio * 100);
    else
        fprintf(file, "%.2f×, %.1f %% of that.", high, high / steps.ratio * 100);
    fputs("\nToken-steps do not cost the same: a cached step reads all weights and the cache to feed one "
          "token per\n"
          "row, an uncached step spreads a reading of the weights over the whole prefix. The more rows share "
          "the\n"
          "reading, the nearer the speed-up comes to the count.\n",
          file);
}

void report_causes_write(const struct bench_record *record, bool markdown, FILE *file) {
    write_steps(record, markdown, file);
    write_token_steps(record, file);
}
