#include "measure/report_reference.h"

#include "measure/report_grid.h"

#include <stb/stb_ds.h>

static void put_row(struct grid_row *cells, const struct bench_row *row,
                    const struct reference_point *published) {
    int column = 0;
    double tok_s = row->kv_cache ? published->cached_tok_s : published->uncached_tok_s;
    grid_put(cells, &column, "%d", row->batch);
    grid_put(cells, &column, "%s", row->kv_cache ? "on" : "off");
    grid_put(cells, &column, "%.1f", row->tok_s.median);
    grid_put(cells, &column, "%.1f", tok_s);
    grid_put(cells, &column, "%.3g×", row->tok_s.median / tok_s);
    if (!row->kv_cache) return;
    if (row->speedup > 0)
        grid_put(cells, &column, "%.2f×", row->speedup);
    else
        column++;
    grid_put(cells, &column, "%.2f×", published->speedup);
}

void report_reference_write(const struct bench_record *record, const struct reference *reference,
                            bool markdown, FILE *file) {
    static const char *const headers[] = {"batch", "cache",    "tok/s",    "published",
                                          "ratio", "speed-up", "published"};
    struct grid grid = {0};
    bool any = false;
    for (size_t i = 0; i < sizeof headers / sizeof headers[0]; i++)
        grid_add_column(&grid, headers[i], i == 1);
    for (ptrdiff_t i = 0; i < arrlen(record->rows); i++) {
        const struct bench_row *row = &record->rows[i];
        const struct reference_point *published = reference_find(reference, row->batch);
        if (!published || row->tok_s.count == 0) continue;
        put_row(grid_add_row(&grid), row, published);
        any = true;
    }
    fprintf(file, "\nPublished: %s; %s.\nIts model was not GPT-2: %s.\n", reference->source,
            reference->workload, reference->difference);
    if (!any) fputs("None of these batch sizes was both measured and published.\n", file);
    if (any) {
        fputc('\n', file);
        grid_write(&grid, markdown, file);
    }
    grid_free(&grid);
}
