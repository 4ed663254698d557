#include "measure/bench.h"

#include "base/clock.h"
#include "measure/point.h"
#include "measure/stop_rule.h"

#include <stb/stb_ds.h>
#include <stdio.h>
#include <string.h>

const char *bench_phase_name(enum bench_phase phase) {
    static const char *const names[] = {"opening", "warm-up", "measuring", "timing steps", "comparing"};
    return names[phase];
}

static enum status check_options(const struct gpt2_config *config, const struct bench_options *options,
                                 struct error *error) {
    if (options->batch_count < 1) return error_set(error, STATUS_USAGE, "--batch: no batch size is given");
    for (int i = 0; i < options->batch_count; i++) {
        if (options->batches[i] < 1)
            return error_set(error, STATUS_USAGE, "--batch: expected sizes from 1, found %d",
                             options->batches[i]);
    }
    if (options->prompt_len < 1)
        return error_set(error, STATUS_USAGE, "--prompt-len: expected at least 1, found %d",
                         options->prompt_len);
    if (options->gen_len < 1)
        return error_set(error, STATUS_USAGE, "--gen-len: expected at least 1, found %d", options->gen_len);
    if (options->prompt_len > config->context - options->gen_len) {
        return error_set(error, STATUS_USAGE,
                         "--prompt-len %d and --gen-len %d make %lld tokens: this model's context holds %d",
                         options->prompt_len, options->gen_len,
                         (long long)options->prompt_len + options->gen_len, config->context);
    }
    if (options->reps < 0)
        return error_set(error, STATUS_USAGE, "--reps: expected at least 1, found %d", options->reps);
    if (!(options->noise >= 0))
        return error_set(error, STATUS_USAGE, "--noise: expected a fraction from 0, found %g",
                         options->noise);
    if (!(options->max_seconds >= 0))
        return error_set(error, STATUS_USAGE, "--max-time: expected seconds from 0, found %g",
                         options->max_seconds);
    if (options->warmup < 0)
        return error_set(error, STATUS_USAGE, "--warmup: expected at least 0, found %d", options->warmup);
    return STATUS_OK;
}

static void add_rows(struct bench_record *record, const struct bench_options *options) {
    for (int i = 0; i < options->batch_count; i++) {
        for (int off = 0; off < 2; off++) {
            if (options->kvcache == (off ? BENCH_KVCACHE_ON : BENCH_KVCACHE_OFF)) continue;
            struct bench_row row = {.batch = options->batches[i], .kv_cache = !off, .status = ROW_SKIPPED};
            snprintf(row.reason, sizeof row.reason, "interrupted before it began");
            arrput(record->rows, row);
        }
    }
}

static enum status measure_points(struct backend *backend, const struct bench_options *options,
                                  struct telemetry *telemetry, struct bench_record *record,
                                  struct error *error) {
    int arms = options->kvcache == BENCH_KVCACHE_BOTH ? 2 : 1;
    double began = clock_seconds();
    for (int i = 0; i < options->batch_count; i++) {
        if (options->interrupt && *options->interrupt)
            return error_set(error, STATUS_INTERRUPTED, "interrupted");
        double later = 0;
        for (int j = i + 1; j < options->batch_count; j++)
            later += (double)options->batches[j] / options->batches[i];
        const struct point point = {.backend = backend,
                                    .telemetry = telemetry,
                                    .options = options,
                                    .rows = record->rows + (ptrdiff_t)i * arms,
                                    .row_count = arms,
                                    .began = began,
                                    .later_points = later};
        TRY(point_measure(&point, error));
    }
    return STATUS_OK;
}

// The first row with a status, as the error of the whole run.
static bool first_row_is(const struct bench_record *record, enum row_status status, struct error *error) {
    for (ptrdiff_t i = 0; i < arrlen(record->rows); i++) {
        const struct bench_row *row = &record->rows[i];
        if (row->status != status) continue;
        memcpy(error->message, row->reason, sizeof error->message);
        error_prefix(error, "batch %d, kvcache %s", row->batch, row->kv_cache ? "on" : "off");
        return true;
    }
    return false;
}

static bool any_row_has_figures(const struct bench_record *record) {
    for (ptrdiff_t i = 0; i < arrlen(record->rows); i++) {
        if (record->rows[i].tok_s.count > 0) return true;
    }
    return false;
}

enum status bench_run(struct backend *backend, const struct bench_options *options,
                      struct bench_record *record, struct error *error) {
    TRY(check_options(backend_config(backend), options, error));
    TRY(device_describe(backend_device(backend), &record->device, error));
    record_describe_engine(&record->engine);
    record->workload =
        (struct record_workload){.prompt_len = options->prompt_len,
                                 .gen_len = options->gen_len,
                                 .dtype = backend_dtype(backend),
                                 .logits = options->logits,
                                 .deterministic = backend->options.deterministic,
                                 .seed = options->seed,
                                 .warmup = options->warmup,
                                 .reps = options->reps,
                                 .noise = options->noise > 0 ? options->noise : STOP_RULE_NOISE,
                                 .max_seconds = options->max_seconds};
    add_rows(record, options);
    struct telemetry *telemetry = telemetry_open(&record->device);
    enum status status = measure_points(backend, options, telemetry, record, error);
    telemetry_close(telemetry);
    if (status != STATUS_OK) return status;
    if (first_row_is(record, ROW_MISMATCH, error)) return STATUS_MISMATCH;
    if (first_row_is(record, ROW_FAILED, error)) return STATUS_FAILED;
    if (!any_row_has_figures(record) && first_row_is(record, ROW_OUT_OF_MEMORY, error))
        return STATUS_OUT_OF_MEMORY;
    return STATUS_OK;
}
