// One timed run: every row of a session is prefilled and decoded to its last token.
#ifndef MEASURE_RUN_H
#define MEASURE_RUN_H

#include "engine/backend.h"

// How fast a session goes, learnt from its runs, in seconds; 0: not known yet. A step costs one unit with the
// KV cache, and as many as the tokens it recomputes per row without.
struct pace {
    double prefill;  // the quickest seen
    double quickest; // seconds per unit: first calls, which may prepare much, do not count against it
    double recent;   // smoothed over the last calls
};

struct run {
    struct session *session;
    const struct prompt_batch *prompts; // all rows of the session, each of prompt_len tokens
    int prompt_len, gen_len;
    struct pace *pace;
    // A run that turns out to take longer than this many seconds ends after a few steps; 0: it never does.
    double give_up_beyond;
    const volatile sig_atomic_t *interrupt; // may be NULL
    float *step_ms; // (gen_len - 1) gets the device's time of each decode step, where the session notes it;
                    // or NULL
    // Called between the calls of a slow run: inside the timed span, so it must be quick. May be NULL.
    void (*tick)(void *context, int done);
    void *tick_context;

    // What came of it, also after a failure: how far it got and what that took.
    int32_t *tokens; // (gen_len, B), the caller's; the first `done` steps are filled
    int done;        // tokens per row
    double prefill_seconds, decode_seconds;
};

// All rows must be free. Afterwards they are free again if the status is STATUS_OK; else the session can only
// be closed. Decode is one call when that is quick, else calls of about 0.3 s, so that a stop is heeded soon.
CHECKED enum status run_generate(struct run *run, struct error *error);

// Estimated seconds from `done` tokens per row to gen_len at the recent pace; < 0: not known yet.
double run_seconds_left(const struct pace *pace, bool kv_cache, int prompt_len, int gen_len, int done);
// A whole run at the quickest pace, so that one is called long only when it is.
double run_seconds_least(const struct pace *pace, bool kv_cache, int prompt_len, int gen_len);

#endif
