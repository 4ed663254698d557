#include "measure/run.h"

#include "base/clock.h"

#include <math.h>

static const double one_call_seconds = 0.5; // a decode quicker than this is not cut up
static const double call_seconds = 0.3;
static const int steps_before_giving_up = 3;

// Units of work (see struct pace) from `from` to `to` tokens per row: the step after d tokens recomputes
// prompt_len + d of them when there is no cache.
static double work_between(bool kv_cache, int prompt_len, int from, int to) {
    double steps = to - from;
    return kv_cache ? steps : steps * (prompt_len + (from + to - 1) / 2.0);
}

static double estimate(const struct pace *pace, double unit, bool kv_cache, int prompt_len, int gen_len,
                       int done) {
    double prefill = 0;
    if (done == 0) {
        if (pace->prefill == 0) return -1;
        prefill = pace->prefill;
        done = 1;
    }
    if (done == gen_len) return prefill;
    if (unit == 0) return -1;
    return prefill + unit * work_between(kv_cache, prompt_len, done, gen_len);
}

double run_seconds_left(const struct pace *pace, bool kv_cache, int prompt_len, int gen_len, int done) {
    return estimate(pace, pace->recent, kv_cache, prompt_len, gen_len, done);
}

double run_seconds_least(const struct pace *pace, bool kv_cache, int prompt_len, int gen_len) {
    return estimate(pace, pace->quickest, kv_cache, prompt_len, gen_len, 0);
}

static int steps_of_next_call(const struct run *run) {
    bool kv_cache = session_spec_of(run->session)->kv_cache;
    int left = run->gen_len - run->done;
    double unit = run->pace->quickest;
    if (unit == 0) return 1;
    double all = unit * work_between(kv_cache, run->prompt_len, run->done, run->gen_len);
    if (all < one_call_seconds) return left;
    int steps = 1;
    while (steps < left &&
           unit * work_between(kv_cache, run->prompt_len, run->done, run->done + steps + 1) <= call_seconds)
        steps++;
    return steps;
}

static void quicken(double *best, double seconds) {
    if (*best == 0 || seconds < *best) *best = seconds;
}

static void learn_pace(struct pace *pace, double unit) {
    quicken(&pace->quickest, unit);
    pace->recent = pace->recent == 0 ? unit : 0.75 * pace->recent + 0.25 * unit;
}

static enum status check_interrupt(const struct run *run, struct error *error) {
    if (run->interrupt && *run->interrupt) return error_set(error, STATUS_INTERRUPTED, "interrupted");
    return STATUS_OK;
}

static bool should_give_up(const struct run *run, int calls) {
    if (run->give_up_beyond == 0 || calls < steps_before_giving_up) return false;
    return run_seconds_least(run->pace, session_spec_of(run->session)->kv_cache, run->prompt_len,
                             run->gen_len) > run->give_up_beyond;
}

static enum status decode_to_end(struct run *run, double start, struct error *error) {
    const struct session_spec *spec = session_spec_of(run->session);
    double before = start;
    for (int calls = 0; run->done < run->gen_len && !should_give_up(run, calls); calls++) {
        if (calls > 0 && run->tick) run->tick(run->tick_context, run->done);
        TRY(check_interrupt(run, error));
        int steps = steps_of_next_call(run);
        TRY(session_decode(run->session, steps, error));
        TRY(session_collect(run->session, run->tokens + (size_t)run->done * (size_t)spec->rows, error));
        double now = clock_seconds();
        if (run->step_ms) TRY(session_step_times(run->session, run->step_ms + run->done - 1, error));
        double work = work_between(spec->kv_cache, run->prompt_len, run->done, run->done + steps);
        learn_pace(run->pace, (now - before) / work);
        run->done += steps;
        run->decode_seconds = now - start;
        before = now;
    }
    return STATUS_OK;
}

enum status run_generate(struct run *run, struct error *error) {
    run->done = 0;
    run->prefill_seconds = run->decode_seconds = 0;
    TRY(check_interrupt(run, error));
    double start = clock_seconds();
    TRY(session_prefill(run->session, run->prompts, error));
    TRY(session_collect(run->session, run->tokens, error));
    double first_token = clock_seconds();
    run->done = 1;
    run->prefill_seconds = first_token - start;
    quicken(&run->pace->prefill, run->prefill_seconds);
    TRY(decode_to_end(run, first_token, error));
    return session_retire(run->session, run->prompts->rows, run->prompts->count, error);
}
