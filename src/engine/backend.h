// The one interface between the engine and a device.
//
// A backend is a device with one model resident; a session is a set of B rows (sequences) being extended on
// it. The interface is coarse on purpose: a backend owns its whole schedule and may fuse as it likes. Callers
// use the functions at the top; they check every argument once, for all backends, and dispatch to
// `backend_ops`.
//
// A row is free, or live with a length: its prompt plus the tokens generated so far. The newest token of a
// live row has been sampled but not yet fed through the model. Calls on one backend come from one thread at a
// time.
#ifndef ENGINE_BACKEND_H
#define ENGINE_BACKEND_H

#include "base/dtype.h"
#include "base/status.h"
#include "engine/sampling.h"
#include "models/model.h"

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct backend;
struct session;

// ---- devices

struct device_info {
    char backend[8];          // "cpu", "cuda"
    char name[128];           // "NVIDIA H200"
    char detail[128];         // "sm_90, driver 13.0, runtime 13.0"; "AVX-512, 2 threads"
    char pci_bus_id[32];      // "0000:1b:00.0", by which management tools know a GPU; empty: none
    int index;                // of its kind
    int compute_units;        // multiprocessors, or threads
    int64_t memory_bytes;     //
    int64_t memory_free;      // bytes not taken by anybody right now
    int64_t cache_bytes;      // last-level cache
    unsigned dtypes;          // bit (1u << enum dtype) for each dtype the backend computes in
    enum dtype fastest_dtype; // what --dtype auto means here for a model without a stored dtype of its own
};

struct device {
    const struct backend_ops *ops;
    int index;
};

// "auto" (the first usable GPU, else the CPU), "cpu", "cuda", "cuda:N".
CHECKED enum status device_find(const char *name, struct device *device, struct error *error);
// All usable devices, in the order "auto" prefers them; returns how many were written, at most `room`.
int device_list(struct device *devices, int room);
CHECKED enum status device_describe(struct device device, struct device_info *info, struct error *error);

// ---- backends

struct backend_options {
    enum dtype dtype; // of weights and, on a GPU, of activations and cache
    int threads;      // CPU threads, 0: all this process may use
    // Nothing that bears on results is chosen by timing: another process computes the same bits on the same
    // device with the same libraries. The CPU backend never does, the CUDA backend times library products.
    bool deterministic;
    // When it becomes nonzero, a long call returns STATUS_INTERRUPTED at the next layer or step. May be NULL.
    const volatile sig_atomic_t *interrupt;
};

// Uploads (and repacks) the weights. The model may be closed afterwards. On failure *backend is NULL.
CHECKED enum status backend_open(struct device device, const struct model *model,
                                 const struct backend_options *options, struct backend **backend,
                                 struct error *error);
void backend_close(struct backend *backend); // NULL is allowed; its sessions must be closed

const struct gpt2_config *backend_config(const struct backend *backend);
enum dtype backend_dtype(const struct backend *backend);
struct device backend_device(const struct backend *backend);

// ---- sessions

enum logits_mode {
    LOGITS_LAST, // the LM head is applied to the last position of each row
    LOGITS_ALL,  // to every position that is fed, as the published experiment did
};
const char *logits_mode_name(enum logits_mode mode); // "last", "all"

// Which kernels a cached decode step is made of. Backends with one way of decoding have no choice.
enum decode_path {
    DECODE_AUTO,  // what measured fastest for the shapes and the device
    DECODE_GRAPH, // a graph of library products and plain kernels: the reference the others are tested
                  // against
    // The backend's own kernels, refused where the shapes, the device or the dtype have none:
    DECODE_FUSED,      // a chain of them for each step
    DECODE_PERSISTENT, // one that stays on the device for many steps of few rows
};

struct session_spec {
    int rows;       // B >= 1
    int max_tokens; // longest a row may become, 2 .. context
    bool kv_cache;  // false: every step recomputes every live row's whole prefix through the prefill path
    enum logits_mode logits;
    enum decode_path decode_path;
    bool keep_logits; // session_logits may be called
    bool time_steps;  // session_step_times may be called
    struct sampling sampling;
};

// What a session takes in device memory, by purpose, in bytes.
struct memory_ledger {
    int64_t weights; // taken by the backend already
    int64_t kv_cache;
    int64_t activations; // including workspaces
    int64_t logits;
    int64_t tokens; // token history, positions, sampling state
    int64_t free;   // free on the device before the session
};

int64_t memory_ledger_session_bytes(const struct memory_ledger *ledger); // without the weights
// One line per purpose, as shown by `info` and in out-of-memory messages. Writes at most `size` bytes.
void memory_ledger_format(const struct memory_ledger *ledger, char *text, size_t size);

void backend_ledger(const struct backend *backend, const struct session_spec *spec,
                    struct memory_ledger *ledger);

// Takes ALL memory the session will ever use. STATUS_OUT_OF_MEMORY carries the ledger and leaves the backend
// usable. On failure *session is NULL.
CHECKED enum status session_open(struct backend *backend, const struct session_spec *spec,
                                 struct session **session, struct error *error);
void session_close(struct session *session); // NULL is allowed

// Ragged prompts, packed one after the other, into free rows.
struct prompt_batch {
    int count;
    const int *rows;          // (count) distinct free rows
    const int *lengths;       // (count) 1 .. max_tokens - 1
    const int32_t *tokens;    // (sum of lengths)
    const uint64_t *requests; // (count) the id each request's random numbers are keyed by
};

// Starts the named rows; each gets its first new token. Other rows are untouched. Returns before the device
// is done where it can: session_collect waits.
CHECKED enum status session_prefill(struct session *session, const struct prompt_batch *prompts,
                                    struct error *error);

// Extends every live row by `steps` tokens without returning to the host. Fails with STATUS_USAGE when a row
// would outgrow max_tokens. After STATUS_INTERRUPTED only collect and close are allowed.
CHECKED enum status session_decode(struct session *session, int steps, struct error *error);

// Waits, then writes the tokens of the last prefill (steps = 1) or decode: (steps, B), -1 where a row took no
// part. Room for session_pending_steps() * B.
CHECKED enum status session_collect(struct session *session, int32_t *tokens, struct error *error);
int session_pending_steps(const struct session *session);

// Frees rows for the next prompts.
CHECKED enum status session_retire(struct session *session, const int *rows, int count, struct error *error);

int session_row_length(const struct session *session, int row); // 0: the row is free
const struct session_spec *session_spec_of(const struct session *session);

// Which kernels a step of this session's decode is made of: "persistent" or "fused" for the backend's own,
// "graph" for library products, "mixed" for library products between own attention and LM head, or "" where a
// backend has one way.
const char *session_decode_path(const struct session *session);

// The f32 logits (V) the newest token of a live row was sampled from. Needs keep_logits. Waits.
CHECKED enum status session_logits(struct session *session, int row, float *logits, struct error *error);

// Device time of each step of the last decode in milliseconds: (session_pending_steps()). Needs time_steps.
// Waits.
CHECKED enum status session_step_times(struct session *session, float *milliseconds, struct error *error);

// Feeds `count` tokens (1 .. context of max_tokens) as one sequence through the prefill path, touching no
// row. Outputs that are NULL are skipped. Waits.
struct score_request {
    int count;
    const int32_t *tokens;  // (count)
    const int32_t *targets; // (count) the token that position should predict, -1: none
    float *nll;             // (count) -log p(target), 0 where there is no target
    int32_t *argmax;        // (count)
    float *last_logits;     // (V)
};
CHECKED enum status session_score(struct session *session, const struct score_request *request,
                                  struct error *error);

// ---- probes: what this device really does, for `info --measure` and the roofline

enum probe_kind {
    PROBE_READ,   // read `bytes` of memory once, cold
    PROBE_MATMUL, // (m, k) x (n, k)^T in the backend's dtype, by the path the engine uses for that m; cold
                  // weights
    PROBE_PEAK_MATMUL, // the same product by the vendor library at its best (cblas_sgemm, cuBLAS)
    PROBE_LAUNCH, // the least work a step can be: one empty kernel of many in a graph; entering and leaving a
                  // parallel region
};

struct probe {
    enum probe_kind kind;
    int64_t bytes;
    int m, n, k;
};

// Median seconds of one execution.
CHECKED enum status backend_probe(struct backend *backend, const struct probe *probe, double *seconds,
                                  struct error *error);

// ---- what a backend implements

// Backends embed these as their first member. The checking functions above fill and maintain them.
struct backend {
    const struct backend_ops *ops;
    int index;
    struct gpt2_config config;
    struct backend_options options;
};

struct session {
    struct backend *backend;
    struct session_spec spec;
    int *lengths;      // (B) 0: free
    int pending_steps; // of the last prefill or decode
};

// Arguments have been checked. The caller updates session->lengths and pending_steps after a call succeeds,
// so during prefill and decode they still hold the state before it (decode passes steps, collect and
// step_times find the count in pending_steps).
struct backend_ops {
    const char *name; // "cpu", "cuda"
    int (*device_count)(void);
    enum status (*describe)(int index, struct device_info *info, struct error *error);
    // `base` is the filled embedded part to copy into the new backend.
    enum status (*open)(const struct backend *base, const struct model *model, struct backend **backend,
                        struct error *error);
    void (*close)(struct backend *backend);
    void (*ledger)(const struct backend *backend, const struct session_spec *spec,
                   struct memory_ledger *ledger);
    // `base` likewise; base->lengths is owned and freed by the caller of this function.
    enum status (*session_open)(struct backend *backend, const struct session *base, struct session **session,
                                struct error *error);
    void (*session_close)(struct session *session);
    enum status (*prefill)(struct session *session, const struct prompt_batch *prompts, struct error *error);
    enum status (*decode)(struct session *session, int steps, struct error *error);
    enum status (*collect)(struct session *session, int32_t *tokens, struct error *error);
    enum status (*retire)(struct session *session, const int *rows, int count, struct error *error);
    enum status (*logits)(struct session *session, int row, float *logits, struct error *error);
    enum status (*step_times)(struct session *session, float *milliseconds, struct error *error);
    enum status (*score)(struct session *session, const struct score_request *request, struct error *error);
    const char *(*decode_path)(const struct session *session); // NULL: one way of decoding
    enum status (*probe)(struct backend *backend, const struct probe *probe, double *seconds,
                         struct error *error);
};

extern const struct backend_ops cpu_backend_ops;
extern const struct backend_ops cuda_backend_ops; // only in builds with CUDA

#ifdef __cplusplus
}
#endif
#endif
