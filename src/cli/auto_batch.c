#include "cli/auto_batch.h"

#include "base/text.h"
#include "cli/progress.h"
#include "measure/discover.h"

#include <stb/stb_ds.h>

bool auto_batch_wanted(const struct options *options) {
    return arrlen(options->batches) == 0;
}

static enum status read_goal(const struct options *options, struct discover_goal *goal, struct error *error) {
    return discover_goal_parse(options->goal ? options->goal : "throughput", goal, error);
}

// What a batch is proved with need not be free to the last byte when it runs: hence a reserve by default.
static enum status read_reserve(const struct options *options, int64_t *bytes, struct error *error) {
    const int64_t mib = 1 << 20, usual = 256, most = 1 << 30;
    *bytes = usual * mib;
    if (!options->reserve_mib) return STATUS_OK;
    TRY(text_parse_int64("--reserve-mib", options->reserve_mib, 0, most, bytes, error));
    *bytes *= mib;
    return STATUS_OK;
}

enum status auto_batch_check(const struct options *options, struct error *error) {
    struct discover_goal goal;
    int64_t reserve;
    TRY(read_goal(options, &goal, error));
    TRY(read_reserve(options, &reserve, error));
    if (auto_batch_wanted(options) || (!options->goal && !options->reserve_mib)) return STATUS_OK;
    return error_set(error, STATUS_USAGE, "--%s is of no use without --batch auto",
                     options->goal ? "goal" : "reserve-mib");
}

struct display {
    const struct options *options;
    struct progress progress;
    int probes;
};

static void show_begun(void *context, int batch) {
    struct display *display = context;
    char text[64];
    snprintf(text, sizeof text, "probe %d, B %d", display->probes + 1, batch);
    progress_update(&display->progress, text, -1, -1);
}

static void show_done(void *context, const struct batch_probe *probe) {
    struct display *display = context;
    display->probes++;
    if (display->options->quiet) return;
    progress_clear(&display->progress);
    if (display->probes == 1) discovery_write_heading(stderr);
    discovery_write_probe(probe, stderr);
}

static void tell_answer(const struct options *options, const struct discovery *discovery) {
    if (options->quiet || arrlen(discovery->trail) == 0) return;
    fputs("batch ", stderr);
    discovery_write_answer(discovery, stderr);
    fputc('\n', stderr);
}

enum status auto_batch_find(const struct options *options, const struct setup *setup,
                            const volatile sig_atomic_t *interrupt, struct bench_record *record,
                            struct error *error) {
    struct display display = {.options = options};
    struct discover_options discover = {.prompt_len = options->prompt_len,
                                        .gen_len = options->gen_len,
                                        .logits =
                                            options->logits == LOGITS_CHOICE_ALL ? LOGITS_ALL : LOGITS_LAST,
                                        .decode_path = (enum decode_path)options->decode_path,
                                        .kv_cache = options->kvcache != KVCACHE_OFF,
                                        .seed = options->seed,
                                        .max_seconds = options->max_time,
                                        .model = &record->model,
                                        .refresh = options->refresh,
                                        .interrupt = interrupt,
                                        .probing = show_begun,
                                        .probed = show_done,
                                        .progress_context = &display};
    struct error note = {0};
    TRY(read_goal(options, &discover.goal, error));
    TRY(read_reserve(options, &discover.reserve_bytes, error));
    if (options->kvcache == KVCACHE_BOTH)
        setup_note(options, "note: the batch size is searched for with the KV cache on");
    progress_start(&display.progress, options->quiet, false); // a probe has its line
    enum status status = discover_batch(setup->backend, &discover, &record->discovery, &note, error);
    progress_clear(&display.progress);
    if (note.message[0]) setup_note(options, "note: %s", note.message);
    if (status == STATUS_OK || status == STATUS_INTERRUPTED) tell_answer(options, &record->discovery);
    return status;
}
