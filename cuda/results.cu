#include "cuda/results.h"

#include "cuda/check.h"
#include "cuda/pointwise.h"

#include <string.h>

static enum status collect_tokens(struct cuda_session *session, int steps, struct error *error) {
    const struct session_buffers *b = &session->buffers;
    CUDA_TRY(tokens_collect(b->tokens, session->base.spec.max_tokens, b->lengths, session->base.spec.rows,
                            steps, b->collected, cuda_backend_of(session)->stream));
    return STATUS_OK;
}

// Rows from .. from + count of this call's logits become those of session rows to .. to + count.
static enum status keep_logits(struct cuda_session *session, int from, int to, int count,
                               struct error *error) {
    const struct session_buffers *b = &session->buffers;
    const size_t Vp = (size_t)cuda_backend_of(session)->weights.padded_vocab;
    if (!session->base.spec.keep_logits) return STATUS_OK;
    CUDA_TRY(cudaMemcpyAsync(b->logits_kept + (size_t)to * Vp, b->logits + (size_t)from * Vp,
                             (size_t)count * Vp * sizeof *b->logits, cudaMemcpyDeviceToDevice,
                             cuda_backend_of(session)->stream));
    return STATUS_OK;
}

enum status results_of_prompts(struct cuda_session *session, const struct prompt_batch *prompts,
                               struct error *error) {
    TRY(collect_tokens(session, 1, error));
    memset(session->collected_rows, 0, (size_t)session->base.spec.rows * sizeof *session->collected_rows);
    for (int i = 0; i < prompts->count; i++) {
        session->collected_rows[prompts->rows[i]] = true;
        TRY(keep_logits(session, i, prompts->rows[i], 1, error));
    }
    return STATUS_OK;
}

enum status results_of_steps(struct cuda_session *session, int steps, struct error *error) {
    const int B = session->base.spec.rows;
    TRY(collect_tokens(session, steps, error));
    for (int row = 0; row < B; row++) session->collected_rows[row] = session->base.lengths[row] > 0;
    return keep_logits(session, 0, 0, B, error);
}

enum status results_mark_step(struct cuda_session *session, int index, struct error *error) {
    if (session->step_events)
        CUDA_TRY(cudaEventRecord(session->step_events[index], cuda_backend_of(session)->stream));
    return STATUS_OK;
}

static enum status read_back(struct cuda_session *session, void *host, const void *device, size_t bytes,
                             struct error *error) {
    const cudaStream_t stream = cuda_backend_of(session)->stream;
    CUDA_TRY(cudaSetDevice(session->base.backend->index));
    CUDA_TRY(cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, stream));
    CUDA_TRY(cudaStreamSynchronize(stream));
    return STATUS_OK;
}

enum status cuda_collect(struct session *base, int32_t *tokens, struct error *error) {
    struct cuda_session *session = (struct cuda_session *)base;
    const size_t B = (size_t)base->spec.rows, steps = (size_t)base->pending_steps;
    TRY(read_back(session, tokens, session->buffers.collected, steps * B * sizeof *tokens, error));
    for (size_t i = 0; i < steps * B; i++) {
        if (!session->collected_rows[i % B]) tokens[i] = -1;
    }
    return STATUS_OK;
}

enum status cuda_logits(struct session *base, int row, float *logits, struct error *error) {
    struct cuda_session *session = (struct cuda_session *)base;
    const size_t Vp = (size_t)cuda_backend_of(session)->weights.padded_vocab;
    return read_back(session, logits, session->buffers.logits_kept + (size_t)row * Vp,
                     (size_t)base->backend->config.vocab * sizeof *logits, error);
}

enum status cuda_step_times(struct session *base, float *milliseconds, struct error *error) {
    struct cuda_session *session = (struct cuda_session *)base;
    CUDA_TRY(cudaSetDevice(base->backend->index));
    CUDA_TRY(cudaStreamSynchronize(cuda_backend_of(session)->stream));
    for (int i = 0; i < base->pending_steps; i++) {
        CUDA_TRY(
            cudaEventElapsedTime(&milliseconds[i], session->step_events[i], session->step_events[i + 1]));
    }
    return STATUS_OK;
}
