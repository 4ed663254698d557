// Measures tok/s per batch size with the KV cache on and off.
//
// What is timed: t0, session_prefill of B prompts (host token ids), collect of the first token, t1, decode of
// gen_len - 1 steps, collect of their tokens, t2 (CLOCK_MONOTONIC). tok/s = B gen_len / (t2 - t0), time to
// first token = t1 - t0, ms per step = (t2 - t1) / (gen_len - 1). Opening sessions, warm-up, drawing prompts
// and comparing tokens are outside. Tokens are chosen greedily and an end-of-text token ends nothing.
#ifndef MEASURE_BENCH_H
#define MEASURE_BENCH_H

#include "measure/record.h"

enum bench_kvcache { BENCH_KVCACHE_ON, BENCH_KVCACHE_OFF, BENCH_KVCACHE_BOTH };

enum bench_phase { BENCH_OPENING, BENCH_WARM_UP, BENCH_MEASURING, BENCH_TIMING_STEPS, BENCH_COMPARING };
const char *bench_phase_name(enum bench_phase phase); // "opening", "warm-up", ...

struct bench_progress {
    enum bench_phase phase;
    int batch;
    bool kv_cache;
    int rep, reps;      // the one running, from 1, of how many (both 0 during other phases)
    int step, steps;    // generated tokens per row so far, of gen_len
    double elapsed;     // seconds since bench_run began
    double eta_seconds; // until everything asked for is done; < 0: not known yet
};

struct bench_options {
    const int *batches; // (batch_count) each >= 1
    int batch_count;
    enum bench_kvcache kvcache;
    int prompt_len, gen_len; // tokens per row, each >= 1, together within the model's context
    enum logits_mode logits;
    enum decode_path decode_path;
    // Repetitions of an arm: so many when `reps` > 0. When it is 0, at least 5 (only 1, and a note, where one
    // takes longer than 10 s), and more until the 95 % interval of the mean is within +- `noise` of it, as a
    // fraction, at most 100. An arm whose repetitions have taken `max_seconds` gets no more in either case.
    int reps;
    double noise;       // 0: 0.01
    double max_seconds; // 0: 20 when reps is 0, else without limit
    int warmup;    // full runs before the first repetition; a run estimated beyond 10 s is warmed up by a few
                   // steps
    uint64_t seed; // of the prompts and of the order of the arms
    const volatile sig_atomic_t *interrupt;                                 // nonzero: stop soon; may be NULL
    void (*progress)(void *context, const struct bench_progress *progress); // may be NULL
    void *progress_context;
};

// Fills record->engine, ->device, ->workload and ->rows; model (record_describe_model), ceilings and pricing
// are the caller's, before or after. A batch that fails is a row with its reason and the next batch is tried,
// so the record is to be reported whatever the status, unless that is STATUS_USAGE (the options are refused,
// nothing was done).
//
//   STATUS_OK             every row was measured, or some were while others did not fit in memory
//   STATUS_INTERRUPTED    finished rows are kept, the running one is partial, those not begun are skipped
//   STATUS_MISMATCH       repetitions gave different tokens, or the arms did by more than rounding explains
//   STATUS_FAILED         a row failed for another reason than memory
//   STATUS_OUT_OF_MEMORY  no row fitted
// in the order of precedence interrupted, mismatch, failed, out of memory; `error` then tells of the first
// such row.
//
// Where a run takes at most 10 s, a second pass on a session of its own that notes the device's time of each
// step gives row->step: the throughput above is measured without.
//
// Arms are interleaved repetition by repetition, in an order drawn from the seed. Where they part, both
// tokens chosen there should lie within the rounding of the highest logit h of the common prefix:
//   h - logit(token) <= k u (h - mean logit), u the dtype's unit roundoff (bf16 2^-8, f16 2^-11, f32 2^-24),
//   k = 8 for bf16 and f16, whose sums are kept in f32, and 8 sqrt(F) for f32, whose longest sum has F terms.
// Logits are scaled by their height over the mean because what all tokens share cancels in a comparison.
CHECKED enum status bench_run(struct backend *backend, const struct bench_options *options,
                              struct bench_record *record, struct error *error);

#endif
