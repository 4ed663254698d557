// A session's memory: what it takes, by purpose, and taking it all at once.
#include "cpu/cpu.h"
#include "cpu/host.h"

#include <stdlib.h>

static const struct cpu_backend *cpu_of(const struct backend *backend) {
    return (const struct cpu_backend *)backend;
}

static int at_most(int64_t value, int limit) {
    return value < limit ? (int)value : limit;
}

static void layout_tokens(struct cpu_session *s, struct arena *arena) {
    size_t B = (size_t)s->base.spec.rows, T = (size_t)s->base.spec.max_tokens;
    size_t N = (size_t)s->chunk_tokens, M = (size_t)s->chunk_sequences;
    s->history = arena_take(arena, B, T * sizeof *s->history);
    s->lengths = arena_take(arena, B, sizeof *s->lengths);
    s->drawn_end = arena_take(arena, B, sizeof *s->drawn_end);
    s->requests = arena_take(arena, B, sizeof *s->requests);
    s->step_milliseconds = arena_take(arena, T, sizeof *s->step_milliseconds);
    s->sequences = arena_take(arena, M, sizeof *s->sequences);
    s->sequence_rows = arena_take(arena, M, sizeof *s->sequence_rows);
    s->tokens = arena_take(arena, N, sizeof *s->tokens);
    s->positions = arena_take(arena, N, sizeof *s->positions);
    s->logits_tokens = arena_take(arena, N, sizeof *s->logits_tokens);
}

static void layout_cache(struct cpu_session *s, struct arena *arena) {
    const struct backend *backend = s->base.backend;
    const struct gpt2_config *config = &backend->config;
    const enum dtype dtype = backend->options.dtype;
    int heads = config->heads, head_size = config->channels / heads;
    s->row_capacity = attention_capacity(s->base.spec.max_tokens);
    s->row_cache_bytes = attention_cache_bytes(dtype, heads, head_size, s->row_capacity);
    s->cache = NULL;
    if (s->base.spec.kv_cache) {
        size_t rows = (size_t)config->layers * (size_t)s->base.spec.rows;
        s->cache = arena_take(arena, rows, s->row_cache_bytes);
    }
    // Scoring needs one sequence; recomputing, as many as a chunk holds.
    s->scratch_capacity = s->row_capacity;
    if (!s->base.spec.kv_cache && s->chunk_tokens > s->row_capacity)
        s->scratch_capacity = attention_capacity(s->chunk_tokens);
    s->scratch_cache =
        arena_take(arena, 1, attention_cache_bytes(dtype, heads, head_size, s->scratch_capacity));
}

static void layout_activations(struct cpu_session *s, struct arena *arena) {
    const struct gpt2_config *config = &s->base.backend->config;
    size_t N = (size_t)s->chunk_tokens, C = (size_t)config->channels, F = (size_t)config->inner;
    s->x = arena_take(arena, N, C * sizeof(float));
    s->normed = arena_take(arena, N, C * sizeof(float));
    s->wide = arena_take(arena, N, (F > 3 * C ? F : 3 * C) * sizeof(float));
    s->attention_scratch =
        arena_take(arena, 1, attention_scratch_bytes(s->row_capacity, s->base.backend->options.threads));
}

static void layout_logits(struct cpu_session *s, struct arena *arena) {
    const struct session_spec *spec = &s->base.spec;
    size_t V = (size_t)s->base.backend->config.vocab, threads = (size_t)s->base.backend->options.threads;
    s->logits = arena_take(arena, (size_t)s->logits_rows, V * sizeof(float));
    s->kept_logits = NULL;
    if (spec->keep_logits) s->kept_logits = arena_take(arena, (size_t)spec->rows, V * sizeof(float));
    s->probability = NULL;
    s->order = NULL;
    if (spec->sampling.temperature > 0.0f) {
        s->probability = arena_take(arena, threads, V * sizeof(float));
        s->order = arena_take(arena, threads, V * sizeof(int32_t));
    }
}

// The sizes follow from the specification alone; run with an arena that counts, then with one that gives.
static void layout(struct cpu_session *s, struct arena *arena, struct memory_ledger *ledger) {
    const int enough_tokens = 1024; // for products at full rate
    const int enough_logits = 128;
    int64_t rows = s->base.spec.rows, max_tokens = s->base.spec.max_tokens;
    s->chunk_tokens =
        at_most(rows * max_tokens, max_tokens > enough_tokens ? (int)max_tokens : enough_tokens);
    s->chunk_sequences = at_most(rows, s->chunk_tokens);
    s->logits_rows = at_most(s->chunk_tokens, enough_logits);
    int64_t start = arena->used;
    layout_tokens(s, arena);
    ledger->tokens = arena->used - start;
    layout_cache(s, arena);
    ledger->kv_cache = arena->used - start - ledger->tokens;
    int64_t before = arena->used;
    layout_activations(s, arena);
    ledger->activations = arena->used - before;
    before = arena->used;
    layout_logits(s, arena);
    ledger->logits = arena->used - before;
}

static void measure(struct cpu_session *s, struct arena *arena, struct memory_ledger *ledger) {
    layout(s, arena, ledger);
    ledger->weights = cpu_of(s->base.backend)->arena.used;
    ledger->free = host_memory().available;
}

void cpu_ledger(const struct backend *backend, const struct session_spec *spec,
                struct memory_ledger *ledger) {
    // Only counts: the backend is not touched through it.
    struct cpu_session s = {.base = {.backend = (struct backend *)backend, .spec = *spec}};
    struct arena arena = {0};
    measure(&s, &arena, ledger);
}

static enum status out_of_memory(const struct session_spec *spec, const struct memory_ledger *ledger,
                                 struct error *error) {
    char text[1024];
    memory_ledger_format(ledger, text, sizeof text);
    return error_set(error, STATUS_OUT_OF_MEMORY,
                     "out of memory: a session of %d rows of up to %d tokens:\n%s", spec->rows,
                     spec->max_tokens, text);
}

enum status cpu_session_open(struct backend *backend, const struct session *base, struct session **session,
                             struct error *error) {
    struct cpu_session *s = calloc(1, sizeof *s);
    if (!s) return error_set(error, STATUS_OUT_OF_MEMORY, "out of memory: no room for a session");
    s->base = *base;
    struct memory_ledger ledger = {0};
    measure(s, &s->arena, &ledger);
    // The system would promise more than it has and end the process later: ask first.
    if (s->arena.used > ledger.free || !arena_reserve(&s->arena, backend->options.threads)) {
        free(s);
        return out_of_memory(&base->spec, &ledger, error);
    }
    layout(s, &s->arena, &ledger);
    *session = &s->base;
    return STATUS_OK;
}

void cpu_session_close(struct session *session) {
    struct cpu_session *s = (struct cpu_session *)session;
    arena_free(&s->arena);
    free(s);
}
