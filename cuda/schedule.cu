#include "cuda/schedule.h"

#include "cuda/attention.h"
#include "cuda/check.h"
#include "cuda/pointwise.h"
#include "cuda/sample.h"

// ---- the five matrix products

static struct gemm_shape product_shape(const struct cuda_session *session, enum product product, int tokens) {
    const struct cuda_backend *backend = cuda_backend_of(session);
    const int C = backend->base.config.channels, F = backend->base.config.inner;
    const enum dtype T = backend->base.options.dtype;
    switch (product) {
    case PRODUCT_QKV:
        return {3 * C, C, tokens, T, T, GEMM_BIAS};
    case PRODUCT_ATTPROJ:
        return {C, C, tokens, T, DTYPE_F32, GEMM_RESIDUAL};
    case PRODUCT_FC:
        return {F, C, tokens, T, T, GEMM_GELU};
    case PRODUCT_FCPROJ:
        return {C, F, tokens, T, DTYPE_F32, GEMM_RESIDUAL};
    default:
        return {backend->weights.padded_vocab, C, tokens, T, DTYPE_F32, GEMM_PLAIN};
    }
}

struct gemm_operands schedule_operands(const struct cuda_session *session, enum product product, int layer) {
    const struct weights *weights = &cuda_backend_of(session)->weights;
    const struct session_buffers *b = &session->buffers;
    auto tensor = [&](enum gpt2_tensor name) { return weights_tensor(weights, name, layer); };
    switch (product) {
    case PRODUCT_QKV:
        return {tensor(GPT2_QKVW), tensor(GPT2_QKVB), b->normed, b->qkv};
    case PRODUCT_ATTPROJ:
        return {tensor(GPT2_ATTPROJW), tensor(GPT2_ATTPROJB), b->mixed, b->x};
    case PRODUCT_FC:
        return {tensor(GPT2_FCW), tensor(GPT2_FCB), b->normed, b->inner};
    default:
        return {tensor(GPT2_FCPROJW), tensor(GPT2_FCPROJB), b->inner, b->x};
    }
}

static struct gemm_target target_of(const struct cuda_session *session) {
    return {cuda_backend_of(session)->stream, session->buffers.gemm_workspace};
}

// Timed over all layers in turn, whose weights exceed the L2 cache when the model does.
static enum status find_layer_plan(struct cuda_session *session, enum product product, int tokens,
                                   const struct gemm_plan **plan, struct error *error) {
    struct cuda_backend *backend = cuda_backend_of(session);
    const int L = backend->base.config.layers;
    const struct gemm_shape shape = product_shape(session, product, tokens);
    const struct gemm_target target = target_of(session);
    for (int layer = 0; layer < L; layer++)
        session->trials[layer] = schedule_operands(session, product, layer);
    return gemm_find(backend->gemms, &shape, session->trials, L, &target, plan, error);
}

static enum status find_head_plan(struct cuda_session *session, const struct gemm_operands *operands,
                                  int rows, const struct gemm_plan **plan, struct error *error) {
    const struct gemm_shape shape = product_shape(session, PRODUCT_LMHEAD, rows);
    const struct gemm_target target = target_of(session);
    return gemm_find(cuda_backend_of(session)->gemms, &shape, operands, 1, &target, plan, error);
}

enum status schedule_lm_head(struct cuda_session *session, const void *input, float *logits, int rows,
                             struct error *error) {
    const struct gemm_operands operands = {weights_tensor(&cuda_backend_of(session)->weights, GPT2_LMHEAD, 0),
                                           NULL, input, logits};
    const struct gemm_target target = target_of(session);
    const struct gemm_plan *plan;
    TRY(find_head_plan(session, &operands, rows, &plan, error));
    return gemm_run(plan, rows, &operands, &target, error);
}

static enum status prepare_lm_head(struct cuda_session *session, const void *input, float *logits, int rows,
                                   struct error *error) {
    const struct gemm_operands operands = {weights_tensor(&cuda_backend_of(session)->weights, GPT2_LMHEAD, 0),
                                           NULL, input, logits};
    const struct gemm_plan *plan;
    return rows > 0 ? find_head_plan(session, &operands, rows, &plan, error) : STATUS_OK;
}

enum status schedule_prepare_product(struct cuda_session *session, enum product product, int tokens,
                                     struct error *error) {
    const struct gemm_plan *plan;
    return find_layer_plan(session, product, tokens, &plan, error);
}

enum status schedule_prepare_head(struct cuda_session *session, int rows, struct error *error) {
    return prepare_lm_head(session, session->buffers.last, session->buffers.logits, rows, error);
}

enum status schedule_prepare(struct cuda_session *session, int tokens, int heads, int positions,
                             struct error *error) {
    const struct session_buffers *b = &session->buffers;
    for (int product = 0; product < LAYER_PRODUCTS; product++)
        TRY(schedule_prepare_product(session, (enum product)product, tokens, error));
    TRY(schedule_prepare_head(session, heads, error));
    if (positions >= session->chunk)
        TRY(prepare_lm_head(session, b->normed, b->logits_chunk, session->chunk, error));
    return prepare_lm_head(session, b->normed, b->logits_chunk, positions % session->chunk, error);
}

// ---- the layers

void *schedule_offset(const struct cuda_session *session, void *base, int64_t elements) {
    return (char *)base + elements * (int64_t)dtype_size(cuda_backend_of(session)->base.options.dtype);
}

// What both forms of attention share; q from the packed activations.
struct attention_args schedule_attention(const struct cuda_session *session, int layer) {
    const struct cuda_backend *backend = cuda_backend_of(session);
    const struct gpt2_config *config = &backend->base.config;
    struct attention_args args = {};
    args.dtype = backend->base.options.dtype;
    args.H = config->heads;
    args.D = config->channels / config->heads;
    args.scale = gpt2_attention_scale(config, layer);
    args.out = session->buffers.mixed;
    args.workspace = session->buffers.attention_workspace;
    return args;
}

void *schedule_cache(const struct cuda_session *session, int layer, int k_or_v) {
    return (char *)session->buffers.kv + (2 * (int64_t)layer + k_or_v) * session->kv_stride;
}

// Prefill and recompute: queries, keys and values of the packed qkv (N, 3C).
static enum status attend_packed(struct cuda_session *session, const struct packed_rows *packed, int layer,
                                 struct error *error) {
    const struct cuda_backend *backend = cuda_backend_of(session);
    const struct session_buffers *b = &session->buffers;
    const int C = backend->base.config.channels;
    struct attention_args args = schedule_attention(session, layer);
    if (packed->write_cache) {
        CUDA_TRY(kv_write(args.dtype, b->qkv, b->starts, packed->rows, packed->count, packed->tokens, args.H,
                          args.D, session->base.spec.max_tokens, schedule_cache(session, layer, 0),
                          schedule_cache(session, layer, 1), backend->stream));
    }
    args.B = packed->count;
    args.q = attention_packed(b->qkv, 3 * (int64_t)C, args.D, b->starts);
    args.k = attention_packed(schedule_offset(session, b->qkv, C), 3 * (int64_t)C, args.D, b->starts);
    args.v =
        attention_packed(schedule_offset(session, b->qkv, 2 * (int64_t)C), 3 * (int64_t)C, args.D, b->starts);
    args.max_queries = args.max_keys = packed->longest;
    return attention_run(ATTENTION_FLASH, &args, backend->stream, error);
}

enum status schedule_layernorm(struct cuda_session *session, void *out, const int32_t *index,
                               enum gpt2_tensor weight, enum gpt2_tensor bias, int layer, int rows,
                               struct error *error) {
    const struct cuda_backend *backend = cuda_backend_of(session);
    const struct gpt2_config *config = &backend->base.config;
    CUDA_TRY(layernorm_run(backend->base.options.dtype, out, session->buffers.x, index,
                           weights_f32(&backend->weights, weight, layer),
                           weights_f32(&backend->weights, bias, layer), config->layer_norm_epsilon, rows,
                           config->channels, backend->stream));
    return STATUS_OK;
}

enum status schedule_product(struct cuda_session *session, enum product product, int layer, int tokens,
                             struct error *error) {
    const struct gemm_operands operands = schedule_operands(session, product, layer);
    const struct gemm_target target = target_of(session);
    const struct gemm_plan *plan;
    TRY(find_layer_plan(session, product, tokens, &plan, error));
    return gemm_run(plan, tokens, &operands, &target, error);
}

static enum status run_layers(struct cuda_session *session, const struct packed_rows *packed,
                              struct error *error) {
    const struct session_buffers *b = &session->buffers;
    const int N = packed->tokens;
    for (int layer = 0; layer < cuda_backend_of(session)->base.config.layers; layer++) {
        TRY(schedule_layernorm(session, b->normed, NULL, GPT2_LN1W, GPT2_LN1B, layer, N, error));
        TRY(schedule_product(session, PRODUCT_QKV, layer, N, error));
        TRY(attend_packed(session, packed, layer, error));
        TRY(schedule_product(session, PRODUCT_ATTPROJ, layer, N, error));
        TRY(schedule_layernorm(session, b->normed, NULL, GPT2_LN2W, GPT2_LN2B, layer, N, error));
        TRY(schedule_product(session, PRODUCT_FC, layer, N, error));
        TRY(schedule_product(session, PRODUCT_FCPROJ, layer, N, error));
    }
    return STATUS_OK;
}

enum status schedule_packed(struct cuda_session *session, const struct packed_rows *packed,
                            struct error *error) {
    const struct cuda_backend *backend = cuda_backend_of(session);
    const struct session_buffers *b = &session->buffers;
    // Planning uses the buffers below as scratch, so it comes first.
    TRY(schedule_prepare(session, packed->tokens, 0, 0, error));
    CUDA_TRY(pack_layout(packed->lengths, packed->count, b->starts, b->ends, backend->stream));
    CUDA_TRY(embed_packed(backend->base.options.dtype, b->x, weights_tensor(&backend->weights, GPT2_WTE, 0),
                          weights_tensor(&backend->weights, GPT2_WPE, 0), packed->tokens_by_row,
                          packed->tokens_stride, b->starts, packed->rows, packed->count, packed->tokens,
                          backend->base.config.channels, backend->stream));
    return run_layers(session, packed, error);
}

// ---- logits and tokens

enum status schedule_normalize(struct cuda_session *session, int N, struct error *error) {
    return schedule_layernorm(session, session->buffers.normed, NULL, GPT2_LNFW, GPT2_LNFB, 0, N, error);
}

enum status schedule_positions(struct cuda_session *session, int first, int n, struct error *error) {
    const int64_t C = cuda_backend_of(session)->base.config.channels;
    return schedule_lm_head(session, schedule_offset(session, session->buffers.normed, first * C),
                            session->buffers.logits_chunk, n, error);
}

static enum status all_positions(struct cuda_session *session, const struct packed_rows *packed,
                                 int first_row, struct error *error) {
    const struct cuda_backend *backend = cuda_backend_of(session);
    const struct session_buffers *b = &session->buffers;
    const int Vp = backend->weights.padded_vocab;
    TRY(schedule_normalize(session, packed->tokens, error));
    for (int first = 0; first < packed->tokens; first += session->chunk) {
        const int left = packed->tokens - first, n = left < session->chunk ? left : session->chunk;
        TRY(schedule_positions(session, first, n, error));
        CUDA_TRY(gather_rows(b->logits + (int64_t)first_row * Vp, b->logits_chunk, b->ends, packed->count,
                             first, n, Vp, backend->stream));
    }
    return STATUS_OK;
}

enum status schedule_last(struct cuda_session *session, const struct packed_rows *packed, int first,
                          struct error *error) {
    if (session->base.spec.logits == LOGITS_ALL) return all_positions(session, packed, first, error);
    const int64_t C = cuda_backend_of(session)->base.config.channels;
    return schedule_layernorm(session, schedule_offset(session, session->buffers.last, first * C),
                              session->buffers.ends, GPT2_LNFW, GPT2_LNFB, 0, packed->count, error);
}

enum status schedule_logits(struct cuda_session *session, int count, struct error *error) {
    if (session->base.spec.logits == LOGITS_ALL) return STATUS_OK; // schedule_last has left them
    return schedule_lm_head(session, session->buffers.last, session->buffers.logits, count, error);
}

enum status schedule_sample(struct cuda_session *session, int count, const int32_t *rows,
                            struct error *error) {
    const struct cuda_backend *backend = cuda_backend_of(session);
    const struct session_buffers *b = &session->buffers;
    struct sample_args args = {};
    args.sampling = session->base.spec.sampling;
    args.logits = b->logits;
    args.count = count;
    args.V = backend->base.config.vocab;
    args.ld = backend->weights.padded_vocab;
    args.rows = rows;
    args.tokens = b->tokens;
    args.lengths = b->lengths;
    args.requests = b->requests;
    args.max_tokens = session->base.spec.max_tokens;
    args.workspace = b->sample_workspace;
    CUDA_TRY(sample_run(&args, backend->stream));
    return STATUS_OK;
}
