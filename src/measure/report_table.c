#include "measure/report_table.h"

#include "measure/metrics.h"
#include "measure/report_causes.h"
#include "measure/report_cost.h"
#include "measure/report_grid.h"
#include "measure/report_prediction.h"
#include "measure/report_sensors.h"

#include <inttypes.h>
#include <stb/stb_ds.h>
#include <string.h>

// Rates over many orders of magnitude with about four digits.
static void put_rate(struct grid_row *row, int *column, double rate) {
    grid_put(row, column, "%.*f", rate >= 1000 ? 0 : rate >= 100 ? 1 : rate >= 1 ? 2 : 4, rate);
}

static void put_milliseconds(struct grid_row *row, int *column, double milliseconds) {
    grid_put(row, column, "%.*f", milliseconds >= 100 ? 1 : milliseconds >= 1 ? 2 : 4, milliseconds);
}

// "2.07 TB/s"
static void write_rate(FILE *file, double rate, const char *unit) {
    static const char prefixes[] = {' ', 'k', 'M', 'G', 'T', 'P'};
    size_t step = 0;
    while (rate >= 1000 && step + 1 < sizeof prefixes) {
        rate /= 1000;
        step++;
    }
    fprintf(file, "%.3g %c%s", rate, prefixes[step], unit);
}

static void write_ceilings(const struct ceilings *ceilings, FILE *file) {
    fputs("ceilings  ", file);
    write_rate(file, ceilings->bandwidth, "B/s read, ");
    write_rate(file, ceilings->matmul_rate, "FLOP/s matrix product, ");
    fprintf(file, "%.3g us per operation; all measured\n", ceilings->launch * 1e6);
}

static void write_header(const struct bench_record *record, FILE *file) {
    const struct record_model *model = &record->model;
    const struct record_workload *workload = &record->workload;
    fprintf(file, "engine    gpt2infer %s%s%s%s, %s\n", record->engine.version,
            record->engine.commit[0] ? " (" : "", record->engine.commit, record->engine.commit[0] ? ")" : "",
            record->engine.compiler);
    fprintf(file, "device    %s (%s)\n", record->device.name, record->device.detail);
    fprintf(file, "model     %s, %.1f M parameters: L %d, C %d, H %d, V %d\n", model->name,
            (double)model->parameters / 1e6, model->config.layers, model->config.channels,
            model->config.heads, model->config.vocab);
    fprintf(file,
            "workload  %d prompt + %d new tokens per row, %s%s, greedy, logits %s, seed %" PRIu64
            ", %d warm-up run%s\n",
            workload->prompt_len, workload->gen_len, dtype_name(workload->dtype),
            workload->deterministic ? ", deterministic" : "", logits_mode_name(workload->logits),
            workload->seed, workload->warmup, workload->warmup == 1 ? "" : "s");
    fputs("timed     from prompt ids on the host to the last new id on the host; tok/s counts new tokens\n",
          file);
    if (record->ceilings.bandwidth > 0) write_ceilings(&record->ceilings, file);
    if (arrlen(record->discovery.trail) > 0) {
        fputs("batch     ", file);
        discovery_write_answer(&record->discovery, file);
        fputc('\n', file);
    }
}

// Which optional columns there is something to say in.
struct columns {
    bool against_device;
    bool speedup;
    bool remarks;
};

// Both arms carry the verdict; it is told once, beside the cached one.
static bool tells_of_near_ties(const struct bench_row *row) {
    return row->kv_cache && row->agreement.verdict == AGREEMENT_NEAR_TIE;
}

static bool has_remark(const struct bench_row *row) {
    return row->reason[0] || row->note[0] || tells_of_near_ties(row) || row->sensors.throttled ||
           row->sensors.other_processes > 0;
}

static struct columns find_columns(const struct bench_record *record) {
    struct columns columns = {.against_device = record->ceilings.bandwidth > 0};
    for (ptrdiff_t i = 0; i < arrlen(record->rows); i++) {
        columns.speedup |= record->rows[i].speedup > 0;
        columns.remarks |= has_remark(&record->rows[i]);
    }
    return columns;
}

enum { first_optional_column = 6 };

static void add_columns(struct grid *grid, const struct columns *columns) {
    grid_add_column(grid, "batch", false);
    grid_add_column(grid, "cache", true);
    grid_add_column(grid, "tok/s ± sd", false);
    grid_add_column(grid, "tok/s/row", false);
    grid_add_column(grid, "prefill ms", false);
    grid_add_column(grid, "ms/step", false);
    if (columns->against_device) grid_add_column(grid, "% bw", false);
    if (columns->speedup) grid_add_column(grid, "speed-up", false);
    grid_add_column(grid, "tokens", true);
    if (columns->remarks) grid_add_column(grid, "", true);
}

static void put_throughput(struct grid_row *cells, int *column, const struct bench_row *row) {
    char *cell = cells->cells[*column];
    put_rate(cells, column, row->tok_s.median);
    size_t length = strlen(cell);
    if (row->reps > 1) snprintf(cell + length, GRID_CELL - length, " ± %.1f %%", row->tok_s.cv * 100);
    if (row->reps == 0) snprintf(cell + length, GRID_CELL - length, " partial");
}

// Throughput, throughput per row, time to first token, time per step.
static void put_times(struct grid_row *cells, int column, const struct bench_row *row) {
    put_throughput(cells, &column, row);
    put_rate(cells, &column, row->tok_s_per_row);
    put_milliseconds(cells, &column, row->prefill_ms);
    if (row->ms_per_step > 0) put_milliseconds(cells, &column, row->ms_per_step);
}

static void put_row(struct grid_row *cells, const struct bench_record *record, const struct bench_row *row,
                    const struct columns *columns, int footnote) {
    const struct row_metrics metrics = row_metrics(record, row);
    int column = 0;
    grid_put(cells, &column, "%d", row->batch);
    grid_put(cells, &column, "%s", row->kv_cache ? "on" : "off");
    if (row->tok_s.count == 0)
        grid_put(cells, &column, "%s", row_status_name(row->status));
    else
        put_times(cells, column, row);
    column = first_optional_column;
    if (columns->against_device && metrics.against_device)
        grid_put(cells, &column, "%.0f %%", metrics.bandwidth_share * 100);
    else if (columns->against_device)
        column++;
    if (columns->speedup && row->speedup > 0)
        grid_put(cells, &column, "%.2f×", row->speedup);
    else if (columns->speedup)
        column++;
    grid_put(cells, &column, "%s", row->token_hash);
    if (footnote > 0) grid_put(cells, &column, "[%d]", footnote);
}

static void write_footnote(const struct bench_row *row, int footnote, FILE *file) {
    fprintf(file, "[%d] ", footnote);
    const char *between = "";
    if (row->status != ROW_OK) {
        fprintf(file, "%s: %s", row_status_name(row->status), row->reason);
        between = "; ";
    }
    if (row->note[0]) {
        fprintf(file, "%s%s", between, row->note);
        between = "; ";
    }
    if (row->sensors.throttled) {
        fprintf(file, "%sthe device was throttled (%s)", between, row->sensors.clock_limits);
        between = "; ";
    }
    if (row->sensors.other_processes > 0) {
        fprintf(file, "%sthe device was shared with %d other compute process%s", between,
                row->sensors.other_processes, row->sensors.other_processes == 1 ? "" : "es");
        between = "; ";
    }
    if (tells_of_near_ties(row))
        fprintf(file,
                "%sthe arms part in %d of %d rows, all at near-ties: logits at most %.2g apart where "
                "rounding explains %.2g",
                between, row->agreement.differing_rows, row->batch, row->agreement.logit_gap,
                row->agreement.rounding_allows);
    fputc('\n', file);
}

static bool arms_agree_everywhere(const struct bench_record *record) {
    for (ptrdiff_t i = 0; i < arrlen(record->rows); i++) {
        if (record->rows[i].speedup > 0 && record->rows[i].agreement.verdict != AGREEMENT_SAME) return false;
    }
    return true;
}

void report_table_write(const struct bench_record *record, bool markdown, FILE *file) {
    const struct columns columns = find_columns(record);
    struct grid grid = {0};
    int footnotes = 0;
    add_columns(&grid, &columns);
    for (ptrdiff_t i = 0; i < arrlen(record->rows); i++) {
        const struct bench_row *row = &record->rows[i];
        put_row(grid_add_row(&grid), record, row, &columns, has_remark(row) ? ++footnotes : 0);
    }
    if (markdown) fputs("```\n", file);
    write_header(record, file);
    fputs(markdown ? "```\n\n" : "\n", file);
    grid_write(&grid, markdown, file);
    if (columns.speedup && arms_agree_everywhere(record))
        fputs("\nBoth arms generated the same tokens in every row.\n", file);
    report_causes_write(record, markdown, file);
    report_prediction_write(record, markdown, file);
    report_cost_write(record, markdown, file);
    report_sensors_write(record, markdown, file);
    if (footnotes > 0) fputc('\n', file);
    footnotes = 0;
    for (ptrdiff_t i = 0; i < arrlen(record->rows); i++) {
        if (!has_remark(&record->rows[i])) continue;
        if (markdown && footnotes > 0) fputc('\n', file); // each its own paragraph
        write_footnote(&record->rows[i], ++footnotes, file);
    }
    grid_free(&grid);
}
