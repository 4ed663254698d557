// The CPU backend's own structures, shared by the files of this directory.
//
// Weights are f32 or bf16, and so are cached keys and values; all arithmetic is f32. A row's logits are the
// same bits with and without the cache, alone or in any batch, and on any number of threads.
#ifndef CPU_CPU_H
#define CPU_CPU_H

#include "cpu/arena.h"
#include "cpu/attention.h"
#include "cpu/matmul.h"
#include "cpu/team.h"
#include "engine/backend.h"

// ---- weights
// ------------------------------------------------------------------------------------------------

struct cpu_layer {
    float *ln1w, *ln1b, *ln2w, *ln2b;       // (C)
    struct matrix qkv, attproj, fc, fcproj; // (3C, C) (C, C) (F, C) (C, F)
};

struct cpu_backend {
    struct backend base; // options.threads is the number really used
    struct team team;
    struct cpu_layer *layers;
    struct arena arena;    // all weights
    struct matrix wte;     // (V, C)
    struct matrix lm_head; // (V, C), wte's memory when tied
    float *wpe;            // (T, C)
    float *lnfw, *lnfb;    // (C)
};

CHECKED enum status cpu_open(const struct backend *base, const struct model *model, struct backend **backend,
                             struct error *error);
void cpu_close(struct backend *backend);

// ---- sessions
// -----------------------------------------------------------------------------------------------

struct cpu_session {
    struct session base;
    bool stop;          // an interrupt was seen
    struct arena arena; // everything below lives here

    // Rows, (B) each. `lengths` counts the newest token, which is not in the cache yet.
    int32_t *history; // (B, max_tokens)
    int *lengths;     // 0: free
    int *drawn_end;   // where the last call's newest token ends, 0: the row took no part
    uint64_t *requests;
    float *step_milliseconds; // (max_tokens)

    // With the cache, the keys and values of every row: (L, B) sequences of `row_capacity` tokens.
    char *cache;
    int row_capacity;
    size_t row_cache_bytes;
    // Keys and values of one layer that the next layer overwrites: of a chunk recomputed without the cache,
    // and of a sequence that is scored.
    char *scratch_cache;
    int scratch_capacity;

    // The chunk of tokens that is being fed: N <= chunk_tokens, in M <= chunk_sequences sequences.
    int chunk_tokens, chunk_sequences;
    struct sequence *sequences; // (M)
    int *sequence_rows;         // (M)
    int32_t *tokens;            // (N)
    int *positions;             // (N)
    float *x;                   // (N, C) residual stream
    float *normed;              // (N, C) LayerNorm's result, then attention's
    float *wide;                // (N, max(3C, F)) queries, keys and values; then the MLP's hidden units
    float *attention_scratch;

    // The LM head's output for at most `logits_rows` tokens at a time.
    int logits_rows;
    float *logits;      // (logits_rows, V)
    int *logits_tokens; // (N) places of the tokens it is applied to
    float *kept_logits; // (B, V) with keep_logits
    float *probability; // (threads, V) for the sampler
    int32_t *order;     // (threads, V)
};

void cpu_ledger(const struct backend *backend, const struct session_spec *spec, struct memory_ledger *ledger);
CHECKED enum status cpu_session_open(struct backend *backend, const struct session *base,
                                     struct session **session, struct error *error);
void cpu_session_close(struct session *session);
CHECKED enum status cpu_prefill(struct session *session, const struct prompt_batch *prompts,
                                struct error *error);
CHECKED enum status cpu_decode(struct session *session, int steps, struct error *error);
CHECKED enum status cpu_collect(struct session *session, int32_t *tokens, struct error *error);
CHECKED enum status cpu_retire(struct session *session, const int *rows, int count, struct error *error);
CHECKED enum status cpu_logits(struct session *session, int row, float *logits, struct error *error);
CHECKED enum status cpu_step_times(struct session *session, float *milliseconds, struct error *error);
CHECKED enum status cpu_score(struct session *session, const struct score_request *request,
                              struct error *error);

// ---- the model
// ----------------------------------------------------------------------------------------------

// Both are called by all threads of a region together.

// Feeds the chunk's N tokens, in its first `sequences` sequences, through all layers: x (N, C) holds the
// result. A sequence's cache is that of layer 0 and the next layer's lies layer_bytes behind it. False when
// it was interrupted between layers.
CHECKED bool cpu_forward(struct cpu_session *session, int sequences, size_t layer_bytes);

// logits (count, V) of tokens logits_tokens[first .. first + count - 1] of the chunk; count <= logits_rows.
void cpu_lm_head(struct cpu_session *session, int first, int count);

// ---- probes
// -------------------------------------------------------------------------------------------------

CHECKED enum status cpu_probe(struct backend *backend, const struct probe *probe, double *seconds,
                              struct error *error);

#endif
