#include "cuda/decode.h"

#include "cuda/cached_step.h"
#include "cuda/check.h"
#include "cuda/results.h"
#include "cuda/rows.h"
#include "cuda/step_graphs.h"

enum {
    LONGEST_KEYS = 64, // grain of the bound on the rows' lengths in a cached step
    LONGEST_STEP = 64, // grain of the bound on the longest row of an uncached step
    CHAINED_STEPS = 8, // cached steps of one graph: no pause between them
    PACED_STEPS = 8,   // the host runs at most twice as many steps ahead of the device
};

static int round_up(int value, int step, int limit) {
    int rounded = (value + step - 1) / step * step;
    return rounded < limit ? rounded : limit;
}

struct row_totals {
    int live, longest;
    int64_t tokens;
};

// Of the rows once they have grown by `grown` tokens.
static struct row_totals total_rows(const struct cuda_session *session, int grown) {
    struct row_totals totals = {};
    for (int row = 0; row < session->base.spec.rows; row++) {
        if (session->base.lengths[row] == 0) continue;
        const int length = session->base.lengths[row] + grown;
        totals.live++;
        totals.tokens += length;
        if (length > totals.longest) totals.longest = length;
    }
    return totals;
}

// As many steps in one graph as there are, up to a bound; one where each is timed. Says how many in *taken.
static enum status cached_steps(struct cuda_session *session, int step, int left, int *taken,
                                struct error *error) {
    if (session->persistent) return cached_step_run_many(session, left, taken, error);
    *taken = left >= CHAINED_STEPS && !session->base.spec.time_steps ? CHAINED_STEPS : 1;
    const int longest = total_rows(session, step + *taken - 1).longest;
    const struct graph_key key = {0, 0, *taken,
                                  round_up(longest, LONGEST_KEYS, session->base.spec.max_tokens)};
    return step_graphs_launch(session, &key, error);
}

static enum status launch_unpadded(struct cuda_session *session, int step, struct error *error) {
    const int B = session->base.spec.rows;
    for (int row = 0; row < B; row++) {
        const int length = session->base.lengths[row];
        session->lengths_now[row] = length > 0 ? length + step : 0;
    }
    return rows_run(session, session->lengths_now, B, NULL, NULL, error);
}

// Says in *paced after how many such steps the host should wait for the device.
static enum status uncached_step(struct cuda_session *session, int step, int *paced, struct error *error) {
    const struct row_totals totals = total_rows(session, step);
    if (totals.tokens > GRAPH_TOKENS) {
        *paced = 1;
        return launch_unpadded(session, step, error);
    }
    // Every row grows by one a step: a graph serves 8 steps, or 16 while those are short.
    const int grain = totals.live * (totals.live <= 4 ? 16 : 8);
    const struct graph_key key = {0, round_up((int)totals.tokens, grain, session->capacity), 1,
                                  round_up(totals.longest, LONGEST_STEP, session->base.spec.max_tokens)};
    return step_graphs_launch(session, &key, error);
}

// Every `paced` launches, waits for the device to have passed those before the last `paced`.
static enum status pace_host(struct cuda_session *session, int launches, int paced, struct error *error) {
    if (launches % paced != 0) return STATUS_OK;
    const int turn = launches / paced;
    CUDA_TRY(cudaEventRecord(session->pace[turn % 2], cuda_backend_of(session)->stream));
    if (turn > 1) CUDA_TRY(cudaEventSynchronize(session->pace[(turn - 1) % 2]));
    return STATUS_OK;
}

enum status cuda_decode(struct session *base, int steps, struct error *error) {
    struct cuda_session *session = (struct cuda_session *)base;
    const volatile sig_atomic_t *interrupt = base->backend->options.interrupt;
    CUDA_TRY(cudaSetDevice(base->backend->index));
    TRY(results_mark_step(session, 0, error));
    if (base->spec.kv_cache) TRY(cached_step_begin(session, error));
    for (int step = 0, launches = 1, taken = 1; step < steps; step += taken, launches++) {
        if (interrupt && *interrupt) return error_set(error, STATUS_INTERRUPTED, "interrupted");
        int paced = PACED_STEPS;
        TRY(base->spec.kv_cache ? cached_steps(session, step, steps - step, &taken, error)
                                : uncached_step(session, step, &paced, error));
        if (taken > 1) paced = 1;
        TRY(results_mark_step(session, step + taken, error));
        TRY(pace_host(session, launches, paced, error));
    }
    return results_of_steps(session, steps, error);
}
