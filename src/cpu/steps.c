// Extending the rows of a session: which tokens are fed when, and what is drawn from the logits.
#include "base/clock.h"
#include "cpu/cpu.h"

#include <math.h>
#include <omp.h>
#include <string.h>

static struct cpu_session *cpu_of(struct session *session) {
    return (struct cpu_session *)session;
}
static int32_t *row_history(const struct cpu_session *s, int row) {
    return s->history + (size_t)row * (size_t)s->base.spec.max_tokens;
}

// ---- a chunk: whole sequences, packed one after the other
// ---------------------------------------------------

struct chunk {
    int sequences, tokens;
    int scratch; // tokens of the scratch cache that are taken
};

static bool chunk_fits(const struct cpu_session *s, const struct chunk *chunk, int count) {
    bool scratch_fits = s->cache || chunk->scratch + attention_capacity(count) <= s->scratch_capacity;
    return chunk->tokens + count <= s->chunk_tokens && chunk->sequences < s->chunk_sequences && scratch_fits;
}

static void chunk_add(struct cpu_session *s, struct chunk *chunk, const int32_t *tokens, int past, int count,
                      void *cache, int capacity) {
    s->sequences[chunk->sequences++] = (struct sequence){
        .first = chunk->tokens, .count = count, .past = past, .capacity = capacity, .cache = cache};
    memcpy(s->tokens + chunk->tokens, tokens, (size_t)count * sizeof *tokens);
    for (int t = 0; t < count; t++) s->positions[chunk->tokens + t] = past + t;
    chunk->tokens += count;
}

// The newest tokens of a row with the cache, all of them without.
static void chunk_add_row(struct cpu_session *s, struct chunk *chunk, int row, int past) {
    const struct gpt2_config *config = &s->base.backend->config;
    int count = s->lengths[row] - past;
    s->sequence_rows[chunk->sequences] = row;
    char *cache;
    int capacity;
    if (s->cache) {
        cache = s->cache + (size_t)row * s->row_cache_bytes;
        capacity = s->row_capacity;
    } else {
        capacity = attention_capacity(count);
        cache = s->scratch_cache + attention_cache_bytes(s->base.backend->options.dtype, config->heads,
                                                         config->channels / config->heads, chunk->scratch);
        chunk->scratch += capacity;
    }
    chunk_add(s, chunk, row_history(s, row) + past, past, count, cache, capacity);
}

// ---- drawing
// -----------------------------------------------------------------------------------------------

// The next token of a row, from its logits (V).
static void draw(struct cpu_session *s, int row, const float *logits) {
    const struct sampling *sampling = &s->base.spec.sampling;
    size_t V = (size_t)s->base.backend->config.vocab, thread = (size_t)omp_get_thread_num();
    int length = s->lengths[row];
    int32_t token;
    if (sampling->temperature > 0.0f) {
        struct sampling_scratch scratch = {s->probability + thread * V, s->order + thread * V};
        float u = sampling_uniform(sampling->seed, s->requests[row], (uint64_t)length);
        token = sampling_draw(sampling, logits, (int)V, u, &scratch);
    } else {
        token = sampling_argmax(logits, (int)V);
    }
    row_history(s, row)[length] = token;
    s->lengths[row] = length + 1;
    if (s->kept_logits) memcpy(s->kept_logits + (size_t)row * V, logits, V * sizeof *logits);
}

// Where in the chunk the last token of its i-th sequence is.
static int last_token(const struct cpu_session *s, int i) {
    return s->sequences[i].first + s->sequences[i].count - 1;
}

// Applies the LM head to `total` tokens of the chunk, the last or all, and draws from the last ones. Called
// by all threads together.
static void chunk_draw(struct cpu_session *s, const struct chunk *chunk, int total, bool all) {
    const size_t V = (size_t)s->base.backend->config.vocab;
    for (int first = 0; first < total; first += s->logits_rows) {
        int count = total - first < s->logits_rows ? total - first : s->logits_rows;
        cpu_lm_head(s, first, count);
#pragma omp for schedule(dynamic) nowait
        for (int i = 0; i < chunk->sequences; i++) {
            int place = (all ? last_token(s, i) : i) - first;
            if (place >= 0 && place < count) draw(s, s->sequence_rows[i], s->logits + (size_t)place * V);
        }
        team_barrier(&((struct cpu_backend *)s->base.backend)->team);
    }
}

static enum status chunk_run(struct cpu_session *s, struct chunk *chunk, struct error *error) {
    if (chunk->sequences == 0) return STATUS_OK;
    const size_t layer_bytes = s->cache ? (size_t)s->base.spec.rows * s->row_cache_bytes : 0;
    const bool all = s->base.spec.logits == LOGITS_ALL;
    const int total = all ? chunk->tokens : chunk->sequences;
    for (int i = 0; i < total; i++) s->logits_tokens[i] = all ? i : last_token(s, i);
#pragma omp parallel num_threads(s->base.backend->options.threads)
    if (cpu_forward(s, chunk->sequences, layer_bytes)) chunk_draw(s, chunk, total, all);
    *chunk = (struct chunk){0};
    return s->stop ? error_set(error, STATUS_INTERRUPTED, "interrupted") : STATUS_OK;
}

// ---- operations
// --------------------------------------------------------------------------------------------

// Appends one token to each of the rows, or to every live row when `rows` is NULL. `fresh` rows have nothing
// in the cache yet.
static enum status extend(struct cpu_session *s, const int *rows, int count, bool fresh,
                          struct error *error) {
    struct chunk chunk = {0};
    for (int i = 0; i < count; i++) {
        int row = rows ? rows[i] : i;
        if (s->lengths[row] == 0) continue;
        int past = fresh || !s->cache ? 0 : s->lengths[row] - 1;
        if (!chunk_fits(s, &chunk, s->lengths[row] - past)) TRY(chunk_run(s, &chunk, error));
        chunk_add_row(s, &chunk, row, past);
    }
    return chunk_run(s, &chunk, error);
}

enum status cpu_prefill(struct session *session, const struct prompt_batch *prompts, struct error *error) {
    struct cpu_session *s = cpu_of(session);
    double start = clock_seconds();
    const int32_t *tokens = prompts->tokens;
    for (int i = 0; i < prompts->count; i++) {
        int row = prompts->rows[i], length = prompts->lengths[i];
        memcpy(row_history(s, row), tokens, (size_t)length * sizeof *tokens);
        s->lengths[row] = length;
        s->requests[row] = prompts->requests[i];
        tokens += length;
    }
    enum status status = extend(s, prompts->rows, prompts->count, true, error);
    if (status != STATUS_OK) {
        for (int i = 0; i < prompts->count; i++) s->lengths[prompts->rows[i]] = 0;
        return status;
    }
    memset(s->drawn_end, 0, (size_t)session->spec.rows * sizeof *s->drawn_end);
    for (int i = 0; i < prompts->count; i++) s->drawn_end[prompts->rows[i]] = s->lengths[prompts->rows[i]];
    s->step_milliseconds[0] = (float)((clock_seconds() - start) * 1e3);
    return STATUS_OK;
}

enum status cpu_decode(struct session *session, int steps, struct error *error) {
    struct cpu_session *s = cpu_of(session);
    for (int step = 0; step < steps; step++) {
        double start = clock_seconds();
        TRY(extend(s, NULL, session->spec.rows, false, error));
        s->step_milliseconds[step] = (float)((clock_seconds() - start) * 1e3);
    }
    memcpy(s->drawn_end, s->lengths, (size_t)session->spec.rows * sizeof *s->lengths);
    return STATUS_OK;
}

enum status cpu_collect(struct session *session, int32_t *tokens, struct error *error) {
    (void)error; // the tokens are here already
    struct cpu_session *s = cpu_of(session);
    int rows = session->spec.rows, steps = session->pending_steps;
    for (int row = 0; row < rows; row++) {
        const int32_t *drawn = row_history(s, row) + s->drawn_end[row] - steps;
        for (int step = 0; step < steps; step++)
            tokens[(size_t)step * (size_t)rows + (size_t)row] = s->drawn_end[row] > 0 ? drawn[step] : -1;
    }
    return STATUS_OK;
}

enum status cpu_retire(struct session *session, const int *rows, int count, struct error *error) {
    (void)error;
    for (int i = 0; i < count; i++) cpu_of(session)->lengths[rows[i]] = 0;
    return STATUS_OK;
}

enum status cpu_logits(struct session *session, int row, float *logits, struct error *error) {
    (void)error;
    size_t V = (size_t)session->backend->config.vocab;
    memcpy(logits, cpu_of(session)->kept_logits + (size_t)row * V, V * sizeof *logits);
    return STATUS_OK;
}

enum status cpu_step_times(struct session *session, float *milliseconds, struct error *error) {
    (void)error;
    memcpy(milliseconds, cpu_of(session)->step_milliseconds,
           (size_t)session->pending_steps * sizeof *milliseconds);
    return STATUS_OK;
}

// ---- scoring
// -----------------------------------------------------------------------------------------------

// -log p(target) under the softmax of logits (V), in double: sums of fifty thousand terms are exact enough.
static float negative_log_likelihood(const float *logits, int vocab, int32_t target) {
    double highest = (double)logits[sampling_argmax(logits, vocab)], sum = 0.0;
    for (int i = 0; i < vocab; i++) sum += exp((double)logits[i] - highest);
    return (float)(log(sum) + highest - (double)logits[target]);
}

static void score_position(const struct score_request *request, int position, const float *logits,
                           int vocab) {
    int32_t target = request->targets ? request->targets[position] : -1;
    if (request->nll)
        request->nll[position] = target < 0 ? 0.0f : negative_log_likelihood(logits, vocab, target);
    if (request->argmax) request->argmax[position] = sampling_argmax(logits, vocab);
    if (request->last_logits && position == request->count - 1)
        memcpy(request->last_logits, logits, (size_t)vocab * sizeof *logits);
}

// Called by all threads together.
static void score_positions(struct cpu_session *s, const struct score_request *request) {
    struct cpu_backend *b = (struct cpu_backend *)s->base.backend;
    const int vocab = b->base.config.vocab;
    for (int first = request->nll || request->argmax ? 0 : request->count - 1; first < request->count;
         first += s->logits_rows) {
        int count = request->count - first < s->logits_rows ? request->count - first : s->logits_rows;
        cpu_lm_head(s, first, count);
#pragma omp for nowait
        for (int i = 0; i < count; i++)
            score_position(request, first + i, s->logits + (size_t)i * (size_t)vocab, vocab);
        team_barrier(&b->team);
    }
}

enum status cpu_score(struct session *session, const struct score_request *request, struct error *error) {
    struct cpu_session *s = cpu_of(session);
    struct chunk chunk = {0};
    chunk_add(s, &chunk, request->tokens, 0, request->count, s->scratch_cache,
              attention_capacity(request->count));
    for (int i = 0; i < request->count; i++) s->logits_tokens[i] = i;
#pragma omp parallel num_threads(session->backend->options.threads)
    if (cpu_forward(s, chunk.sequences, 0)) score_positions(s, request);
    return s->stop ? error_set(error, STATUS_INTERRUPTED, "interrupted") : STATUS_OK;
}
