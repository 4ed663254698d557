#include "measure/compare_report.h"

#include "measure/report_grid.h"
#include "measure/report_values.h"

#include <stb/stb_ds.h>

// ---- for programs

static json_t *side_json(const char *file, const struct bench_record *record) {
    return json_pack("{s:o, s:s, s:s, s:o, s:o, s:o}", "file", report_text(file), "version",
                     record->engine.version, "commit", record->engine.commit, "device",
                     report_text(record->device.name), "device_detail", report_text(record->device.detail),
                     "model", report_text(record->model.name));
}

static json_t *row_json(const struct comparison_row *row) {
    bool known = row->ratio.value > 0, interval_known = row->ratio.low > 0;
    return json_pack("{s:i, s:s, s:o, s:o, s:i, s:i, s:o, s:o, s:o, s:s, s:o}", "batch", row->batch,
                     "kvcache", row->kv_cache ? "on" : "off", "old_tok_s_mean",
                     report_known(known ? row->before->tok_s.mean : 0, known), "new_tok_s_mean",
                     report_known(known ? row->after->tok_s.mean : 0, known), "old_reps",
                     row->before ? row->before->reps : 0, "new_reps", row->after ? row->after->reps : 0,
                     "ratio", report_known(row->ratio.value, known), "ratio_ci95_low",
                     report_known(row->ratio.low, interval_known), "ratio_ci95_high",
                     report_known(row->ratio.high, interval_known), "verdict", verdict_name(row->verdict),
                     "note", report_text(row->note));
}

static json_t *shared_json(const struct comparison *comparison) {
    const struct record_workload *workload = &comparison->after->workload;
    return json_pack("{s:s, s:o, s:o, s:b, s:f, s:{s:i, s:i, s:s, s:s}}", "schema", "gpt2infer.compare/1",
                     "old", side_json(comparison->before_name, comparison->before), "new",
                     side_json(comparison->after_name, comparison->after), "same_device",
                     comparison->same_device, "threshold", comparison->threshold, "workload", "prompt_len",
                     workload->prompt_len, "gen_len", workload->gen_len, "dtype", dtype_name(workload->dtype),
                     "logits", logits_mode_name(workload->logits));
}

static json_t *document_json(const struct comparison *comparison) {
    json_t *rows = json_array();
    for (ptrdiff_t i = 0; i < arrlen(comparison->rows); i++)
        json_array_append_new(rows, row_json(&comparison->rows[i]));
    bool complete = rows && json_array_size(rows) == (size_t)arrlen(comparison->rows);
    json_t *document = shared_json(comparison);
    const int *counts = comparison->counts;
    json_t *verdicts =
        json_pack("{s:i, s:i, s:i, s:i}", "faster", counts[VERDICT_FASTER], "slower", counts[VERDICT_SLOWER],
                  "same", counts[VERDICT_SAME], "can't tell", counts[VERDICT_CANNOT_TELL]);
    // Either call takes its reference whatever happens.
    complete &= json_object_set_new(document, "verdicts", verdicts) == 0;
    complete &= json_object_set_new(document, "rows", rows) == 0;
    if (complete) return document;
    json_decref(document);
    return NULL;
}

// A row and what all rows share beside it.
static json_t *line_json(const struct comparison *comparison, const struct comparison_row *row) {
    json_t *line = shared_json(comparison), *fields = row_json(row);
    bool complete = line && fields && json_object_update(line, fields) == 0;
    json_decref(fields);
    if (complete) return line;
    json_decref(line);
    return NULL;
}

static enum status write_lines(const struct comparison *comparison, bool csv, FILE *file,
                               struct error *error) {
    for (ptrdiff_t i = 0; i < arrlen(comparison->rows); i++) {
        json_t *line = line_json(comparison, &comparison->rows[i]);
        if (!csv) {
            TRY(report_write_json(line, JSON_COMPACT, file, error));
            continue;
        }
        if (!line) return error_set(error, STATUS_OUT_OF_MEMORY, "no host memory for the report");
        if (i == 0) report_write_csv_line(line, true, file);
        report_write_csv_line(line, false, file);
        json_decref(line);
    }
    return STATUS_OK;
}

// ---- for a person

static void write_side(const char *side, const char *file, const struct bench_record *record, FILE *out) {
    const char *commit = record->engine.commit;
    fprintf(out, "%s       %s: gpt2infer %s%s%s%s, %s (%s)\n", side, file, record->engine.version,
            commit[0] ? " (" : "", commit, commit[0] ? ")" : "", record->device.name, record->device.detail);
}

static void write_header(const struct comparison *comparison, FILE *file) {
    const struct bench_record *before = comparison->before, *after = comparison->after;
    const struct record_workload *workload = &after->workload;
    write_side("old", comparison->before_name, before, file);
    write_side("new", comparison->after_name, after, file);
    fprintf(file, "model     %s: L %d, C %d, H %d, V %d\n", after->model.name, after->model.config.layers,
            after->model.config.channels, after->model.config.heads, after->model.config.vocab);
    fprintf(file, "workload  %d prompt + %d new tokens per row, %s, logits %s\n", workload->prompt_len,
            workload->gen_len, dtype_name(workload->dtype), logits_mode_name(workload->logits));
    if (!comparison->same_device)
        fputs("\nTHE DEVICES DIFFER: this compares machines, not versions of the engine.\n", file);
}

static void put_mean(struct grid_row *cells, int *column, const struct bench_row *row) {
    double mean = row && row->tok_s.count > 0 ? row->tok_s.mean : 0;
    if (mean > 0)
        grid_put(cells, column, "%.*f", mean >= 1000 ? 0 : mean >= 100 ? 1 : mean >= 1 ? 2 : 4, mean);
    else
        grid_put(cells, column, "%s", row ? row_status_name(row->status) : "");
}

static void put_row(struct grid_row *cells, const struct comparison_row *row, int footnote) {
    int column = 0;
    grid_put(cells, &column, "%d", row->batch);
    grid_put(cells, &column, "%s", row->kv_cache ? "on" : "off");
    put_mean(cells, &column, row->before);
    put_mean(cells, &column, row->after);
    if (row->ratio.value > 0)
        grid_put(cells, &column, "%.3f", row->ratio.value);
    else
        column++;
    if (row->ratio.low > 0)
        grid_put(cells, &column, "%.3f .. %.3f", row->ratio.low, row->ratio.high);
    else
        column++;
    grid_put(cells, &column, "%s", verdict_name(row->verdict));
    if (footnote > 0) grid_put(cells, &column, "[%d]", footnote);
}

static void write_grid(const struct comparison *comparison, bool markdown, FILE *file) {
    struct grid grid = {0};
    int footnotes = 0;
    grid_add_column(&grid, "batch", false);
    grid_add_column(&grid, "cache", true);
    grid_add_column(&grid, "old tok/s", false);
    grid_add_column(&grid, "new tok/s", false);
    grid_add_column(&grid, "new/old", false);
    grid_add_column(&grid, "95 % interval", false);
    grid_add_column(&grid, "verdict", true);
    grid_add_column(&grid, "", true);
    for (ptrdiff_t i = 0; i < arrlen(comparison->rows); i++) {
        const struct comparison_row *row = &comparison->rows[i];
        put_row(grid_add_row(&grid), row, row->note[0] ? ++footnotes : 0);
    }
    grid_write(&grid, markdown, file);
    grid_free(&grid);
}

static void write_footer(const struct comparison *comparison, bool markdown, FILE *file) {
    const int *counts = comparison->counts;
    fprintf(file, "\n%d faster, %d slower, %d same, %d can't tell; ", counts[VERDICT_FASTER],
            counts[VERDICT_SLOWER], counts[VERDICT_SAME], counts[VERDICT_CANNOT_TELL]);
    fprintf(file,
            "differences within %.3g %% do not matter.\n"
            "tok/s are means. The interval knows the noise within each run, not what changes between runs.\n",
            comparison->threshold * 100);
    int footnotes = 0;
    for (ptrdiff_t i = 0; i < arrlen(comparison->rows); i++) {
        if (!comparison->rows[i].note[0]) continue;
        if (markdown || footnotes == 0) fputc('\n', file); // in Markdown each its own paragraph
        fprintf(file, "[%d] %s\n", ++footnotes, comparison->rows[i].note);
    }
}

static void write_table(const struct comparison *comparison, bool markdown, FILE *file) {
    if (markdown) fputs("```\n", file);
    write_header(comparison, file);
    fputs(markdown ? "```\n\n" : "\n", file);
    write_grid(comparison, markdown, file);
    write_footer(comparison, markdown, file);
}

enum status compare_write(const struct comparison *comparison, enum report_format format, FILE *file,
                          struct error *error) {
    switch (format) {
    case REPORT_CSV:
        return write_lines(comparison, true, file, error);
    case REPORT_JSONL:
        return write_lines(comparison, false, file, error);
    case REPORT_JSON:
        return report_write_json(document_json(comparison), JSON_INDENT(2), file, error);
    case REPORT_TABLE:
        write_table(comparison, false, file);
        break;
    case REPORT_MARKDOWN:
        write_table(comparison, true, file);
        break;
    }
    return STATUS_OK;
}
