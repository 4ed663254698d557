// A device of made-up speed, memory and faults, for tests of what calls a backend. Nothing is computed: a
// row's next token follows from its first prompt token and its length, and time passes only as told.
#ifndef TESTS_SUPPORT_FAKE_BACKEND_H
#define TESTS_SUPPORT_FAKE_BACKEND_H

#include "engine/backend.h"

struct fake_backend {
    struct backend base; // hand this out; config and options.dtype may be changed before
    double now;          // seconds; a test's clock_seconds() returns it

    double prefill_seconds;      // of one prefill
    double step_seconds;         // of one cached step; session_step_times says 1, 2, 3 .. times that
    double uncached_step_growth; // an uncached step takes this per token of the longest row
    double row_step_seconds;     // added to a cached step for every row

    // Sessions that may choose decode up to so many rows by one kernel, then up to so many by fused ones; the
    // seconds stand in step_seconds' place. Neither: there is one way of decoding.
    int persistent_rows, fused_rows;
    double persistent_step_seconds, fused_step_seconds;

    // As probes find them; the engine's own products get half the rate.
    double bandwidth, matmul_rate, launch_seconds;

    int64_t row_bytes;        // of one row of a session
    int64_t ledger_row_bytes; // what the ledger says of it; 0: the truth
    int64_t capacity;         // bytes that all open sessions may take together
    int64_t used;

    // Faults. 0 or -1: none.
    double stop_at; // the time at which `interrupt` becomes 1
    volatile sig_atomic_t interrupt;
    bool stop_inside_calls; // a decode that crosses stop_at returns STATUS_INTERRUPTED
    bool failing_probe;
    int failing_rows;            // a session of so many rows fails to open, but not for memory
    int failing_prefill;         // this prefill, counted from 1, fails
    int drifting_prefill;        // the run begun by this prefill gets other tokens
    int uncached_parts_row;      // this row of sessions without a cache gets other tokens ...
    int uncached_parts_position; // ... from this length on
    float logit_gap;             // between the usual and the other token, as session_score tells

    // What happened.
    int prefills, decodes, open_sessions;
    char order[256]; // one letter per prefill: 'c' cached, 'u' uncached
};

// device_describe tells of the device initialised last.
void fake_backend_init(struct fake_backend *fake); // 4 rows fit, a run is quick, no faults

#endif
