#include "measure/batch_probe.h"

#include "base/clock.h"
#include "measure/prompts.h"
#include "measure/run.h"

#include <stb/stb_ds.h>
#include <stdlib.h>
#include <string.h>

static const double longest_run = 10; // seconds; beyond, a run is estimated from its first steps
static const int runs = 3;            // as many as begin within `enough_seconds`, and one in any case
static const double enough_seconds = 3;

static struct session_spec probe_spec(const struct discover_options *options, int batch) {
    return (struct session_spec){.rows = batch,
                                 .max_tokens = options->prompt_len + options->gen_len,
                                 .kv_cache = options->kv_cache,
                                 .logits = options->logits,
                                 .decode_path = options->decode_path,
                                 .time_steps = options->goal.kind == GOAL_LATENCY,
                                 .sampling = {.top_p = 1, .seed = options->seed}};
}

int64_t batch_probe_room(const struct backend *backend, const struct discover_options *options, int batch) {
    const struct session_spec spec = probe_spec(options, batch);
    struct memory_ledger ledger;
    backend_ledger(backend, &spec, &ledger);
    return ledger.free - memory_ledger_session_bytes(&ledger) - options->reserve_bytes;
}

// What a probe of speed works with.
struct work {
    struct run run;
    struct pace pace;
    struct prompt_batch prompts;
    double *tok_s, *ttft_ms, *step_ms; // of each run, of each run, of each step: stb_ds arrays
};

static void work_free(struct work *work) {
    prompts_free(&work->prompts);
    free(work->run.tokens);
    free(work->run.step_ms);
    arrfree(work->tok_s);
    arrfree(work->ttft_ms);
    arrfree(work->step_ms);
}

static enum status work_init(struct work *work, struct session *session,
                             const struct discover_options *options, struct error *error) {
    const struct session_spec *spec = session_spec_of(session);
    memset(work, 0, sizeof *work);
    work->run = (struct run){.session = session,
                             .prompts = &work->prompts,
                             .prompt_len = options->prompt_len,
                             .gen_len = options->gen_len,
                             .pace = &work->pace,
                             .give_up_beyond = longest_run,
                             .interrupt = options->interrupt};
    TRY(prompts_draw(spec->rows, options->prompt_len, backend_config(session->backend)->vocab, options->seed,
                     &work->prompts, error));
    size_t tokens = (size_t)spec->rows * (size_t)options->gen_len;
    work->run.tokens = malloc(tokens * sizeof *work->run.tokens);
    if (spec->time_steps) work->run.step_ms = malloc((size_t)options->gen_len * sizeof *work->run.step_ms);
    if (work->run.tokens && (work->run.step_ms || !spec->time_steps)) return STATUS_OK;
    return error_set(error, STATUS_OUT_OF_MEMORY, "no host memory for the tokens of %d rows", spec->rows);
}

// The first run warms up (a GPU backend plans its products in it) and is not kept, unless it took too long
// for another.
static enum status run_some(struct work *work, int batch, struct error *error) {
    double start = clock_seconds();
    for (int i = 0; i <= runs && clock_seconds() - start < (i <= 1 ? longest_run : enough_seconds); i++) {
        struct run *run = &work->run;
        TRY(run_generate(run, error));
        bool whole = run->done == run->gen_len;
        double seconds = whole ? run->prefill_seconds + run->decode_seconds
                               : run_seconds_left(run->pace, session_spec_of(run->session)->kv_cache,
                                                  run->prompt_len, run->gen_len, 0);
        if (i == 1) {
            arrsetlen(work->tok_s, 0);
            arrsetlen(work->ttft_ms, 0);
            arrsetlen(work->step_ms, 0);
        }
        arrput(work->tok_s, (double)batch * run->gen_len / seconds);
        arrput(work->ttft_ms, run->prefill_seconds * 1e3);
        for (int step = 0; run->step_ms && step < run->done - 1; step++)
            arrput(work->step_ms, (double)run->step_ms[step]);
    }
    return STATUS_OK;
}

static enum status probe_speed(struct session *session, const struct discover_options *options,
                               struct batch_probe *probe, struct error *error) {
    struct work work;
    enum status status = work_init(&work, session, options, error);
    if (status == STATUS_OK) status = run_some(&work, probe->batch, error);
    if (status == STATUS_OK) {
        probe->tok_s = stats_percentile(work.tok_s, (int)arrlen(work.tok_s), 50);
        probe->ttft_ms = stats_percentile(work.ttft_ms, (int)arrlen(work.ttft_ms), 50);
        if (arrlen(work.step_ms) > 0)
            probe->p95_ms = stats_percentile(work.step_ms, (int)arrlen(work.step_ms), 95);
    }
    work_free(&work);
    return status;
}

// A session has taken all its memory; one row proves that it works.
static enum status probe_one_row(struct session *session, const struct discover_options *options,
                                 struct error *error) {
    struct prompt_batch prompt;
    int32_t *tokens = malloc((size_t)session_spec_of(session)->rows * sizeof *tokens);
    if (!tokens) return error_set(error, STATUS_OUT_OF_MEMORY, "no host memory for one token of each row");
    enum status status = prompts_draw(1, options->prompt_len, backend_config(session->backend)->vocab,
                                      options->seed, &prompt, error);
    if (status == STATUS_OK) status = session_prefill(session, &prompt, error);
    if (status == STATUS_OK && options->gen_len > 1) status = session_decode(session, 1, error);
    if (status == STATUS_OK) status = session_collect(session, tokens, error);
    prompts_free(&prompt);
    free(tokens);
    return status;
}

static enum status refuse_for_reserve(const struct discover_options *options, int64_t left,
                                      struct error *error) {
    const double mib = 1024.0 * 1024.0;
    return error_set(error, STATUS_OUT_OF_MEMORY, "it would leave %.0f MiB of the reserve of %.0f MiB",
                     left > 0 ? (double)left / mib : 0.0, (double)options->reserve_bytes / mib);
}

// Opens a session that leaves the reserve alone, by the ledger's account and then in fact.
static enum status open_session(struct backend *backend, const struct discover_options *options, int batch,
                                struct session **session, struct error *error) {
    const struct session_spec spec = probe_spec(options, batch);
    struct device_info device;
    int64_t room = batch_probe_room(backend, options, batch);
    if (options->reserve_bytes > 0 && room < 0)
        return refuse_for_reserve(options, room + options->reserve_bytes, error);
    TRY(session_open(backend, &spec, session, error));
    TRY(device_describe(backend_device(backend), &device, error));
    if (device.memory_free >= options->reserve_bytes) return STATUS_OK;
    return refuse_for_reserve(options, device.memory_free, error);
}

static bool within_limit(const struct batch_probe *probe, const struct discover_goal *goal) {
    if (goal->kind == GOAL_LATENCY) return probe->p95_ms <= goal->limit_ms;
    if (goal->kind == GOAL_TTFT) return probe->ttft_ms <= goal->limit_ms;
    return true;
}

enum status batch_probe_run(struct backend *backend, const struct discover_options *options, int batch,
                            struct batch_probe *probe, struct error *error) {
    double start = clock_seconds();
    memset(probe, 0, sizeof *probe);
    probe->batch = batch;
    struct session *session = NULL;
    enum status status = open_session(backend, options, batch, &session, error);
    if (status == STATUS_OK)
        status = options->goal.kind == GOAL_MEMORY ? probe_one_row(session, options, error)
                                                   : probe_speed(session, options, probe, error);
    session_close(session);
    probe->seconds = clock_seconds() - start;
    probe->fits = status == STATUS_OK;
    probe->meets_goal = probe->fits && within_limit(probe, &options->goal);
    if (status != STATUS_OUT_OF_MEMORY) return status;
    const size_t headline = strcspn(error->message, "\n"); // a ledger may follow a colon
    const bool introduces = headline > 0 && error->message[headline - 1] == ':';
    snprintf(probe->reason, sizeof probe->reason, "%.*s", (int)headline - introduces, error->message);
    return STATUS_OK;
}
