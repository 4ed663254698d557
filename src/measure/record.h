// The bench record: everything one run of `bench` found out, as facts. Every report, plot, prediction and
// comparison is made from a record; nothing else is passed between them.
#ifndef MEASURE_RECORD_H
#define MEASURE_RECORD_H

#include "base/status.h"
#include "engine/backend.h"
#include "measure/discovery.h"
#include "measure/predict.h"
#include "measure/roofline.h"
#include "measure/serving_cost.h"
#include "measure/stats.h"
#include "measure/telemetry.h"
#include "models/model.h"

#include <stdbool.h>
#include <stdint.h>

#define RECORD_SCHEMA "gpt2infer.bench/1"

struct record_engine {
    char version[32];
    char commit[64];    // empty: not known
    char compiler[128]; //
    bool cuda;          // built with the CUDA backend
};

struct record_model {
    char name[1024]; // as the user named it
    char format[16]; // "safetensors", "llm.c", "random"
    enum dtype stored_dtype;
    int64_t parameters;
    struct gpt2_config config;
};

struct record_workload {
    int prompt_len, gen_len; // tokens per row
    enum dtype dtype;        // computed in
    enum logits_mode logits;
    bool deterministic; // backend_options
    uint64_t seed;
    int warmup; // runs before the first repetition
    // When to stop repeating, see bench.h.
    int reps;           // asked for; 0: automatic
    double noise;       // relative half-width of the 95 % interval that was aimed at
    double max_seconds; // of an arm's repetitions; 0: no limit
};

enum row_status {
    ROW_OK,
    ROW_PARTIAL,       // interrupted: the figures are of the part that was done
    ROW_OUT_OF_MEMORY, // the session did not fit
    ROW_SKIPPED,       // not begun
    ROW_FAILED,
    ROW_MISMATCH, // repetitions or arms disagree by more than rounding explains
};
const char *
row_status_name(enum row_status status); // "ok", "partial", "oom", "skipped", "failed", "mismatch"

// How the tokens of the two arms compare, row by row.
enum agreement {
    AGREEMENT_UNKNOWN, // one arm only, or one of them has no tokens
    AGREEMENT_SAME,
    AGREEMENT_NEAR_TIE,  // rows part where the logits are closer than the dtype's rounding
    AGREEMENT_DIFFERENT, // and where they are not
};
const char *agreement_name(enum agreement agreement); // "unknown", "same", "near-tie", "different"

struct arm_agreement {
    enum agreement verdict;
    int differing_rows;
    // The worst of the examined places where two rows part: the logits after their common prefix.
    int row, position;      // position counts generated tokens from 0
    double logit_gap;       // highest logit - the lower logit of the two tokens chosen
    double rounding_allows; // the gap that the dtype explains, see bench.h
};

// Device time of the decode steps of one run in milliseconds; all zero: not measured.
struct step_times {
    int count;
    double mean, p50, p95, p99;
};

// One batch size in one arm.
struct bench_row {
    int batch;
    bool kv_cache;
    enum row_status status;
    char reason[sizeof((struct error *)0)->message]; // why the status is not ok; its first line says it
    char note[256];                                  // what a reader should know of an ok row; may be empty

    int reps;             // repetitions that were completed
    struct summary tok_s; // generated tokens / wall time of prefill and decode, all rows together
    double *samples;      // (tok_s.count) tok/s of each repetition, stb_ds array
    double tok_s_per_row; // of the median
    double prefill_ms;    // median time to first token
    double ms_per_step;   // median decode time / (gen_len - 1); 0 when gen_len is 1
    double decode_tok_s;  // batch / ms_per_step; 0 likewise
    struct step_times step;
    struct row_sensors sensors; // during the repetitions
    char decode_path[16]; // session_decode_path: which kernels decoded; empty: not begun, or one way only
    char token_hash[17];  // FNV-1a 64 of the generated tokens, 16 hexadecimal digits; empty: no tokens
    struct memory_ledger memory;
    double speedup; // median tok/s over the uncached arm's; 0: not known. On cached rows only.
    struct arm_agreement agreement;
};

struct bench_record {
    struct record_engine engine;
    struct device_info device;
    struct ceilings ceilings; // all zero: not measured
    struct machine machine;   // what rows are predicted from; all zero: nothing is
    struct record_model model;
    struct record_workload workload;
    struct pricing pricing;
    struct discovery discovery; // how the batch size was found; all zero: it was given
    struct bench_row *rows;     // stb_ds array, in the order measured: by batch, cache on before off
};

// A record starts as all zeros. Frees the rows and the discovery.
void record_clear(struct bench_record *record);

void record_describe_engine(struct record_engine *description); // this program
void record_describe_model(struct record_model *description, const struct model *model);

// Reads what report.h wrote as JSON. Strict: another schema, a missing or mistyped field or a value out of
// range is an error that names the file and the field. On failure *record is empty; else the caller clears
// it.
CHECKED enum status record_read(const char *path, struct bench_record *record, struct error *error);

#endif
