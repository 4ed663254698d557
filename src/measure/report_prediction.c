#include "measure/report_prediction.h"

#include "measure/metrics.h"
#include "measure/report_grid.h"

#include <math.h>
#include <stb/stb_ds.h>

static void put_number(struct grid_row *cells, int *column, double number) {
    if (number > 0)
        grid_put(cells, column, "%.*f", number >= 1000 ? 0 : number >= 100 ? 1 : number >= 1 ? 2 : 4, number);
    else
        ++*column;
}

static void put_row(struct grid_row *cells, const struct bench_row *row, const struct row_metrics *metrics) {
    const struct prediction *predicted = &metrics->predicted;
    int column = 0;
    grid_put(cells, &column, "%d", row->batch);
    grid_put(cells, &column, "%s", row->kv_cache ? "on" : "off");
    put_number(cells, &column, predicted->tok_s);
    put_number(cells, &column, row->tok_s.median);
    if (metrics->predicted_share > 0)
        grid_put(cells, &column, "%+.0f %%", (metrics->predicted_share - 1) * 100);
    else
        column++;
    put_number(cells, &column, predicted->prefill_ms);
    put_number(cells, &column, row->prefill_ms);
    put_number(cells, &column, predicted->ms_per_step);
    put_number(cells, &column, row->ms_per_step);
}

static void add_columns(struct grid *grid) {
    static const char *const numbers[] = {
        "predicted tok/s", "measured",          "off",     "predicted prefill ms",
        "measured",        "predicted ms/step", "measured"};
    grid_add_column(grid, "batch", false);
    grid_add_column(grid, "cache", true);
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) grid_add_column(grid, numbers[i], false);
}

void report_prediction_write(const struct bench_record *record, bool markdown, FILE *file) {
    struct grid grid = {0};
    double low = INFINITY, high = -INFINITY;
    if (record->machine.rate == 0) return;
    add_columns(&grid);
    for (ptrdiff_t i = 0; i < arrlen(record->rows); i++) {
        const struct row_metrics metrics = row_metrics(record, &record->rows[i]);
        put_row(grid_add_row(&grid), &record->rows[i], &metrics);
        if (metrics.predicted_share == 0) continue;
        low = fmin(low, metrics.predicted_share - 1);
        high = fmax(high, metrics.predicted_share - 1);
    }
    fputs(markdown ? "\n\n" : "\n", file);
    grid_write(&grid, markdown, file);
    grid_free(&grid);
    fputs("\nPredicted by a model of time from the device's ceilings and short runs of one row (where our "
          "own kernels\ndecode, also of the most rows each takes), not from the rows above",
          file);
    if (low <= high) fprintf(file, "; off by %+.0f to %+.0f %% here", low * 100, high * 100);
    fputs(".\n", file);
}
