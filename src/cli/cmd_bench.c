// bench: tok/s per batch size; the measuring itself is in src/measure.
#include "base/output_file.h"
#include "base/version.h"
#include "cli/auto_batch.h"
#include "cli/commands.h"
#include "cli/plotting.h"
#include "cli/progress.h"
#include "cli/setup.h"
#include "measure/bench.h"
#include "measure/calibrate.h"
#include "measure/ceilings.h"
#include "measure/report.h"
#include "measure/report_reference.h"
#include "measure/roofline.h"

#include <stb/stb_ds.h>

static void describe_engine(struct record_engine *engine) {
    snprintf(engine->version, sizeof engine->version, "%s", GPT2INFER_VERSION);
    snprintf(engine->commit, sizeof engine->commit, "%s", build_commit());
    snprintf(engine->compiler, sizeof engine->compiler, "%s", build_compiler());
    engine->cuda = build_has_cuda();
}

static void show_progress(void *context, const struct bench_progress *now) {
    char text[64];
    if (now->phase == BENCH_MEASURING)
        snprintf(text, sizeof text, "B %d %s %d/%d", now->batch, now->kv_cache ? "cached" : "uncached",
                 now->rep, now->reps);
    else
        snprintf(text, sizeof text, "B %d %s", now->batch, bench_phase_name(now->phase));
    double whole = now->elapsed + now->eta_seconds;
    double fraction = now->eta_seconds < 0 ? -1 : whole > 0 ? now->elapsed / whole : 0;
    progress_update(context, text, fraction, now->eta_seconds);
}

static enum status measure(const struct options *options, struct backend *backend,
                           const volatile sig_atomic_t *interrupt, struct bench_record *record,
                           struct error *error) {
    static const enum bench_kvcache arms[] = {[KVCACHE_ON] = BENCH_KVCACHE_ON,
                                              [KVCACHE_OFF] = BENCH_KVCACHE_OFF,
                                              [KVCACHE_BOTH] = BENCH_KVCACHE_BOTH};
    struct progress progress;
    bool found = auto_batch_wanted(options);
    progress_start(&progress, options->quiet, true);
    struct bench_options bench = {.batches = found ? &record->discovery.batch : options->batches,
                                  .batch_count = found ? 1 : (int)arrlen(options->batches),
                                  .kvcache = arms[options->kvcache],
                                  .prompt_len = options->prompt_len,
                                  .gen_len = options->gen_len,
                                  .decode_path = (enum decode_path)options->decode_path,
                                  .logits = options->logits == LOGITS_CHOICE_ALL ? LOGITS_ALL : LOGITS_LAST,
                                  .reps = options->reps,
                                  .noise = options->noise_percent / 100,
                                  .max_seconds = options->max_time,
                                  .warmup = options->warmup,
                                  .seed = options->seed,
                                  .interrupt = interrupt,
                                  .progress = show_progress,
                                  .progress_context = &progress};
    enum status status = bench_run(backend, &bench, record, error);
    progress_clear(&progress);
    return status;
}

// What the rows are held against. Measured last, so that a mistake or an interruption costs no seconds;
// without ceilings the report has fewer columns.
static void add_ceilings(const struct options *options, struct backend *backend,
                         struct bench_record *record) {
    struct progress progress;
    struct error note = {0}, error = {0};
    progress_start(&progress, options->quiet, true);
    progress_update(&progress, "ceilings of the device", -1, -1);
    enum status status = ceilings_get(backend, options->refresh, &record->ceilings, &note, &error);
    progress_clear(&progress);
    if (note.message[0]) setup_note(options, "note: %s", note.message);
    if (status == STATUS_OK) return;
    record->ceilings = (struct ceilings){0};
    setup_note(options, "note: the device's ceilings are not known: %s", error.message);
}

// What rows are predicted from; without it the report predicts nothing.
static void add_machine(const struct options *options, struct backend *backend, struct bench_record *record) {
    struct progress progress;
    struct error note = {0}, error = {0};
    if (record->ceilings.bandwidth == 0) return;
    progress_start(&progress, options->quiet, true);
    progress_update(&progress, "runs of one row, to predict the others", -1, -1);
    enum status status =
        calibrate_get(backend, &record->ceilings, options->refresh, &record->machine, &note, &error);
    progress_clear(&progress);
    if (note.message[0]) setup_note(options, "note: %s", note.message);
    if (status == STATUS_OK) return;
    record->machine = (struct machine){0};
    setup_note(options, "note: nothing is predicted: %s", error.message);
}

static enum status report(const struct options *options, const struct bench_record *record,
                          struct output_file *output, struct plotting *plotting, struct error *error) {
    TRY(report_write(record, setup_report_format(options), output->stream, error));
    if (plotting->reference && (options->format == FORMAT_TABLE || options->format == FORMAT_MARKDOWN))
        report_reference_write(record, plotting->reference, options->format == FORMAT_MARKDOWN,
                               output->stream);
    TRY(plotting_write_text(plotting, record, output->stream, error));
    TRY(output_file_commit(output, error));
    return plotting_write_picture(plotting, record, error);
}

// Searches for the batch size first where that is wanted. Sets *reportable when the record tells something:
// an interrupted search that has proved a batch is told with rows that were not begun.
static enum status fill_record(const struct options *options, struct setup *setup,
                               const volatile sig_atomic_t *interrupt, struct bench_record *record,
                               bool *reportable, struct error *error) {
    *reportable = false;
    if (auto_batch_wanted(options)) {
        enum status found = auto_batch_find(options, setup, interrupt, record, error);
        bool proved = found == STATUS_INTERRUPTED && record->discovery.batch > 0;
        if (found != STATUS_OK && !proved) return found;
    }
    enum status status = measure(options, setup->backend, interrupt, record, error);
    if (status != STATUS_USAGE && status != STATUS_INTERRUPTED) {
        add_ceilings(options, setup->backend, record);
        add_machine(options, setup->backend, record);
    }
    *reportable = status != STATUS_USAGE;
    return status;
}

// The report comes whatever bench_run found out, unless that was that the options cannot be.
static enum status measure_and_report(const struct options *options, struct setup *setup,
                                      const volatile sig_atomic_t *interrupt, struct output_file *output,
                                      struct plotting *plotting, struct error *error) {
    struct bench_record record = {0};
    bool reportable;
    describe_engine(&record.engine);
    record_describe_model(&record.model, setup->model);
    record.pricing = (struct pricing){.device_hour_usd = options->gpu_hour_usd,
                                      .requests_per_day = options->requests_per_day};
    enum status status = fill_record(options, setup, interrupt, &record, &reportable, error);
    if (reportable) {
        struct error report_error;
        enum status reported = report(options, &record, output, plotting, &report_error);
        if (reported != STATUS_OK) {
            *error = report_error;
            status = reported;
        }
    }
    record_clear(&record);
    return status;
}

static enum status bench(const struct options *options, struct setup *setup,
                         const volatile sig_atomic_t *interrupt, struct error *error) {
    struct output_file output;
    TRY(auto_batch_check(options, error));
    TRY(output_file_open(options->output_file, &output, error)); // before the work that it is to keep
    struct plotting plotting;
    enum status status = plotting_open(options, &output, &plotting, error);
    if (status == STATUS_OK) status = setup_open_model(options, MODEL_RANDOM, setup, error);
    if (status == STATUS_OK) status = setup_open_backend(options, interrupt, setup, error);
    if (status == STATUS_OK)
        status = measure_and_report(options, setup, interrupt, &output, &plotting, error);
    plotting_discard(&plotting);
    output_file_discard(&output);
    return status;
}

enum status cmd_bench(const struct options *options, const volatile sig_atomic_t *interrupt,
                      struct error *error) {
    if (options->help_metrics) {
        fputs(roofline_help(), stdout);
        return STATUS_OK;
    }
    struct setup setup = {0};
    enum status status = bench(options, &setup, interrupt, error);
    setup_close(&setup);
    return status;
}
