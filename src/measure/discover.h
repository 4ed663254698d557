// Finds the batch size that a device and a workload ask for, with real sessions.
#ifndef MEASURE_DISCOVER_H
#define MEASURE_DISCOVER_H

#include "measure/record.h"

#include <stdio.h>

enum goal_kind {
    GOAL_THROUGHPUT, // the knee: the smallest batch within 2 % of the best tok/s
    GOAL_LATENCY,    // the largest batch whose 95th percentile of step times is within `limit_ms`
    GOAL_TTFT,       // the largest batch whose time to first token is
    GOAL_MEMORY,     // the largest batch that fits
};
struct discover_goal {
    enum goal_kind kind;
    double limit_ms;
};

// "throughput", "latency:MS", "ttft:MS", "memory"; MS is a number above 0.
CHECKED enum status discover_goal_parse(const char *text, struct discover_goal *goal, struct error *error);
// The same text back.
void discover_goal_format(const struct discover_goal *goal, char *text, size_t size);

struct discover_options {
    struct discover_goal goal;
    int prompt_len, gen_len; // tokens per row, together within the model's context
    enum logits_mode logits;
    bool kv_cache;
    uint64_t seed;
    int64_t reserve_bytes; // of device memory that a session must leave free
    double max_seconds;    // 0: 120; no probe is begun that would end later, by the last one's time
    const struct record_model *model;       // for the cache's key
    bool refresh;                           // look anew whatever the cache says
    const volatile sig_atomic_t *interrupt; // may be NULL
    // Before each probe; `probes` are done. May be NULL.
    void (*progress)(void *context, int batch, int probes, double elapsed);
    void *progress_context;
};

// One batch size tried on a real session. Figures are 0 where the goal does not need them.
struct batch_probe {
    int batch;
    bool fits;
    bool meets_goal; // fits, and within the limit if there is one
    double tok_s;    // of whole runs, estimated from their first steps where one takes longer than 3 s
    double ttft_ms;
    double p95_ms;    // of the steps, as far as a run went
    double seconds;   // the probe took
    char reason[192]; // why it does not fit; else empty
};

struct discovery {
    int batch;                 // the answer, one of the trail
    bool complete;             // false: the time was up, and there may be a better one
    bool from_cache;           // found before and proved again now
    struct batch_probe *trail; // stb_ds array, in the order tried
};

// A discovery starts as all zeros.
//
// Throughput and latency double the batch from 1 until it stops paying or meeting the limit; memory starts
// from what the backend's ledger says must fit. The bracket is then bisected: to the row for latency and
// memory, to 1/32 for the knee. Only STATUS_OUT_OF_MEMORY counts as not fitting; any other failure is
// returned. The answer has been run; it is never 0: STATUS_OUT_OF_MEMORY when one row does not fit,
// STATUS_FAILED when one row misses the limit.
//
// Answers are cached (cache.h) under device, driver, engine version, model, dtype, workload and goal; a
// cached one is proved again by one probe, and looked for anew when that fails. What was wrong with the cache
// is in note->message, which is empty otherwise.
CHECKED enum status discover_batch(struct backend *backend, const struct discover_options *options,
                                   struct discovery *discovery, struct error *note, struct error *error);
void discovery_clear(struct discovery *discovery);

// The trail and the answer, for a person.
void discovery_write(const struct discovery *discovery, const struct discover_goal *goal, FILE *file);

#endif
