#include "measure/point.h"

#include "base/clock.h"
#include "base/philox.h"
#include "measure/agreement.h"
#include "measure/arm.h"
#include "measure/prompts.h"
#include "measure/stop_rule.h"

#include <stdio.h>
#include <string.h>

// A point while it is measured.
struct work {
    const struct point *point;
    struct arm arms[2];
    struct prompt_batch prompts;
    struct arm_setting setting;
    bool one_at_a_time; // both sessions do not fit together
};

static bool wants_repetition(const struct arm *arm) {
    return !arm->ended && (arm->reps_wanted == 0 || arm_reps_done(arm) < arm->reps_wanted);
}

// Seconds that the arm still needs when it is `done` tokens into a run; *whole gets what it takes from start
// to end. < 0: not known yet.
static double arm_seconds_left(const struct arm *arm, const struct bench_options *options, int done,
                               double *whole) {
    double run = arm_run_seconds(arm, options);
    if (run < 0) return -1;
    int reps = arm->reps_wanted > 0 ? arm->reps_wanted : options->reps > 0 ? options->reps : 1;
    int warmups = arm->warm ? 0 : options->warmup;
    double begun = 0;
    if (done > 0)
        begun = run -
                run_seconds_left(&arm->pace, arm->row->kv_cache, options->prompt_len, options->gen_len, done);
    int step_passes = run > STOP_RULE_LONG_RUN ? 0 : 2;
    *whole = run * (reps + options->warmup + step_passes);
    if (arm->step_ms) step_passes = 0;
    return arm->ended ? 0 : run * (reps - arm_reps_done(arm) + warmups + step_passes) - begun;
}

static void report_progress(void *context, enum bench_phase phase, const struct arm *arm, int done) {
    const struct work *work = context;
    const struct point *point = work->point;
    const struct bench_options *options = point->options;
    if (!options->progress) return;
    double left = 0, whole = 0;
    for (int i = 0; i < point->row_count && left >= 0; i++) {
        const struct arm *other = &work->arms[i];
        double arm_whole = 0;
        double arm_left = arm_seconds_left(other, options, other == arm ? done : 0, &arm_whole);
        left = arm_left < 0 ? -1 : left + arm_left;
        whole += arm_whole;
    }
    const struct bench_progress progress = {
        .phase = phase,
        .batch = arm->row->batch,
        .kv_cache = arm->row->kv_cache,
        .rep = phase == BENCH_MEASURING ? arm_reps_done(arm) + 1 : 0,
        .reps = phase == BENCH_MEASURING ? arm->reps_wanted : 0,
        .step = done,
        .steps = options->gen_len,
        .elapsed = clock_seconds() - point->began,
        .eta_seconds = left < 0 ? -1 : left + point->later_points * whole,
    };
    options->progress(options->progress_context, &progress);
}

// Opens the sessions of all arms together, or finds out that each fits alone, or ends the arm that does not.
static void open_sessions(struct work *work) {
    struct error error;
    for (int i = 0; i < work->point->row_count; i++) {
        struct arm *arm = &work->arms[i];
        enum status status = arm_open(arm, &work->setting, &error);
        if (status == STATUS_OUT_OF_MEMORY && i == 1 && work->arms[0].session) {
            work->one_at_a_time = true;
            arm_close(&work->arms[0]);
            status = arm_open(arm, &work->setting, &error);
            arm_close(arm);
        }
        if (status != STATUS_OK && !arm->ended) arm_fail(arm, status, &error);
    }
    // An arm that does not even fit alone is in nobody's way.
    if (work->arms[1].ended) work->one_at_a_time = false;
}

// Which arm goes first in a round: drawn for every other round, reversed in the one after, so that neither
// arm is favoured by a drift of the machine.
static int first_arm(const struct point *point, int round) {
    if (point->row_count == 1) return 0;
    const uint32_t counter[4] = {(uint32_t)point->rows[0].batch, (uint32_t)(round / 2), 0, 0x6F726472u};
    const uint32_t key[2] = {(uint32_t)point->options->seed, (uint32_t)(point->options->seed >> 32)};
    uint32_t word[4];
    philox4x32(counter, key, word);
    return (int)(word[0] >> 31) ^ (round & 1);
}

static enum status repeat_in_turns(struct work *work, struct error *error) {
    const struct point *point = work->point;
    bool wanted = true;
    for (int round = 0; wanted; round++) {
        wanted = false;
        for (int turn = 0; turn < point->row_count; turn++) {
            struct arm *arm = &work->arms[first_arm(point, round) ^ turn];
            if (!wants_repetition(arm)) continue;
            TRY(arm_repeat(arm, &work->setting, error));
            if (work->one_at_a_time) arm_close(arm);
            wanted = true;
        }
    }
    return STATUS_OK;
}

// After all repetitions, so that both arms' sessions need not share memory with a third.
static enum status time_steps(struct work *work, struct error *error) {
    for (int i = 0; i < work->point->row_count; i++) arm_close(&work->arms[i]);
    for (int i = 0; i < work->point->row_count; i++) {
        TRY(arm_time_steps(&work->arms[i], &work->setting, error));
        arm_close(&work->arms[i]);
    }
    return STATUS_OK;
}

static void say_mismatch(struct bench_row *row) {
    if (row->status != ROW_OK && row->status != ROW_PARTIAL) return;
    row->status = ROW_MISMATCH;
    snprintf(row->reason, sizeof row->reason,
             "the tokens with and without the cache differ in %d of %d rows; at row %d, token %d the logits "
             "are %.3g apart "
             "where rounding explains %.2g",
             row->agreement.differing_rows, row->batch, row->agreement.row, row->agreement.position,
             row->agreement.logit_gap, row->agreement.rounding_allows);
}

static void compare_arms(struct work *work) {
    struct arm *arms = work->arms;
    if (work->point->row_count < 2 || arm_reps_done(&arms[0]) == 0 || arm_reps_done(&arms[1]) == 0) return;
    struct error error;
    struct arm_agreement agreement;
    report_progress(work, BENCH_COMPARING, &arms[0], 0);
    enum status status =
        agreement_judge(work->point->backend, &work->prompts, arms[0].reference, arms[1].reference,
                        work->point->options->gen_len, &agreement, &error);
    for (int i = 0; i < 2; i++) {
        struct bench_row *row = arms[i].row;
        if (status == STATUS_OK) row->agreement = agreement;
        // Not being able to tell is a failure, unless somebody asked to stop.
        if (status != STATUS_OK && status != STATUS_INTERRUPTED) arm_fail(&arms[i], status, &error);
        if (status == STATUS_OK && agreement.verdict == AGREEMENT_DIFFERENT) say_mismatch(row);
        if (row->kv_cache) row->speedup = row->tok_s.median / arms[1 - i].row->tok_s.median;
    }
}

enum status point_measure(const struct point *point, struct error *error) {
    struct work work = {.point = point};
    work.setting = (struct arm_setting){.backend = point->backend,
                                        .options = point->options,
                                        .prompts = &work.prompts,
                                        .telemetry = point->telemetry,
                                        .progress = report_progress,
                                        .progress_context = &work};
    for (int i = 0; i < point->row_count; i++) work.arms[i].row = &point->rows[i];
    // Sessions first: a batch beyond all bounds is refused there, before host memory is taken for it.
    open_sessions(&work);
    enum status status = STATUS_OK;
    if (wants_repetition(&work.arms[0]) || (point->row_count == 2 && wants_repetition(&work.arms[1]))) {
        status =
            prompts_draw(point->rows[0].batch, point->options->prompt_len,
                         backend_config(point->backend)->vocab, point->options->seed, &work.prompts, error);
        for (int i = 0; status != STATUS_OK && i < point->row_count; i++)
            if (!work.arms[i].ended) arm_fail(&work.arms[i], status, error);
        status = repeat_in_turns(&work, error);
        if (status == STATUS_OK) status = time_steps(&work, error);
    }
    for (int i = 0; i < point->row_count; i++) arm_finish(&work.arms[i], point->options);
    compare_arms(&work);
    for (int i = 0; i < point->row_count; i++) arm_free(&work.arms[i]);
    prompts_free(&work.prompts);
    return status;
}
