#include "cuda/cached_step.h"

#include "cuda/check.h"
#include "cuda/pointwise.h"
#include "cuda/schedule.h"
#include "cuda/skinny.h"

// Whether the product reads the LayerNorm of the residual stream.
static bool takes_norm(enum product product) {
    return product == PRODUCT_QKV || product == PRODUCT_FC;
}

static int outputs_of(const struct gpt2_config *config, enum product product) {
    if (product == PRODUCT_QKV) return 3 * config->channels;
    return product == PRODUCT_FC ? config->inner : config->channels;
}

static int inputs_of(const struct gpt2_config *config, enum product product) {
    return product == PRODUCT_FCPROJ ? config->inner : config->channels;
}

// Whether the product is run by our kernel for few rows, or by cuBLASLt.
static bool is_skinny(const struct cuda_session *session, enum product product) {
    const struct backend *backend = session->base.backend;
    return session->base.spec.decode_path != DECODE_GRAPH &&
           skinny_supports(backend->options.dtype, session->base.spec.rows,
                           outputs_of(&backend->config, product), inputs_of(&backend->config, product),
                           takes_norm(product));
}

static bool own_head(const struct cuda_session *session) {
    const struct backend *backend = session->base.backend;
    return session->base.spec.decode_path != DECODE_GRAPH &&
           skinny_head_supports(backend->options.dtype, session->base.spec.rows, backend->config.channels);
}

const char *cached_step_path(const struct session *base) {
    const struct cuda_session *session = (const struct cuda_session *)base;
    if (!base->spec.kv_cache) return "graph";
    bool fused = own_head(session);
    for (int product = 0; product < LAYER_PRODUCTS; product++)
        fused |= is_skinny(session, (enum product)product);
    return fused ? "fused" : "graph";
}

enum status cached_step_prepare(struct cuda_session *session, struct error *error) {
    const int B = session->base.spec.rows;
    for (int product = 0; product < LAYER_PRODUCTS; product++) {
        if (!is_skinny(session, (enum product)product))
            TRY(schedule_prepare_product(session, (enum product)product, B, error));
    }
    return own_head(session) ? STATUS_OK : schedule_prepare_head(session, B, error);
}

static enum skinny_epilogue epilogue_of(enum product product) {
    if (product == PRODUCT_QKV) return SKINNY_STORE;
    return product == PRODUCT_FC ? SKINNY_GELU : SKINNY_RESIDUAL;
}

static struct skinny_norm norm_of(const struct cuda_session *session, enum gpt2_tensor weight,
                                  enum gpt2_tensor bias, int layer) {
    const struct cuda_backend *backend = cuda_backend_of(session);
    return {weights_f32(&backend->weights, weight, layer), weights_f32(&backend->weights, bias, layer),
            backend->base.config.layer_norm_epsilon};
}

// One linear layer, with the LayerNorm before it where it has one.
static enum status linear(struct cuda_session *session, enum product product, int layer,
                          struct error *error) {
    const struct cuda_backend *backend = cuda_backend_of(session);
    const struct gpt2_config *config = &backend->base.config;
    const struct gemm_operands operands = schedule_operands(session, product, layer);
    const int B = session->base.spec.rows, N = outputs_of(config, product), K = inputs_of(config, product);
    const enum gpt2_tensor weight = product == PRODUCT_QKV ? GPT2_LN1W : GPT2_LN2W,
                           bias = product == PRODUCT_QKV ? GPT2_LN1B : GPT2_LN2B;
    if (!is_skinny(session, product)) {
        if (takes_norm(product))
            TRY(schedule_layernorm(session, session->buffers.normed, NULL, weight, bias, layer, B, error));
        return schedule_product(session, product, layer, B, error);
    }
    struct skinny_args args = {backend->base.options.dtype,
                               B,
                               N,
                               K,
                               operands.input,
                               {},
                               operands.weight,
                               operands.bias,
                               epilogue_of(product),
                               operands.output};
    if (takes_norm(product)) {
        args.x = session->buffers.x;
        args.norm = norm_of(session, weight, bias, layer);
    }
    CUDA_TRY(skinny_run(&args, backend->stream));
    return STATUS_OK;
}

// One query per row; its key and value are appended to the cache on the way.
static enum status attend(struct cuda_session *session, int max_keys, int layer, struct error *error) {
    const struct cuda_backend *backend = cuda_backend_of(session);
    const struct session_buffers *b = &session->buffers;
    const int C = backend->base.config.channels, max_tokens = session->base.spec.max_tokens;
    struct attention_args args = schedule_attention(session, layer);
    args.B = session->base.spec.rows;
    args.q = attention_packed(b->qkv, 3 * (int64_t)C, args.D, NULL);
    args.q.row_stride = 3 * (int64_t)C;
    args.k = attention_cache(schedule_cache(session, layer, 0), args.H, max_tokens, args.D);
    args.v = attention_cache(schedule_cache(session, layer, 1), args.H, max_tokens, args.D);
    args.lengths = b->lengths;
    args.new_k = schedule_offset(session, b->qkv, C);
    args.new_v = schedule_offset(session, b->qkv, 2 * (int64_t)C);
    args.max_queries = 1;
    args.max_keys = max_keys;
    return attention_run(ATTENTION_SPLITKV, &args, backend->stream, error);
}

// The next token of every row from the residual stream. Logits are written only where somebody reads them.
static enum status finish_rows(struct cuda_session *session, struct error *error) {
    const struct cuda_backend *backend = cuda_backend_of(session);
    const struct session_buffers *b = &session->buffers;
    const struct session_spec *spec = &session->base.spec;
    if (!own_head(session)) {
        TRY(schedule_layernorm(session, b->last, NULL, GPT2_LNFW, GPT2_LNFB, 0, spec->rows, error));
        TRY(schedule_lm_head(session, b->last, b->logits, spec->rows, error));
        return schedule_sample(session, spec->rows, NULL, error);
    }
    const bool needs_logits = spec->keep_logits || spec->sampling.temperature > 0;
    const int V = backend->base.config.vocab;
    const struct skinny_head_args args = {backend->base.options.dtype,
                                          spec->rows,
                                          V,
                                          backend->base.config.channels,
                                          b->x,
                                          norm_of(session, GPT2_LNFW, GPT2_LNFB, 0),
                                          weights_tensor(&backend->weights, GPT2_LMHEAD, 0),
                                          needs_logits ? b->logits : NULL,
                                          backend->weights.padded_vocab,
                                          b->head_partial};
    CUDA_TRY(skinny_head_run(&args, backend->stream));
    if (spec->sampling.temperature > 0) return schedule_sample(session, spec->rows, NULL, error);
    CUDA_TRY(skinny_head_finish(b->head_partial, spec->rows, V, b->tokens, spec->max_tokens, b->lengths,
                                backend->stream));
    return STATUS_OK;
}

enum status cached_step_run(struct cuda_session *session, int max_keys, struct error *error) {
    const struct cuda_backend *backend = cuda_backend_of(session);
    const struct session_buffers *b = &session->buffers;
    CUDA_TRY(embed_newest(backend->base.options.dtype, b->x, weights_tensor(&backend->weights, GPT2_WTE, 0),
                          weights_tensor(&backend->weights, GPT2_WPE, 0), b->tokens,
                          session->base.spec.max_tokens, b->lengths, session->base.spec.rows,
                          backend->base.config.channels, backend->stream));
    for (int layer = 0; layer < backend->base.config.layers; layer++) {
        TRY(linear(session, PRODUCT_QKV, layer, error));
        TRY(attend(session, max_keys, layer, error));
        TRY(linear(session, PRODUCT_ATTPROJ, layer, error));
        TRY(linear(session, PRODUCT_FC, layer, error));
        TRY(linear(session, PRODUCT_FCPROJ, layer, error));
    }
    return finish_rows(session, error);
}
