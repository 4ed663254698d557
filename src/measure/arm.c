#include "measure/arm.h"

#include "measure/stop_rule.h"

#include <inttypes.h>
#include <stb/stb_ds.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static size_t token_count(const struct arm *arm, const struct bench_options *options) {
    return (size_t)options->gen_len * (size_t)arm->row->batch;
}

static void say_reason(struct bench_row *row, enum row_status status, const char *reason) {
    row->status = status;
    snprintf(row->reason, sizeof row->reason, "%s", reason);
}

void arm_close(struct arm *arm) {
    session_close(arm->session);
    arm->session = NULL;
    arm->warm = false;
}

void arm_fail(struct arm *arm, enum status status, const struct error *error) {
    arm_close(arm);
    arm->ended = true;
    say_reason(arm->row, status == STATUS_OUT_OF_MEMORY ? ROW_OUT_OF_MEMORY : ROW_FAILED, error->message);
}

enum status arm_open(struct arm *arm, const struct arm_setting *setting, struct error *error) {
    if (arm->session) return STATUS_OK;
    const struct bench_options *options = setting->options;
    const struct session_spec spec = {.rows = arm->row->batch,
                                      .max_tokens = options->prompt_len + options->gen_len,
                                      .kv_cache = arm->row->kv_cache,
                                      .logits = options->logits,
                                      .decode_path = options->decode_path,
                                      .time_steps = arm->time_steps,
                                      .sampling = {.top_p = 1, .seed = options->seed}};
    setting->progress(setting->progress_context, BENCH_OPENING, arm, 0);
    backend_ledger(setting->backend, &spec, &arm->row->memory);
    enum status status = session_open(setting->backend, &spec, &arm->session, error);
    if (status != STATUS_OK && status != STATUS_OUT_OF_MEMORY) arm_fail(arm, status, error);
    if (status == STATUS_OK)
        snprintf(arm->row->decode_path, sizeof arm->row->decode_path, "%s",
                 session_decode_path(arm->session));
    return status;
}

static enum status take_token_memory(struct arm *arm, const struct bench_options *options,
                                     struct error *error) {
    if (arm->tokens) return STATUS_OK;
    size_t count = token_count(arm, options);
    arm->tokens = malloc(count * sizeof *arm->tokens);
    arm->reference = malloc(count * sizeof *arm->reference);
    if (arm->tokens && arm->reference) return STATUS_OK;
    return error_set(error, STATUS_OUT_OF_MEMORY, "no host memory for the tokens of %d rows",
                     arm->row->batch);
}

struct tick_context {
    const struct arm *arm;
    const struct arm_setting *setting;
    enum bench_phase phase;
};

static void tick(void *context, int done) {
    const struct tick_context *tick_context = context;
    const struct arm_setting *setting = tick_context->setting;
    setting->progress(setting->progress_context, tick_context->phase, tick_context->arm, done);
}

// The figures of one run, or of the part of it that was done, as if it were the only sample.
static void fill_partial_figures(struct bench_row *row, const struct run *run) {
    double seconds = run->prefill_seconds + run->decode_seconds;
    double tok_s = (double)row->batch * run->done / seconds;
    row->tok_s = stats_summarize(&tok_s, 1);
    arrput(row->samples, tok_s);
    row->tok_s_per_row = tok_s / row->batch;
    row->prefill_ms = run->prefill_seconds * 1e3;
    if (run->done > 1) {
        row->ms_per_step = run->decode_seconds * 1e3 / (run->done - 1);
        row->decode_tok_s = row->batch * (run->done - 1) / run->decode_seconds;
    }
}

static void interrupt_arm(struct arm *arm, const struct run *run, enum bench_phase phase) {
    struct bench_row *row = arm->row;
    char reason[128];
    arm_close(arm);
    arm->ended = true;
    row->note[0] = '\0';                // the reason says how many repetitions there were
    if (arm_reps_done(arm) > 0) return; // arm_finish has some to tell of
    if (run->done == 0) {
        say_reason(row, ROW_SKIPPED, "interrupted before its first token");
        return;
    }
    snprintf(reason, sizeof reason, "interrupted: the first %d of %d tokens of %s", run->done, run->gen_len,
             phase == BENCH_WARM_UP ? "the warm-up" : "the first repetition");
    say_reason(row, ROW_PARTIAL, reason);
    fill_partial_figures(row, run);
}

// One run, timed or not. *done tells how many tokens per row it got to.
static enum status run_arm(struct arm *arm, const struct arm_setting *setting, enum bench_phase phase,
                           struct run *run, struct error *error) {
    struct tick_context context = {.arm = arm, .setting = setting, .phase = phase};
    *run = (struct run){.session = arm->session,
                        .prompts = setting->prompts,
                        .prompt_len = setting->options->prompt_len,
                        .gen_len = setting->options->gen_len,
                        .pace = &arm->pace,
                        .give_up_beyond = phase == BENCH_WARM_UP ? STOP_RULE_LONG_RUN : 0,
                        .interrupt = setting->options->interrupt,
                        .step_ms = arm->step_ms,
                        .tick = tick,
                        .tick_context = &context,
                        .tokens = arm->tokens};
    setting->progress(setting->progress_context, phase, arm, 0);
    enum status status = run_generate(run, error);
    if (status == STATUS_INTERRUPTED) interrupt_arm(arm, run, phase);
    if (status != STATUS_OK && status != STATUS_INTERRUPTED) arm_fail(arm, status, error);
    return status;
}

int arm_reps_done(const struct arm *arm) {
    return (int)arrlen(arm->decodes);
}

double arm_run_seconds(const struct arm *arm, const struct bench_options *options) {
    return run_seconds_left(&arm->pace, arm->row->kv_cache, options->prompt_len, options->gen_len, 0);
}

static double seconds_spent(const struct arm *arm) {
    double sum = 0;
    for (int i = 0; i < arm_reps_done(arm); i++) sum += arm->prefills[i] + arm->decodes[i];
    return sum;
}

// How many repetitions are enough, and a note where they are fewer or further apart than was aimed at.
static void settle_reps(struct arm *arm, const struct bench_options *options, double run_seconds) {
    const struct stop_rule rule = {.reps = options->reps,
                                   .noise = options->noise > 0 ? options->noise : STOP_RULE_NOISE,
                                   .max_seconds = options->max_seconds};
    char *note = arm->row->note;
    const size_t size = sizeof arm->row->note;
    int done = arm_reps_done(arm);
    arm->reps_wanted = stop_rule_wanted(&rule, arm->row->samples, done, seconds_spent(arm), run_seconds);
    note[0] = '\0';
    if (arm->reps_wanted > done) return;
    if (rule.reps > done)
        snprintf(note, size, "%d of %d repetitions in %.3g s", done, rule.reps, rule.max_seconds);
    else if (rule.reps == 0 && done < STOP_RULE_LEAST)
        snprintf(note, size, "%d repetition%s, as one takes %.0f s", done, done == 1 ? "" : "s", run_seconds);
    else if (rule.reps == 0 && stop_rule_noise_of(arm->row->samples, done) > rule.noise)
        snprintf(note, size, "the mean is known to \302\261 %.1f %% after %d repetitions",
                 stop_rule_noise_of(arm->row->samples, done) * 100, done);
}

static enum status warm_up(struct arm *arm, const struct arm_setting *setting, struct error *error) {
    const struct bench_options *options = setting->options;
    struct run run;
    for (int i = 0; i < options->warmup && !arm->warm; i++) {
        TRY(run_arm(arm, setting, BENCH_WARM_UP, &run, error));
        arm->warm = run.done < options->gen_len; // it gave up: a long run has no use for more
    }
    arm->warm = true;
    settle_reps(arm, options,
                run_seconds_least(&arm->pace, arm->row->kv_cache, options->prompt_len, options->gen_len));
    return STATUS_OK;
}

// Greedy tokens and random numbers keyed by request leave nothing to chance.
static void compare_with_first(struct arm *arm, const struct bench_options *options) {
    size_t count = token_count(arm, options), batch = (size_t)arm->row->batch, i = 0;
    while (i < count && arm->tokens[i] == arm->reference[i]) i++;
    if (i == count || arm->row->status == ROW_MISMATCH) return;
    char reason[160];
    snprintf(reason, sizeof reason,
             "repetition %d gave other tokens than the first: row %zu, token %zu: %" PRId32 ", not %" PRId32,
             arm_reps_done(arm), i % batch, i / batch, arm->tokens[i], arm->reference[i]);
    say_reason(arm->row, ROW_MISMATCH, reason);
}

static void keep_repetition(struct arm *arm, const struct bench_options *options, const struct run *run) {
    arrput(arm->prefills, run->prefill_seconds);
    arrput(arm->decodes, run->decode_seconds);
    double seconds = run->prefill_seconds + run->decode_seconds;
    arrput(arm->row->samples, (double)token_count(arm, options) / seconds);
    if (arm_reps_done(arm) == 1)
        memcpy(arm->reference, arm->tokens, token_count(arm, options) * sizeof *arm->tokens);
    else
        compare_with_first(arm, options);
    settle_reps(arm, options, seconds);
}

static enum status repeat(struct arm *arm, const struct arm_setting *setting, struct error *error) {
    struct run run;
    TRY(take_token_memory(arm, setting->options, error));
    TRY(arm_open(arm, setting, error));
    if (!arm->warm) TRY(warm_up(arm, setting, error));
    telemetry_start(setting->telemetry);
    enum status status = run_arm(arm, setting, BENCH_MEASURING, &run, error);
    telemetry_stop(setting->telemetry, &arm->readings);
    if (status != STATUS_OK) return status;
    keep_repetition(arm, setting->options, &run);
    return STATUS_OK;
}

enum status arm_repeat(struct arm *arm, const struct arm_setting *setting, struct error *error) {
    enum status status = repeat(arm, setting, error);
    if (status == STATUS_OK || status == STATUS_INTERRUPTED) return status;
    if (!arm->ended) arm_fail(arm, status, error);
    return STATUS_OK;
}

static enum status time_steps(struct arm *arm, const struct arm_setting *setting, struct error *error) {
    const struct bench_options *options = setting->options;
    struct run run;
    arm_close(arm);
    arm->time_steps = true;
    arm->step_ms = calloc((size_t)options->gen_len, sizeof *arm->step_ms);
    if (!arm->step_ms) return error_set(error, STATUS_OUT_OF_MEMORY, "no host memory for the times of steps");
    TRY(arm_open(arm, setting, error));
    for (int i = 0; i < 2; i++) TRY(run_arm(arm, setting, BENCH_TIMING_STEPS, &run, error));
    int steps = options->gen_len - 1;
    double *samples = NULL;
    for (int i = 0; i < steps; i++) arrput(samples, (double)arm->step_ms[i]);
    arm->row->step = (struct step_times){.count = steps,
                                         .mean = stats_summarize(samples, steps).mean,
                                         .p50 = stats_percentile(samples, steps, 50),
                                         .p95 = stats_percentile(samples, steps, 95),
                                         .p99 = stats_percentile(samples, steps, 99)};
    arrfree(samples);
    return STATUS_OK;
}

enum status arm_time_steps(struct arm *arm, const struct arm_setting *setting, struct error *error) {
    const struct bench_options *options = setting->options;
    int reps = arm_reps_done(arm);
    if (arm->ended || options->gen_len < 2 || reps == 0 || seconds_spent(arm) / reps > STOP_RULE_LONG_RUN)
        return STATUS_OK;
    enum status status = time_steps(arm, setting, error);
    if (status == STATUS_OK || status == STATUS_INTERRUPTED) return status;
    if (!arm->ended) arm_fail(arm, status, error);
    return STATUS_OK;
}

// FNV-1a 64 over the little-endian bytes of the tokens, row after row.
static uint64_t hash_tokens(const int32_t *tokens, int batch, int gen_len) {
    uint64_t hash = 0xcbf29ce484222325u;
    for (int row = 0; row < batch; row++) {
        for (int step = 0; step < gen_len; step++) {
            uint32_t token = (uint32_t)tokens[(size_t)step * (size_t)batch + (size_t)row];
            for (int byte = 0; byte < 4; byte++) hash = (hash ^ (token >> 8 * byte & 0xff)) * 0x100000001b3u;
        }
    }
    return hash;
}

static void fill_figures(struct arm *arm, const struct bench_options *options) {
    struct bench_row *row = arm->row;
    int reps = arm_reps_done(arm);
    row->reps = reps;
    row->tok_s = stats_summarize(row->samples, reps);
    row->tok_s_per_row = row->tok_s.median / row->batch;
    row->prefill_ms = stats_percentile(arm->prefills, reps, 50) * 1e3;
    if (options->gen_len > 1) {
        row->ms_per_step = stats_percentile(arm->decodes, reps, 50) * 1e3 / (options->gen_len - 1);
        row->decode_tok_s = row->batch * 1e3 / row->ms_per_step;
    }
    snprintf(row->token_hash, sizeof row->token_hash, "%016" PRIx64,
             hash_tokens(arm->reference, row->batch, options->gen_len));
}

void arm_finish(struct arm *arm, const struct bench_options *options) {
    arm_close(arm);
    if (arm_reps_done(arm) == 0) return;
    fill_figures(arm, options);
    arm->row->sensors = telemetry_summarize(arm->readings, (int)arrlen(arm->readings));
    if (arm->row->status != ROW_SKIPPED) return;
    if (arm_reps_done(arm) == arm->reps_wanted) {
        say_reason(arm->row, ROW_OK, "");
        return;
    }
    char reason[96];
    snprintf(reason, sizeof reason, "interrupted after %d of %d repetitions", arm_reps_done(arm),
             arm->reps_wanted);
    say_reason(arm->row, ROW_PARTIAL, reason);
}

void arm_free(struct arm *arm) {
    arm_close(arm);
    free(arm->reference);
    free(arm->tokens);
    free(arm->step_ms);
    arrfree(arm->readings);
    arrfree(arm->prefills);
    arrfree(arm->decodes);
}
