#include "cuda/session.h"

#include "cuda/attention.h"
#include "cuda/cached_step.h"
#include "cuda/check.h"
#include "cuda/decode_head.h"
#include "cuda/persistent_step.h"
#include "cuda/sample.h"
#include "cuda/step_graphs.h"

#include <stdlib.h>
#include <string.h>

enum {
    ALIGNMENT = 256,
    PACKED_TOKENS = 32768,      // worked on at once: enough to fill any GPU, little beside the cache
    SCORE_POSITIONS = 128,      // rows of logits held for score
    ALL_POSITIONS = 2048,       // and where every position's logits are asked for
    MOST_ROWS = 65535,          // a dimension of attention's grid
    DRIVER_RESERVE = 192 << 20, // left free: code and graphs the driver loads later
};

// ---- one walk over the buffers: measures with memory NULL, places otherwise

enum purpose { KV_CACHE, ACTIVATIONS, LOGITS, TOKENS, PURPOSES };

struct arena {
    char *memory;
    int64_t used[PURPOSES];
    int64_t offset;
};

// Products of hostile sizes stop here, far beyond any device and far enough from overflow to be summed.
static const int64_t ABSURD_BYTES = INT64_MAX / 64;

static int64_t saturating_product(int64_t a, int64_t b) {
    int64_t product;
    return __builtin_mul_overflow(a, b, &product) || product > ABSURD_BYTES ? ABSURD_BYTES : product;
}

static void *take(struct arena *arena, enum purpose purpose, int64_t rows, int64_t bytes_per_row) {
    int64_t bytes = saturating_product(rows, bytes_per_row);
    bytes = (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    char *place = arena->memory ? arena->memory + arena->offset : NULL;
    arena->offset += bytes;
    arena->used[purpose] += bytes;
    return place;
}

static int64_t larger(int64_t a, int64_t b) {
    return a > b ? a : b;
}
static int64_t smaller(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static size_t attention_bytes(const struct gpt2_config *config, const struct session_spec *spec) {
    const int H = config->heads, D = config->channels / config->heads, T = spec->max_tokens;
    const size_t sizes[] = {
        attention_workspace_bytes(ATTENTION_FLASH, spec->rows, H, D, T, T),
        attention_workspace_bytes(ATTENTION_FLASH, 1, H, D, T, T), // score
        spec->kv_cache ? attention_workspace_bytes(ATTENTION_SPLITKV, spec->rows, H, D, 1, T) : 0,
        spec->kv_cache ? attention_workspace_bytes(ATTENTION_STREAM, spec->rows, H, D, 1, T) : 0,
    };
    size_t most = 0;
    for (size_t size : sizes) most = size > most ? size : most;
    return most;
}

static void place_activations(struct session_buffers *buffers, struct arena *arena,
                              const struct cuda_backend *backend, const struct session_spec *spec,
                              int64_t N) {
    const struct gpt2_config *config = &backend->base.config;
    const int64_t C = config->channels, F = config->inner, B = spec->rows;
    const int64_t size = (int64_t)dtype_size(backend->base.options.dtype);
    buffers->x = (float *)take(arena, ACTIVATIONS, N, C * 4);
    buffers->normed = take(arena, ACTIVATIONS, N, C * size);
    buffers->qkv = take(arena, ACTIVATIONS, N, 3 * C * size);
    buffers->mixed = take(arena, ACTIVATIONS, N, C * size);
    buffers->inner = take(arena, ACTIVATIONS, N, F * size);
    buffers->last = take(arena, ACTIVATIONS, B, C * size);
    buffers->gemm_workspace = take(arena, ACTIVATIONS, 1, GEMM_WORKSPACE_BYTES);
    buffers->attention_workspace = take(arena, ACTIVATIONS, 1, (int64_t)attention_bytes(config, spec));
    buffers->sample_workspace = take(arena, ACTIVATIONS, 1, (int64_t)sample_workspace_bytes(spec->rows));
    if (cached_step_is_persistent(backend, spec))
        buffers->persistent = take(
            arena, ACTIVATIONS, 1,
            (int64_t)persistent_workspace_bytes(config->layers, config->channels, config->inner, spec->rows));
    if (!cached_step_is_fused(backend, spec) && !cached_step_owns_head(backend, spec)) return;
    buffers->scaled = take(arena, ACTIVATIONS, B, C * size);
    buffers->stats = (float2 *)take(arena, ACTIVATIONS, B, C / NORM_SEGMENT * (int64_t)sizeof(float2));
    buffers->head_partial =
        (int2 *)take(arena, ACTIVATIONS, B, decode_head_blocks(spec->rows) * (int64_t)sizeof(int2));
}

static void place_tokens(struct session_buffers *buffers, struct arena *arena,
                         const struct session_spec *spec) {
    const int64_t B = spec->rows, T = spec->max_tokens;
    buffers->tokens = (int32_t *)take(arena, TOKENS, B, T * 4);
    buffers->lengths = (int32_t *)take(arena, TOKENS, B, 4);
    buffers->requests = (uint64_t *)take(arena, TOKENS, B, 8);
    buffers->starts = (int32_t *)take(arena, TOKENS, B + 1, 4);
    buffers->ends = (int32_t *)take(arena, TOKENS, B, 4);
    buffers->collected = (int32_t *)take(arena, TOKENS, B, T * 4);
    buffers->prompt_tokens = (int32_t *)take(arena, TOKENS, B, T * 4);
    buffers->prompt_lengths = (int32_t *)take(arena, TOKENS, B, 4);
    buffers->prompt_rows = (int32_t *)take(arena, TOKENS, B, 4);
    buffers->prompt_requests = (uint64_t *)take(arena, TOKENS, B, 8);
    buffers->targets = (int32_t *)take(arena, TOKENS, T, 4);
    buffers->argmax = (int32_t *)take(arena, TOKENS, T, 4);
    buffers->nll = (float *)take(arena, TOKENS, T, 4);
}

// Sets the session's buffers and the sizes that go with them from its specification.
static void place_buffers(struct cuda_session *session, struct arena *arena,
                          const struct cuda_backend *backend, const struct session_spec *spec) {
    const struct gpt2_config *config = &backend->base.config;
    const int64_t B = spec->rows, T = spec->max_tokens, Vp = backend->weights.padded_vocab;
    const int64_t size = (int64_t)dtype_size(backend->base.options.dtype);
    struct session_buffers *buffers = &session->buffers;
    memset(buffers, 0, sizeof *buffers);
    // All rows at once up to a bound, never less than one whole row or one token of each.
    const int64_t N = larger(smaller(saturating_product(B, T), larger(T, PACKED_TOKENS)), B);
    session->capacity = (int)N;
    session->chunk = (int)smaller(spec->logits == LOGITS_ALL ? N : T,
                                  spec->logits == LOGITS_ALL ? ALL_POSITIONS : SCORE_POSITIONS);
    const int64_t kv_row = saturating_product(T, config->channels * size);
    session->kv_stride = (saturating_product(B, kv_row) + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    if (spec->kv_cache) buffers->kv = take(arena, KV_CACHE, 2 * (int64_t)config->layers, session->kv_stride);
    place_activations(buffers, arena, backend, spec, N);
    buffers->logits = (float *)take(arena, LOGITS, B, Vp * 4);
    buffers->logits_chunk = (float *)take(arena, LOGITS, session->chunk, Vp * 4);
    if (spec->keep_logits) buffers->logits_kept = (float *)take(arena, LOGITS, B, Vp * 4);
    place_tokens(buffers, arena, spec);
}

void cuda_ledger(const struct backend *base, const struct session_spec *spec, struct memory_ledger *ledger) {
    const struct cuda_backend *backend = (const struct cuda_backend *)base;
    struct cuda_session measured;
    struct arena arena = {};
    cudaSetDevice(base->index);
    place_buffers(&measured, &arena, backend, spec);
    size_t available = 0, total = 0;
    if (cudaMemGetInfo(&available, &total) != cudaSuccess) available = 0;
    ledger->weights = backend->weights.bytes;
    ledger->kv_cache = arena.used[KV_CACHE];
    ledger->activations = arena.used[ACTIVATIONS];
    ledger->logits = arena.used[LOGITS];
    ledger->tokens = arena.used[TOKENS];
    ledger->free = (int64_t)available;
}

// ---- opening and closing

static enum status refuse_memory(const struct cuda_backend *backend, const struct session_spec *spec,
                                 struct error *error) {
    struct memory_ledger ledger = {};
    char text[1024];
    cuda_ledger(&backend->base, spec, &ledger);
    memory_ledger_format(&ledger, text, sizeof text);
    return error_set(error, STATUS_OUT_OF_MEMORY,
                     "%d rows of %d tokens do not fit on the device (%d MiB are left to the driver):\n%s",
                     spec->rows, spec->max_tokens, DRIVER_RESERVE >> 20, text);
}

static enum status allocate_buffers(struct cuda_session *session, const struct cuda_backend *backend,
                                    struct error *error) {
    const struct session_spec *spec = &session->base.spec;
    struct arena arena = {};
    place_buffers(session, &arena, backend, spec);
    const size_t bytes = (size_t)arena.offset;
    size_t available, total;
    CUDA_TRY(cudaMemGetInfo(&available, &total));
    if (available < DRIVER_RESERVE || bytes > available - DRIVER_RESERVE)
        return refuse_memory(backend, spec, error);
    if (spec->rows > MOST_ROWS)
        return error_set(error, STATUS_USAGE, "%d rows: a session on a GPU has at most %d", spec->rows,
                         MOST_ROWS);
    enum status status = cuda_status(cudaMalloc(&session->memory, bytes), "session memory", error);
    if (status == STATUS_OUT_OF_MEMORY) return refuse_memory(backend, spec, error);
    TRY(status);
    arena = {};
    arena.memory = (char *)session->memory;
    place_buffers(session, &arena, backend, spec);
    // Free rows, counters at rest, and no NaN in padding that is computed with and thrown away.
    CUDA_TRY(cudaMemsetAsync(session->memory, 0, bytes, backend->stream));
    return STATUS_OK;
}

static enum status create_events(struct cuda_session *session, struct error *error) {
    for (cudaEvent_t &event : session->pace)
        CUDA_TRY(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
    if (!session->base.spec.time_steps) return STATUS_OK;
    const size_t count = (size_t)session->base.spec.max_tokens + 1;
    session->step_events = (cudaEvent_t *)calloc(count, sizeof *session->step_events);
    if (!session->step_events)
        return error_set(error, STATUS_OUT_OF_MEMORY, "no host memory for the events of timed steps");
    for (size_t i = 0; i < count; i++) CUDA_TRY(cudaEventCreate(&session->step_events[i]));
    return STATUS_OK;
}

static enum status open_parts(struct cuda_session *session, const struct cuda_backend *backend,
                              struct error *error) {
    const size_t B = (size_t)session->base.spec.rows;
    CUDA_TRY(cudaSetDevice(backend->base.index));
    TRY(cached_step_check(backend, &session->base.spec, error));
    session->fused = cached_step_is_fused(backend, &session->base.spec);
    session->owns_head = cached_step_owns_head(backend, &session->base.spec);
    TRY(allocate_buffers(session, backend, error)); // first: it refuses absurd sizes
    if (cached_step_is_persistent(backend, &session->base.spec))
        TRY(cached_step_open_persistent(session, error));
    session->collected_rows = (bool *)calloc(B, sizeof *session->collected_rows);
    session->lengths_now = (int *)calloc(B, sizeof *session->lengths_now);
    session->trials =
        (struct gemm_operands *)calloc((size_t)backend->base.config.layers, sizeof *session->trials);
    if (!session->collected_rows || !session->lengths_now || !session->trials)
        return error_set(error, STATUS_OUT_OF_MEMORY, "no host memory for a session of %d rows",
                         session->base.spec.rows);
    return create_events(session, error);
}

enum status cuda_session_open(struct backend *base, const struct session *base_session,
                              struct session **opened, struct error *error) {
    struct cuda_session *session = (struct cuda_session *)calloc(1, sizeof *session);
    if (!session) return error_set(error, STATUS_OUT_OF_MEMORY, "no host memory for a session");
    session->base = *base_session;
    enum status status = open_parts(session, (struct cuda_backend *)base, error);
    if (status != STATUS_OK) {
        cuda_session_close(&session->base);
        return status;
    }
    *opened = &session->base;
    return STATUS_OK;
}

void cuda_session_close(struct session *base) {
    struct cuda_session *session = (struct cuda_session *)base;
    cudaSetDevice(base->backend->index);
    cudaStreamSynchronize(cuda_backend_of(session)->stream);
    step_graphs_free(session);
    persistent_close(session->persistent);
    for (int i = 0; session->step_events && i <= base->spec.max_tokens; i++) {
        if (session->step_events[i]) cudaEventDestroy(session->step_events[i]);
    }
    for (cudaEvent_t event : session->pace) {
        if (event) cudaEventDestroy(event);
    }
    cudaFree(session->memory);
    free(session->step_events);
    free(session->trials);
    free(session->lengths_now);
    free(session->collected_rows);
    free(session);
}
