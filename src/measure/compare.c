#include "measure/compare.h"

#include <stb/stb_ds.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char *verdict_name(enum verdict verdict) {
    static const char *const names[] = {"same", "faster", "slower", "can't tell"};
    return names[verdict];
}

// ---- may they be compared?

// One difference on a line of its own.
static void __attribute__((format(printf, 2, 3))) tell(struct error *error, const char *format, ...) {
    size_t length = strlen(error->message);
    if (length + 4 >= sizeof error->message) return;
    memcpy(error->message + length, "\n  ", 4);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error->message + length + 3, sizeof error->message - length - 3, format, arguments);
    va_end(arguments);
}

static int tell_int(struct error *error, const char *what, int before, int after) {
    if (before == after) return 0;
    tell(error, "%s: old %d, new %d", what, before, after);
    return 1;
}

static int tell_text(struct error *error, const char *what, const char *before, const char *after) {
    if (strcmp(before, after) == 0) return 0;
    tell(error, "%s: old %s, new %s", what, before, after);
    return 1;
}

static const char *yes_no(bool value) {
    return value ? "yes" : "no";
}

// What a row's time depends on; the values of the weights are not among it, so names may differ.
static int tell_model(struct error *error, const struct gpt2_config *before,
                      const struct gpt2_config *after) {
    return tell_int(error, "model's layers", before->layers, after->layers) +
           tell_int(error, "model's heads", before->heads, after->heads) +
           tell_int(error, "model's channels", before->channels, after->channels) +
           tell_int(error, "model's MLP width", before->inner, after->inner) +
           tell_int(error, "model's vocabulary", before->vocab, after->vocab) +
           tell_int(error, "model's context", before->context, after->context) +
           tell_text(error, "model's LM head tied", yes_no(before->tied_lm_head),
                     yes_no(after->tied_lm_head));
}

static int tell_workload(struct error *error, const struct record_workload *before,
                         const struct record_workload *after) {
    return tell_text(error, "dtype", dtype_name(before->dtype), dtype_name(after->dtype)) +
           tell_int(error, "prompt tokens per row", before->prompt_len, after->prompt_len) +
           tell_int(error, "new tokens per row", before->gen_len, after->gen_len) +
           tell_text(error, "logits", logits_mode_name(before->logits), logits_mode_name(after->logits)) +
           tell_text(error, "products chosen by rule", yes_no(before->deterministic),
                     yes_no(after->deterministic));
}

static enum status check_alike(const struct comparison *comparison, struct error *error) {
    const struct bench_record *before = comparison->before, *after = comparison->after;
    enum status refusal =
        error_set(error, STATUS_USAGE, "%.400s and %.400s measured different work:", comparison->before_name,
                  comparison->after_name);
    int differences = tell_model(error, &before->model.config, &after->model.config) +
                      tell_workload(error, &before->workload, &after->workload);
    if (differences > 0) return refusal;
    error->message[0] = '\0';
    return STATUS_OK;
}

// ---- rows

// Interrupted before its first repetition was complete, a row tells only of its first tokens.
static bool has_figures(const struct bench_row *row) {
    return row->reps > 0 && row->tok_s.count > 0 && (row->status == ROW_OK || row->status == ROW_PARTIAL);
}

static bool is_broken(const struct bench_row *row) {
    return row->status == ROW_OUT_OF_MEMORY || row->status == ROW_FAILED || row->status == ROW_MISMATCH;
}

static void __attribute__((format(printf, 2, 3))) note(struct comparison_row *row, const char *format, ...) {
    size_t length = strlen(row->note);
    if (length > 0) length += (size_t)snprintf(row->note + length, sizeof row->note - length, "; ");
    if (length >= sizeof row->note) return;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(row->note + length, sizeof row->note - length, format, arguments);
    va_end(arguments);
}

static void note_side(struct comparison_row *row, const char *side, const struct bench_row *measured) {
    if (!has_figures(measured))
        note(row, "%s: %s: %.*s", side, row_status_name(measured->status),
             (int)strcspn(measured->reason, "\n"), measured->reason);
    else if (measured->tok_s.count < 2)
        note(row, "%s: one repetition has no spread", side);
    if (measured->sensors.throttled) note(row, "%s: the device was throttled", side);
    if (measured->sensors.other_processes > 0) note(row, "%s: the device was shared", side);
}

static enum verdict judge_ratio(const struct ratio *ratio, double threshold) {
    if (ratio->low >= 1 - threshold && ratio->high <= 1 + threshold) return VERDICT_SAME;
    if (ratio->low > 1 && ratio->value > 1 + threshold) return VERDICT_FASTER;
    if (ratio->high < 1 && ratio->value < 1 - threshold) return VERDICT_SLOWER;
    return VERDICT_CANNOT_TELL;
}

static enum verdict judge(struct comparison_row *row, double threshold) {
    if (!row->before || !row->after) {
        note(row, "only in the %s record", row->before ? "old" : "new");
        return VERDICT_CANNOT_TELL;
    }
    note_side(row, "old", row->before);
    note_side(row, "new", row->after);
    if (has_figures(row->before) && is_broken(row->after)) return VERDICT_SLOWER;
    if (is_broken(row->before) && has_figures(row->after)) return VERDICT_FASTER;
    if (!has_figures(row->before) || !has_figures(row->after)) return VERDICT_CANNOT_TELL;
    row->ratio = stats_ratio(&row->before->tok_s, &row->after->tok_s);
    return row->ratio.low > 0 ? judge_ratio(&row->ratio, threshold) : VERDICT_CANNOT_TELL;
}

// A batch size may have been measured more than once: each row has one partner.
static bool is_partner(const struct comparison_row *row, const struct bench_row *after) {
    return row->before && !row->after && row->batch == after->batch && row->kv_cache == after->kv_cache;
}

static void pair_rows(struct comparison *comparison) {
    const struct bench_record *before = comparison->before, *after = comparison->after;
    for (ptrdiff_t i = 0; i < arrlen(before->rows); i++) {
        const struct bench_row *row = &before->rows[i];
        struct comparison_row pair = {.batch = row->batch, .kv_cache = row->kv_cache, .before = row};
        arrput(comparison->rows, pair);
    }
    for (ptrdiff_t i = 0; i < arrlen(after->rows); i++) {
        const struct bench_row *row = &after->rows[i];
        ptrdiff_t partner = 0;
        while (partner < arrlen(comparison->rows) && !is_partner(&comparison->rows[partner], row)) partner++;
        if (partner < arrlen(comparison->rows)) {
            comparison->rows[partner].after = row;
            continue;
        }
        struct comparison_row single = {.batch = row->batch, .kv_cache = row->kv_cache, .after = row};
        arrput(comparison->rows, single);
    }
}

enum status compare_records(struct comparison *comparison, struct error *error) {
    TRY(check_alike(comparison, error));
    const struct device_info *before = &comparison->before->device, *after = &comparison->after->device;
    comparison->same_device = strcmp(before->name, after->name) == 0 &&
                              before->compute_units == after->compute_units &&
                              before->memory_bytes == after->memory_bytes;
    pair_rows(comparison);
    for (ptrdiff_t i = 0; i < arrlen(comparison->rows); i++) {
        struct comparison_row *row = &comparison->rows[i];
        row->verdict = judge(row, comparison->threshold);
        comparison->counts[row->verdict]++;
    }
    return STATUS_OK;
}

void compare_clear(struct comparison *comparison) {
    arrfree(comparison->rows);
}
