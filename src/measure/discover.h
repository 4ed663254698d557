// Finds the batch size that a device and a workload ask for, with real sessions.
#ifndef MEASURE_DISCOVER_H
#define MEASURE_DISCOVER_H

#include "measure/record.h"

struct discover_options {
    struct discover_goal goal;
    int prompt_len, gen_len; // tokens per row, together within the model's context
    enum logits_mode logits;
    bool kv_cache;
    enum decode_path decode_path;
    uint64_t seed;
    int64_t reserve_bytes; // of device memory that a session must leave free
    double max_seconds;    // 0: 120; no probe is begun that would end later, by the last one's time
    const struct record_model *model;       // for the cache's key
    bool refresh;                           // look anew whatever the cache says
    const volatile sig_atomic_t *interrupt; // may be NULL
    // Before and after each probe. Both may be NULL.
    void (*probing)(void *context, int batch);
    void (*probed)(void *context, const struct batch_probe *probe);
    void *progress_context;
};

// A discovery starts as all zeros.
//
// Throughput and latency double the batch from 1 until it stops paying or meeting the limit; memory goes on
// from what the backend's ledger says must fit, in steps that double. The bracket is then bisected: to the
// row for latency and memory, to 1/32 for the knee. Only STATUS_OUT_OF_MEMORY counts as not fitting; any
// other failure is returned. A session that would take from the reserve by the ledger's account is not
// opened: others may need the memory meanwhile.
//
// The answer has been run; it is never 0: STATUS_OUT_OF_MEMORY when one row does not fit, STATUS_FAILED when
// one row misses the limit. After STATUS_INTERRUPTED it is the best that was proved until then, or 0.
//
// Answers are cached (cache.h) under device, driver, engine version, model, dtype, workload and goal; a
// cached one is proved again by one probe, and looked for anew when that fails. What was wrong with the cache
// is in note->message, which is empty otherwise.
CHECKED enum status discover_batch(struct backend *backend, const struct discover_options *options,
                                   struct discovery *discovery, struct error *note, struct error *error);

#endif
