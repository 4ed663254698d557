#include "measure/discover.h"

#include "base/clock.h"
#include "measure/batch_probe.h"
#include "measure/discover_cache.h"

#include <stb/stb_ds.h>
#include <string.h>

static const int most_rows = 1 << 20;
static const double usual_seconds = 120;
static const double knee = 0.98; // of the best tok/s
static const int knee_resolution = 32;

struct search {
    struct backend *backend;
    const struct discover_options *options;
    struct discovery *discovery;
    double began;
    bool time_is_up;
};

// ---- probing
// -----------------------------------------------------------------------------------------------

static struct batch_probe *find_probe(const struct search *search, int batch) {
    struct batch_probe *trail = search->discovery->trail;
    for (ptrdiff_t i = 0; i < arrlen(trail); i++) {
        if (trail[i].batch == batch) return &trail[i];
    }
    return NULL;
}

// Time grows at most in proportion to the rows that run, seen from the last probe; for memory only one runs.
static bool time_for(const struct search *search, int batch) {
    const struct batch_probe *trail = search->discovery->trail;
    double limit = search->options->max_seconds > 0 ? search->options->max_seconds : usual_seconds;
    if (arrlen(trail) == 0 || batch == 1) return true;
    const struct batch_probe *last = &trail[arrlen(trail) - 1];
    bool rows_run = search->options->goal.kind != GOAL_MEMORY;
    double growth = rows_run && last->batch < batch ? (double)batch / last->batch : 1;
    return clock_seconds() - search->began + last->seconds * growth <= limit;
}

// Tries a batch size once; one row is tried even late, for without it there is no answer. *probe is NULL when
// the time is up.
static enum status look(struct search *search, int batch, const struct batch_probe **probe,
                        struct error *error) {
    const struct discover_options *options = search->options;
    if (options->interrupt && *options->interrupt) return error_set(error, STATUS_INTERRUPTED, "interrupted");
    *probe = find_probe(search, batch);
    if (*probe) return STATUS_OK;
    if (!time_for(search, batch)) {
        search->time_is_up = true;
        return STATUS_OK;
    }
    struct discovery *discovery = search->discovery;
    struct batch_probe found;
    if (options->probing) options->probing(options->progress_context, batch);
    TRY(batch_probe_run(search->backend, options, batch, &found, error));
    arrput(discovery->trail, found);
    if (options->probed) options->probed(options->progress_context, &found);
    *probe = &arrlast(discovery->trail);
    return STATUS_OK;
}

// Narrows `low`, where `holds` is true, and `high`, where it is not, down to neighbours, or to 1/resolution
// of low.
static enum status bisect(struct search *search, int low, int high, int resolution,
                          bool (*holds)(const struct search *search, const struct batch_probe *probe),
                          struct error *error) {
    while (high - low > 1 && high - low > low / resolution) {
        const struct batch_probe *probe;
        int middle = low + (high - low) / 2;
        TRY(look(search, middle, &probe, error));
        if (!probe) return STATUS_OK;
        *(holds(search, probe) ? &low : &high) = middle;
    }
    return STATUS_OK;
}

// ---- the largest batch that meets the goal
// -----------------------------------------------------------------

static bool meets_goal(const struct search *search, const struct batch_probe *probe) {
    (void)search;
    return probe->meets_goal;
}

// From 1, then `start`, upwards in steps that double until the goal is missed.
static enum status search_largest(struct search *search, int start, struct error *error) {
    const struct batch_probe *probe;
    int low = 0, step = 1;
    for (int batch = 1; low < most_rows;) {
        TRY(look(search, batch, &probe, error));
        if (!probe || (!probe->meets_goal && low == 0)) return STATUS_OK;
        if (!probe->meets_goal) return bisect(search, low, batch, most_rows, meets_goal, error);
        low = batch;
        if (batch < start) {
            batch = start;
            continue;
        }
        batch = batch < most_rows - step ? batch + step : most_rows;
        step = 2 * step;
    }
    return STATUS_OK;
}

// The largest batch that fits by the ledger's account, at least 1.
static int ledger_batch(const struct search *search) {
    int low = 1, high = most_rows + 1;
    while (high - low > 1) {
        int middle = low + (high - low) / 2;
        *(batch_probe_room(search->backend, search->options, middle) >= 0 ? &low : &high) = middle;
    }
    return low;
}

// ---- the knee of the throughput
// ----------------------------------------------------------------------------

static double best_tok_s(const struct search *search) {
    const struct batch_probe *trail = search->discovery->trail;
    double best = 0;
    for (ptrdiff_t i = 0; i < arrlen(trail); i++) {
        if (trail[i].tok_s > best) best = trail[i].tok_s;
    }
    return best;
}

static bool fits(const struct search *search, const struct batch_probe *probe) {
    (void)search;
    return probe->fits;
}

static bool is_below_knee(const struct search *search, const struct batch_probe *probe) {
    return probe->tok_s < knee * best_tok_s(search);
}

// Doubles until two doublings in a row bring less than 2 %, or up to where memory ends.
static enum status climb(struct search *search, struct error *error) {
    const struct batch_probe *probe;
    double best = 0;
    int low = 0, idle = 0;
    for (int batch = 1; batch <= most_rows && idle < 2; batch *= 2) {
        TRY(look(search, batch, &probe, error));
        if (!probe || (!probe->fits && low == 0)) return STATUS_OK;
        if (!probe->fits) return bisect(search, low, batch, knee_resolution, fits, error);
        idle = knee * probe->tok_s < best ? idle + 1 : 0;
        if (probe->tok_s > best) best = probe->tok_s;
        low = batch;
    }
    return STATUS_OK;
}

// The smallest batch tried that is not below the knee; 0: none. *below gets the largest one under it.
static int smallest_at_knee(const struct search *search, int *below) {
    const struct batch_probe *trail = search->discovery->trail;
    int smallest = 0;
    *below = 0;
    for (ptrdiff_t i = 0; i < arrlen(trail); i++) {
        if (!trail[i].fits || is_below_knee(search, &trail[i])) continue;
        if (smallest == 0 || trail[i].batch < smallest) smallest = trail[i].batch;
    }
    for (ptrdiff_t i = 0; i < arrlen(trail); i++) {
        if (trail[i].batch < smallest && trail[i].batch > *below) *below = trail[i].batch;
    }
    return smallest;
}

static enum status search_knee(struct search *search, struct error *error) {
    int below;
    TRY(climb(search, error));
    int high = smallest_at_knee(search, &below);
    if (below == 0) return STATUS_OK;
    return bisect(search, below, high, knee_resolution, is_below_knee, error);
}

// ---- the answer
// --------------------------------------------------------------------------------------------

static int largest_that_meets(const struct discovery *discovery) {
    int largest = 0;
    for (ptrdiff_t i = 0; i < arrlen(discovery->trail); i++) {
        const struct batch_probe *probe = &discovery->trail[i];
        if (probe->meets_goal && probe->batch > largest) largest = probe->batch;
    }
    return largest;
}

static enum status no_answer(const struct search *search, struct error *error) {
    const struct batch_probe *one = find_probe(search, 1);
    char goal[GOAL_TEXT];
    discover_goal_format(&search->options->goal, goal);
    if (!one->fits)
        return error_set(error, STATUS_OUT_OF_MEMORY, "--batch auto: not even one row fits: %s", one->reason);
    return error_set(
        error, STATUS_FAILED,
        "--goal %s: one row alone misses it, with a first token after %.3g ms and 95 %% of the steps "
        "within %.3g ms",
        goal, one->ttft_ms, one->p95_ms);
}

static enum status search_goal(struct search *search, struct error *error) {
    int below;
    enum status status;
    struct discovery *discovery = search->discovery;
    if (search->options->goal.kind == GOAL_THROUGHPUT) {
        status = search_knee(search, error);
        discovery->batch = smallest_at_knee(search, &below);
    } else {
        status = search_largest(search, search->options->goal.kind == GOAL_MEMORY ? ledger_batch(search) : 1,
                                error);
        discovery->batch = largest_that_meets(discovery);
    }
    TRY(status); // what was proved before a failure or an interruption stays known
    discovery->complete = !search->time_is_up;
    return discovery->batch > 0 ? STATUS_OK : no_answer(search, error);
}

static enum status check_options(const struct gpt2_config *config, const struct discover_options *options,
                                 struct error *error) {
    if (options->prompt_len < 1 || options->gen_len < 1 ||
        options->prompt_len > config->context - options->gen_len)
        return error_set(
            error, STATUS_USAGE,
            "--prompt-len %d and --gen-len %d: each from 1, and together within this model's context "
            "of %d",
            options->prompt_len, options->gen_len, config->context);
    if (options->goal.kind == GOAL_LATENCY && options->gen_len < 2)
        return error_set(error, STATUS_USAGE, "--goal latency: needs a --gen-len from 2 to have a step");
    if (options->reserve_bytes < 0)
        return error_set(error, STATUS_USAGE, "--reserve-mib: expected a number from 0");
    return STATUS_OK;
}

// Whether a batch found before still meets the goal; a first probe of the trail either way.
static enum status prove_again(struct search *search, int batch, bool *proved, struct error *error) {
    const struct batch_probe *probe;
    TRY(look(search, batch, &probe, error));
    *proved = probe && probe->meets_goal;
    return STATUS_OK;
}

enum status discover_batch(struct backend *backend, const struct discover_options *options,
                           struct discovery *discovery, struct error *note, struct error *error) {
    struct search search = {
        .backend = backend, .options = options, .discovery = discovery, .began = clock_seconds()};
    int remembered = 0;
    bool proved = false;
    note->message[0] = '\0';
    discovery->goal = options->goal;
    discovery->reserve_bytes = options->reserve_bytes;
    discovery->kv_cache = options->kv_cache;
    TRY(check_options(backend_config(backend), options, error));
    if (!options->refresh) remembered = discover_cache_read(backend, options, note);
    if (remembered > 0) TRY(prove_again(&search, remembered, &proved, error));
    if (proved) {
        discovery->batch = remembered;
        discovery->complete = discovery->from_cache = true;
        return STATUS_OK;
    }
    if (remembered > 0)
        snprintf(note->message, sizeof note->message,
                 "the batch of %d found before does not meet the goal now: searching anew", remembered);
    TRY(search_goal(&search, error));
    if (discovery->complete) discover_cache_write(backend, options, discovery->batch, note);
    return STATUS_OK;
}
