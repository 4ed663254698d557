#include "cuda/rows.h"

#include "cuda/check.h"
#include "cuda/pointwise.h"
#include "cuda/results.h"
#include "cuda/schedule.h"
#include "cuda/step_graphs.h"

// ---- chunks of whole rows

// Sets count, tokens and longest of the chunk that begins with row `first`; one row always fits.
static void measure_chunk(struct packed_rows *chunk, const int *lengths, int first, int count, int capacity) {
    chunk->count = chunk->tokens = chunk->longest = 0;
    for (int i = first; i < count && lengths[i] <= capacity - chunk->tokens; i++) {
        chunk->count++;
        chunk->tokens += lengths[i];
        if (lengths[i] > chunk->longest) chunk->longest = lengths[i];
    }
}

static struct packed_rows all_rows(const struct cuda_session *session) {
    struct packed_rows packed = {};
    packed.count = session->base.spec.rows;
    packed.lengths = session->buffers.lengths;
    packed.tokens_by_row = session->buffers.tokens;
    packed.tokens_stride = session->base.spec.max_tokens;
    return packed;
}

enum status rows_run(struct cuda_session *session, const int *lengths, int count, const int32_t *rows,
                     const int32_t *device_lengths, struct error *error) {
    const volatile sig_atomic_t *interrupt = session->base.backend->options.interrupt;
    const struct session_buffers *b = &session->buffers;
    struct packed_rows chunk = all_rows(session);
    chunk.write_cache = session->base.spec.kv_cache;
    for (int first = 0; first < count; first += chunk.count) {
        if (interrupt && *interrupt) return error_set(error, STATUS_INTERRUPTED, "interrupted");
        measure_chunk(&chunk, lengths, first, count, session->capacity);
        if (chunk.tokens == 0) continue; // only free rows
        chunk.lengths = (rows ? device_lengths : b->lengths) + first;
        chunk.rows = rows ? rows + first : NULL;
        if (!rows) chunk.tokens_by_row = b->tokens + (int64_t)first * chunk.tokens_stride;
        TRY(schedule_packed(session, &chunk, error));
        TRY(schedule_last(session, &chunk, first, error));
    }
    TRY(schedule_logits(session, count, error));
    return schedule_sample(session, count, rows, error);
}

enum status rows_run_packed(struct cuda_session *session, int prompts, int tokens, int longest,
                            struct error *error) {
    struct packed_rows packed = all_rows(session);
    packed.tokens = tokens;
    packed.longest = longest;
    if (prompts > 0) {
        packed.count = prompts;
        packed.lengths = session->buffers.prompt_lengths;
        packed.rows = session->buffers.prompt_rows;
        packed.write_cache = session->base.spec.kv_cache;
    }
    TRY(schedule_packed(session, &packed, error));
    TRY(schedule_last(session, &packed, 0, error));
    TRY(schedule_logits(session, packed.count, error));
    return schedule_sample(session, packed.count, packed.rows, error);
}

// ---- prompts

// Copies the prompts to the device and enters them into the decode state.
static enum status enter_prompts(struct cuda_session *session, const struct prompt_batch *prompts,
                                 struct error *error) {
    const struct session_buffers *b = &session->buffers;
    const cudaStream_t stream = cuda_backend_of(session)->stream;
    const size_t count = (size_t)prompts->count;
    size_t total = 0;
    for (size_t i = 0; i < count; i++) total += (size_t)prompts->lengths[i];
    CUDA_TRY(cudaMemcpyAsync(b->prompt_tokens, prompts->tokens, total * sizeof *prompts->tokens,
                             cudaMemcpyHostToDevice, stream));
    CUDA_TRY(cudaMemcpyAsync(b->prompt_lengths, prompts->lengths, count * sizeof *prompts->lengths,
                             cudaMemcpyHostToDevice, stream));
    CUDA_TRY(cudaMemcpyAsync(b->prompt_rows, prompts->rows, count * sizeof *prompts->rows,
                             cudaMemcpyHostToDevice, stream));
    CUDA_TRY(cudaMemcpyAsync(b->prompt_requests, prompts->requests, count * sizeof *prompts->requests,
                             cudaMemcpyHostToDevice, stream));
    CUDA_TRY(pack_layout(b->prompt_lengths, prompts->count, b->starts, b->ends, stream));
    CUDA_TRY(prompts_enter(b->prompt_tokens, b->starts, b->prompt_rows, b->prompt_requests, prompts->count,
                           b->tokens, session->base.spec.max_tokens, b->lengths, b->requests, stream));
    return STATUS_OK;
}

static bool is_idle(const struct cuda_session *session) {
    for (int row = 0; row < session->base.spec.rows; row++) {
        if (session->base.lengths[row] > 0) return false;
    }
    return true;
}

// As a graph, unless they are so many that launches do not matter, or join rows in work: those come in ever
// other numbers and lengths.
static enum status run_prompts(struct cuda_session *session, const struct prompt_batch *prompts,
                               struct error *error) {
    struct packed_rows all = {};
    measure_chunk(&all, prompts->lengths, 0, prompts->count, session->capacity);
    if (all.count < prompts->count || all.tokens > GRAPH_TOKENS || !is_idle(session))
        return rows_run(session, prompts->lengths, prompts->count, session->buffers.prompt_rows,
                        session->buffers.prompt_lengths, error);
    const struct graph_key key = {prompts->count, all.tokens, 1, all.longest};
    return step_graphs_launch(session, &key, error);
}

enum status cuda_prefill(struct session *base, const struct prompt_batch *prompts, struct error *error) {
    struct cuda_session *session = (struct cuda_session *)base;
    CUDA_TRY(cudaSetDevice(base->backend->index));
    TRY(enter_prompts(session, prompts, error));
    TRY(results_mark_step(session, 0, error));
    TRY(run_prompts(session, prompts, error));
    TRY(results_mark_step(session, 1, error));
    return results_of_prompts(session, prompts, error);
}

enum status cuda_retire(struct session *base, const int *rows, int count, struct error *error) {
    struct cuda_session *session = (struct cuda_session *)base;
    CUDA_TRY(cudaSetDevice(base->backend->index));
    for (int i = 0; i < count; i++) {
        CUDA_TRY(cudaMemsetAsync(session->buffers.lengths + rows[i], 0, sizeof *session->buffers.lengths,
                                 cuda_backend_of(session)->stream));
    }
    return STATUS_OK;
}
