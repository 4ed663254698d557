#include "measure/report_cost.h"

#include "measure/report_grid.h"

#include <stb/stb_ds.h>

// Amounts over many orders of magnitude with three digits or more.
static void put_amount(struct grid_row *cells, int *column, double amount) {
    grid_put(cells, column, "%.*f", amount >= 100 ? 0 : amount >= 1 ? 2 : amount >= 0.01 ? 4 : 6, amount);
}

static void put_row(struct grid_row *cells, const struct bench_record *record, const struct bench_row *row) {
    const struct pricing *pricing = &record->pricing;
    const struct serving_cost cost =
        serving_cost(pricing, row->batch, record->workload.gen_len, row->tok_s.median);
    int column = 0;
    grid_put(cells, &column, "%d", row->batch);
    grid_put(cells, &column, "%s", row->kv_cache ? "on" : "off");
    if (pricing->device_hour_usd > 0) put_amount(cells, &column, cost.usd_per_million_tokens);
    if (pricing->requests_per_day == 0) return;
    put_amount(cells, &column, cost.device_hours_per_day);
    if (pricing->device_hour_usd > 0) put_amount(cells, &column, cost.usd_per_day);
    put_amount(cells, &column, cost.concurrent_requests);
}

static void write_question(const struct bench_record *record, FILE *file) {
    const struct pricing *pricing = &record->pricing;
    fputs("Cost", file);
    if (pricing->device_hour_usd > 0) fprintf(file, " at %.6g USD per device hour", pricing->device_hour_usd);
    if (pricing->requests_per_day > 0)
        fprintf(file, "%s %.10g requests of %d + %d tokens a day",
                pricing->device_hour_usd > 0 ? ", for" : " for", pricing->requests_per_day,
                record->workload.prompt_len, record->workload.gen_len);
    fputs(":\n\n", file);
}

void report_cost_write(const struct bench_record *record, bool markdown, FILE *file) {
    const struct pricing *pricing = &record->pricing;
    if (pricing->device_hour_usd == 0 && pricing->requests_per_day == 0) return;
    struct grid grid = {0};
    grid_add_column(&grid, "batch", false);
    grid_add_column(&grid, "cache", true);
    if (pricing->device_hour_usd > 0) grid_add_column(&grid, "usd/1M tok", false);
    if (pricing->requests_per_day > 0) {
        grid_add_column(&grid, "hours/day", false);
        if (pricing->device_hour_usd > 0) grid_add_column(&grid, "usd/day", false);
        grid_add_column(&grid, "in flight", false);
    }
    for (ptrdiff_t i = 0; i < arrlen(record->rows); i++) {
        if (record->rows[i].tok_s.count > 0) put_row(grid_add_row(&grid), record, &record->rows[i]);
    }
    if (arrlen(grid.rows) > 1) {
        fputc('\n', file);
        write_question(record, file);
        grid_write(&grid, markdown, file);
    }
    grid_free(&grid);
}
