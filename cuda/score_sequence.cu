#include "cuda/score_sequence.h"

#include "cuda/check.h"
#include "cuda/sample.h"
#include "cuda/schedule.h"

#include <string.h>

static enum status upload(struct cuda_session *session, const struct score_request *request,
                          struct error *error) {
    const struct session_buffers *b = &session->buffers;
    const cudaStream_t stream = cuda_backend_of(session)->stream;
    const size_t bytes = (size_t)request->count * sizeof(int32_t);
    CUDA_TRY(cudaMemcpyAsync(b->prompt_tokens, request->tokens, bytes, cudaMemcpyHostToDevice, stream));
    CUDA_TRY(cudaMemcpyAsync(b->prompt_lengths, &request->count, sizeof request->count,
                             cudaMemcpyHostToDevice, stream));
    if (request->targets)
        CUDA_TRY(cudaMemcpyAsync(b->targets, request->targets, bytes, cudaMemcpyHostToDevice, stream));
    return STATUS_OK;
}

// Losses and best tokens of all positions, a chunk of logits at a time; the last chunk's logits stay.
static enum status score_positions(struct cuda_session *session, const struct score_request *request,
                                   struct error *error) {
    const struct cuda_backend *backend = cuda_backend_of(session);
    const struct session_buffers *b = &session->buffers;
    TRY(schedule_normalize(session, request->count, error));
    for (int first = 0; first < request->count; first += session->chunk) {
        const int left = request->count - first, n = left < session->chunk ? left : session->chunk;
        TRY(schedule_positions(session, first, n, error));
        CUDA_TRY(score_rows(b->logits_chunk, n, backend->base.config.vocab, backend->weights.padded_vocab,
                            request->targets ? b->targets + first : NULL,
                            request->targets ? b->nll + first : NULL, b->argmax + first, backend->stream));
    }
    return STATUS_OK;
}

static enum status download(struct cuda_session *session, const struct score_request *request,
                            struct error *error) {
    const struct cuda_backend *backend = cuda_backend_of(session);
    const struct session_buffers *b = &session->buffers;
    const size_t count = (size_t)request->count;
    if (request->nll && request->targets)
        CUDA_TRY(cudaMemcpyAsync(request->nll, b->nll, count * sizeof *b->nll, cudaMemcpyDeviceToHost,
                                 backend->stream));
    if (request->argmax)
        CUDA_TRY(cudaMemcpyAsync(request->argmax, b->argmax, count * sizeof *b->argmax,
                                 cudaMemcpyDeviceToHost, backend->stream));
    if (request->last_logits) {
        const size_t row = (count - 1) % (size_t)session->chunk;
        CUDA_TRY(cudaMemcpyAsync(request->last_logits,
                                 b->logits_chunk + row * (size_t)backend->weights.padded_vocab,
                                 (size_t)backend->base.config.vocab * sizeof *request->last_logits,
                                 cudaMemcpyDeviceToHost, backend->stream));
    }
    CUDA_TRY(cudaStreamSynchronize(backend->stream));
    if (request->nll && !request->targets) memset(request->nll, 0, count * sizeof *request->nll);
    return STATUS_OK;
}

enum status cuda_score(struct session *base, const struct score_request *request, struct error *error) {
    struct cuda_session *session = (struct cuda_session *)base;
    const volatile sig_atomic_t *interrupt = base->backend->options.interrupt;
    if (interrupt && *interrupt) return error_set(error, STATUS_INTERRUPTED, "interrupted");
    CUDA_TRY(cudaSetDevice(base->backend->index));
    TRY(upload(session, request, error));
    struct packed_rows sequence = {}; // one row that is no session row
    sequence.count = 1;
    sequence.tokens = sequence.longest = sequence.tokens_stride = request->count;
    sequence.lengths = session->buffers.prompt_lengths;
    sequence.tokens_by_row = session->buffers.prompt_tokens;
    TRY(schedule_packed(session, &sequence, error));
    TRY(score_positions(session, request, error));
    return download(session, request, error);
}
