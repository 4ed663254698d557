// The device side of backends and sessions: what they own. All device memory of a session is one allocation.
#ifndef CUDA_SESSION_H
#define CUDA_SESSION_H

#include "cuda/gemm.h"
#include "cuda/weights.h"
#include "engine/backend.h"

#include <cuda_runtime.h>
#include <stdint.h>

struct cuda_backend {
    struct backend base; // first member
    struct weights weights;
    struct gemm_table *gemms;
    cudaStream_t stream;      // all work of the backend and its sessions, in order
    unsigned persistent_rows; // bit B: the persistent kernel can decode B rows (cached_step_find_kernels)
};

// Device memory of a session. T is the compute dtype; N up to `capacity` packed tokens.
struct session_buffers {
    void *kv; // (L, [K|V], B, H, max_tokens, D) T; one K or V is kv_stride bytes. NULL without a cache

    float *x;     // (N, C) residual stream
    void *normed; // (N, C) T, LayerNorm's output
    void *qkv;    // (N, 3C) T
    void *mixed;  // (N, C) T, attention's output
    void *inner;  // (N, F) T, the MLP's hidden units
    void *last;   // (B, C) T, the final LayerNorm of each row's last position
    void *gemm_workspace, *attention_workspace, *sample_workspace;

    // Of a cached step with kernels of our own, else NULL: deferred_norm.h, decode_head.h.
    void *scaled;       // (B, C) T
    float2 *stats;      // (C / 64, B)
    int2 *head_partial; // (B, decode_head_blocks(B))
    void *persistent;   // persistent_workspace_bytes(...)

    float *logits;       // (B, Vp) of the rows of the running prefill or decode
    float *logits_chunk; // (chunk, Vp) of consecutive positions, for score and LOGITS_ALL
    float *logits_kept;  // (B, Vp) by session row, what session_logits reads; NULL unless keep_logits

    int32_t *tokens;    // (B, max_tokens) history
    int32_t *lengths;   // (B) tokens of each row, 0: free
    uint64_t *requests; // (B)
    int32_t *starts;    // (B + 1) of the packed rows in work
    int32_t *ends;      // (B) packed index of each row's last token, -1 where it has none
    int32_t *collected; // (max_tokens, B) for session_collect

    int32_t *prompt_tokens;    // (B * max_tokens) packed
    int32_t *prompt_lengths;   // (B)
    int32_t *prompt_rows;      // (B)
    uint64_t *prompt_requests; // (B)
    int32_t *targets, *argmax; // (max_tokens) for score
    float *nll;                // (max_tokens)
};

struct step_graph; // step_graphs.cu

struct cuda_session {
    struct session base; // first member
    void *memory;        // device, holds all buffers
    struct session_buffers buffers;
    struct persistent_step *persistent; // that runs its cached steps, or NULL (cached_step.h)
    bool fused;                         // the layers of its cached steps are our own kernels (cached_step.h)
    bool owns_head;                     // and so is their LM head; both are asked of the device once
    int64_t kv_stride;                  // bytes
    int capacity;                       // N: packed tokens worked on at once
    int chunk;                          // positions whose logits are computed at once
    bool *collected_rows;               // (B) host: rows that took part in the last prefill or decode
    int *lengths_now;                   // (B) host: lengths while an uncached decode runs
    struct gemm_operands *trials;       // (L) host: scratch for planning products
    struct step_graph *graphs;          // captured so far
    cudaEvent_t pace[2];                // bound how far the host runs ahead
    cudaEvent_t *step_events;           // (max_tokens + 1) when steps are timed
};

static inline struct cuda_backend *cuda_backend_of(const struct cuda_session *session) {
    return (struct cuda_backend *)session->base.backend;
}

// The operations of struct backend_ops of the same names.
void cuda_ledger(const struct backend *backend, const struct session_spec *spec,
                 struct memory_ledger *ledger);
CHECKED enum status cuda_session_open(struct backend *backend, const struct session *base,
                                      struct session **session, struct error *error);
void cuda_session_close(struct session *session);

#endif
