#include "cuda/cached_step.h"

#include "cuda/check.h"
#include "cuda/decode_head.h"
#include "cuda/decode_linear.h"
#include "cuda/persistent_step.h"
#include "cuda/pointwise.h"
#include "cuda/schedule.h"

// ---- which kernels

// Beyond this many rows cuBLASLt's products with separate LayerNorms take less time (H200, GPT-2 124M).
enum { FUSED_ROWS = 512 };

static bool fused_kernels_exist(const struct cuda_backend *backend) {
    const struct gpt2_config *config = &backend->base.config;
    const enum dtype dtype = backend->base.options.dtype;
    const int C = config->channels, F = config->inner;
    return C <= NORM_MAX_C && decode_linear_supports(dtype, C, F) && decode_linear_supports(dtype, F, C);
}

void cached_step_find_kernels(struct cuda_backend *backend) {
    const struct gpt2_config *config = &backend->base.config;
    for (int rows = 1; rows <= PERSISTENT_ROWS; rows++) {
        if (persistent_supports(backend->base.options.dtype, rows, config->channels, config->heads,
                                config->inner, backend->stream))
            backend->persistent_rows |= 1u << rows;
    }
}

static bool persistent_kernel_exists(const struct cuda_backend *backend, int rows) {
    return rows <= PERSISTENT_ROWS && (backend->persistent_rows >> rows & 1) != 0;
}

// Whether it takes less time than the chain of kernels (H200; NOTES.md).
static bool persistent_kernel_pays(const struct gpt2_config *config, int rows) {
    return rows <= 4 || config->channels == 768;
}

bool cached_step_is_persistent(const struct cuda_backend *backend, const struct session_spec *spec) {
    if (!spec->kv_cache) return false;
    const bool chosen =
        spec->decode_path == DECODE_AUTO && persistent_kernel_pays(&backend->base.config, spec->rows);
    return (chosen || spec->decode_path == DECODE_PERSISTENT) &&
           persistent_kernel_exists(backend, spec->rows);
}

// Whether the step may be the chain of our own kernels, or have parts of it.
static bool may_chain(const struct cuda_backend *backend, const struct session_spec *spec) {
    return spec->kv_cache && spec->decode_path != DECODE_GRAPH && spec->decode_path != DECODE_PERSISTENT &&
           !cached_step_is_persistent(backend, spec);
}

bool cached_step_is_fused(const struct cuda_backend *backend, const struct session_spec *spec) {
    if (!may_chain(backend, spec) || !fused_kernels_exist(backend)) return false;
    return spec->decode_path == DECODE_FUSED || spec->rows <= FUSED_ROWS;
}

enum status cached_step_check(const struct cuda_backend *backend, const struct session_spec *spec,
                              struct error *error) {
    if (!spec->kv_cache) return STATUS_OK;
    if (spec->decode_path == DECODE_PERSISTENT && !persistent_kernel_exists(backend, spec->rows))
        return error_set(
            error, STATUS_USAGE,
            "the persistent decode kernel needs an sm_90 GPU that it can have to itself, bf16 or f16, heads "
            "of %d channels and at most %d rows; this is %s with %d channels in %d heads, and %d rows",
            PERSISTENT_D, PERSISTENT_ROWS, dtype_name(backend->base.options.dtype),
            backend->base.config.channels, backend->base.config.heads, spec->rows);
    if (spec->decode_path != DECODE_FUSED || fused_kernels_exist(backend)) return STATUS_OK;
    return error_set(error, STATUS_USAGE,
                     "fused decode kernels need an sm_90 GPU, bf16 or f16, and channels that are a multiple "
                     "of 64 up to %d; this is %s with %d channels",
                     NORM_MAX_C, dtype_name(backend->base.options.dtype), backend->base.config.channels);
}

bool cached_step_owns_head(const struct cuda_backend *backend, const struct session_spec *spec) {
    return may_chain(backend, spec) &&
           decode_head_supports(backend->base.options.dtype, spec->rows, backend->base.config.channels);
}

const char *cached_step_path(const struct session *base) {
    const struct cuda_session *session = (const struct cuda_session *)base;
    if (session->persistent) return "persistent";
    if (session->fused) return "fused";
    return session->owns_head ? "mixed" : "graph";
}

static enum status prepare(struct cuda_session *session, struct error *error) {
    const int B = session->base.spec.rows;
    for (int product = 0; product < LAYER_PRODUCTS && !session->fused; product++)
        TRY(schedule_prepare_product(session, (enum product)product, B, error));
    return session->owns_head ? STATUS_OK : schedule_prepare_head(session, B, error);
}

// ---- products

// The weight of the LayerNorm that reads the residual stream behind `product` of `layer`.
static const float *next_gain(const struct cuda_session *session, enum product product, int layer) {
    const struct cuda_backend *backend = cuda_backend_of(session);
    if (product == PRODUCT_ATTPROJ) return weights_f32(&backend->weights, GPT2_LN2W, layer);
    return layer + 1 < backend->base.config.layers ? weights_f32(&backend->weights, GPT2_LN1W, layer + 1)
                                                   : weights_f32(&backend->weights, GPT2_LNFW, 0);
}

static struct deferred_rows residual_of(const struct cuda_session *session) {
    return {session->buffers.x, session->buffers.scaled, session->buffers.stats};
}

static enum decode_next next_behind(const struct cuda_session *session, enum decode_kernel kernel,
                                    int layer) {
    return decode_next_choose(kernel, layer, session->base.spec.rows,
                              cuda_backend_of(session)->base.config.channels);
}

// One linear layer by our own kernel, with the LayerNorm before it where it has one.
static enum status fused_product(struct cuda_session *session, enum product product, int layer,
                                 struct error *error) {
    const struct cuda_backend *backend = cuda_backend_of(session);
    const struct gpt2_config *config = &backend->base.config;
    const struct gemm_operands operands = schedule_operands(session, product, layer);
    struct decode_linear_args args = {};
    args.dtype = backend->base.options.dtype;
    args.B = session->base.spec.rows;
    args.N = product == PRODUCT_QKV ? 3 * config->channels
                                    : (product == PRODUCT_FC ? config->inner : config->channels);
    args.K = product == PRODUCT_FCPROJ ? config->inner : config->channels;
    args.weight = operands.weight;
    if (product == PRODUCT_QKV || product == PRODUCT_FC) {
        const struct folded_norm folded =
            weights_folded(&backend->weights, product == PRODUCT_QKV ? GPT2_QKVW : GPT2_FCW, layer);
        args.input = session->buffers.scaled;
        args.bias = folded.biases;
        args.sums = folded.sums;
        args.stats = session->buffers.stats;
        args.epsilon = config->layer_norm_epsilon;
        args.epilogue = product == PRODUCT_QKV ? DECODE_STORE : DECODE_GELU;
        args.out = operands.output;
    } else {
        args.input = operands.input;
        args.bias = (const float *)operands.bias;
        args.epilogue = DECODE_RESIDUAL;
        args.residual = residual_of(session);
        args.next_gain = next_gain(session, product, layer);
    }
    static const enum decode_kernel kernels[LAYER_PRODUCTS] = {DECODE_QKV, DECODE_PROJECTION, DECODE_FC,
                                                               DECODE_FC2};
    args.next = next_behind(session, kernels[product], layer);
    CUDA_TRY(decode_linear_run(&args, backend->stream));
    return STATUS_OK;
}

static enum status linear(struct cuda_session *session, enum product product, int layer,
                          struct error *error) {
    if (session->fused) return fused_product(session, product, layer, error);
    const int B = session->base.spec.rows;
    void *normed = session->buffers.normed;
    if (product == PRODUCT_QKV)
        TRY(schedule_layernorm(session, normed, NULL, GPT2_LN1W, GPT2_LN1B, layer, B, error));
    if (product == PRODUCT_FC)
        TRY(schedule_layernorm(session, normed, NULL, GPT2_LN2W, GPT2_LN2B, layer, B, error));
    return schedule_product(session, product, layer, B, error);
}

// ---- attention

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
    args.next = next_behind(session, DECODE_ATTENTION, layer);
    args.max_queries = 1;
    args.max_keys = max_keys;
    const bool streams = session->base.spec.decode_path != DECODE_GRAPH && attention_stream_supports(&args);
    return attention_run(streams ? ATTENTION_STREAM : ATTENTION_SPLITKV, &args, backend->stream, error);
}

// ---- both ends of the step

static struct deferred_embedding embedding_of(const struct cuda_session *session) {
    const struct cuda_backend *backend = cuda_backend_of(session);
    const struct session_buffers *b = &session->buffers;
    return {backend->base.options.dtype,
            session->base.spec.rows,
            backend->base.config.channels,
            residual_of(session),
            weights_f32(&backend->weights, GPT2_LN1W, 0),
            weights_tensor(&backend->weights, GPT2_WTE, 0),
            weights_tensor(&backend->weights, GPT2_WPE, 0),
            b->tokens,
            b->lengths,
            session->base.spec.max_tokens};
}

// The newest token of every row into the residual stream, with what the first fused product needs.
static enum status embed(struct cuda_session *session, struct error *error) {
    const struct cuda_backend *backend = cuda_backend_of(session);
    const struct session_buffers *b = &session->buffers;
    if (session->fused || session->owns_head) {
        const struct deferred_embedding embedding = embedding_of(session);
        CUDA_TRY(deferred_embed(&embedding, backend->stream));
        return STATUS_OK;
    }
    CUDA_TRY(embed_newest(backend->base.options.dtype, b->x, weights_tensor(&backend->weights, GPT2_WTE, 0),
                          weights_tensor(&backend->weights, GPT2_WPE, 0), b->tokens,
                          session->base.spec.max_tokens, b->lengths, session->base.spec.rows,
                          backend->base.config.channels, backend->stream));
    return STATUS_OK;
}

static enum status own_head_run(struct cuda_session *session, struct error *error) {
    const struct cuda_backend *backend = cuda_backend_of(session);
    const struct session_buffers *b = &session->buffers;
    const struct session_spec *spec = &session->base.spec;
    const struct folded_norm folded = weights_folded(&backend->weights, GPT2_LMHEAD, 0);
    const bool draws = spec->sampling.temperature > 0;
    const struct deferred_rows rows = residual_of(session);
    if (!session->fused)
        CUDA_TRY(deferred_prepare(backend->base.options.dtype, &rows,
                                  weights_f32(&backend->weights, GPT2_LNFW, 0), spec->rows,
                                  backend->base.config.channels, backend->stream));
    const int V = backend->base.config.vocab;
    struct decode_head_args args = {};
    args.dtype = backend->base.options.dtype;
    args.B = spec->rows;
    args.V = V;
    args.K = backend->base.config.channels;
    args.rows = rows;
    args.weight = weights_tensor(&backend->weights, GPT2_LMHEAD, 0);
    args.sums = folded.sums;
    args.biases = folded.biases;
    args.epsilon = backend->base.config.layer_norm_epsilon;
    args.logits = spec->keep_logits || draws ? b->logits : NULL;
    args.ld = backend->weights.padded_vocab;
    args.partial = b->head_partial;
    CUDA_TRY(decode_head_run(&args, backend->stream));
    if (draws) {
        TRY(schedule_sample(session, spec->rows, NULL, error));
        return embed(session, error);
    }
    const struct deferred_embedding next = embedding_of(session);
    CUDA_TRY(decode_head_finish(b->head_partial, V, &next, backend->stream));
    return STATUS_OK;
}

// The next token of every row from the residual stream. Logits are written only where somebody reads them.
static enum status finish_rows(struct cuda_session *session, struct error *error) {
    const struct session_buffers *b = &session->buffers;
    const int B = session->base.spec.rows;
    if (session->owns_head) return own_head_run(session, error);
    TRY(schedule_layernorm(session, b->last, NULL, GPT2_LNFW, GPT2_LNFB, 0, B, error));
    TRY(schedule_lm_head(session, b->last, b->logits, B, error));
    TRY(schedule_sample(session, B, NULL, error));
    return embed(session, error);
}

enum status cached_step_begin(struct cuda_session *session, struct error *error) {
    if (session->persistent) return STATUS_OK; // it embeds the newest tokens itself
    TRY(prepare(session, error));              // first: planning overwrites the residual stream
    return embed(session, error);
}

enum status cached_step_run(struct cuda_session *session, int max_keys, struct error *error) {
    for (int layer = 0; layer < cuda_backend_of(session)->base.config.layers; layer++) {
        TRY(linear(session, PRODUCT_QKV, layer, error));
        TRY(attend(session, max_keys, layer, error));
        TRY(linear(session, PRODUCT_ATTPROJ, layer, error));
        TRY(linear(session, PRODUCT_FC, layer, error));
        TRY(linear(session, PRODUCT_FCPROJ, layer, error));
    }
    return finish_rows(session, error);
}

// ---- the persistent kernel

// Some milliseconds of them: an interrupt is noticed between two kernels.
enum { STEPS_AT_ONCE = 32 };

static struct persistent_model model_of(const struct cuda_backend *backend) {
    const struct gpt2_config *config = &backend->base.config;
    const struct weights *weights = &backend->weights;
    const struct layered_norm qkv = weights_layered_norm(weights, GPT2_QKVW),
                              fc = weights_layered_norm(weights, GPT2_FCW);
    const struct folded_norm head = weights_folded(weights, GPT2_LMHEAD, 0);
    struct persistent_model m = {};
    m.dtype = backend->base.options.dtype;
    m.L = config->layers, m.C = config->channels, m.H = config->heads, m.F = config->inner,
    m.V = config->vocab;
    m.epsilon = config->layer_norm_epsilon;
    m.attention_scale = gpt2_attention_scale(config, 0);
    m.attention_scale_inverse = config->scale_attention_by_layer;
    m.qkvw = weights_layered(weights, GPT2_QKVW), m.attprojw = weights_layered(weights, GPT2_ATTPROJW),
    m.fcw = weights_layered(weights, GPT2_FCW), m.fcprojw = weights_layered(weights, GPT2_FCPROJW);
    m.qkv_sums = qkv.sums, m.qkv_biases = qkv.biases, m.fc_sums = fc.sums, m.fc_biases = fc.biases;
    m.attprojb = weights_layered(weights, GPT2_ATTPROJB), m.fcprojb = weights_layered(weights, GPT2_FCPROJB);
    m.ln1w = weights_layered(weights, GPT2_LN1W), m.ln2w = weights_layered(weights, GPT2_LN2W);
    m.lnfw = weights_f32(weights, GPT2_LNFW, 0);
    m.wte = weights_tensor(weights, GPT2_WTE, 0), m.wpe = weights_tensor(weights, GPT2_WPE, 0);
    m.head = weights_tensor(weights, GPT2_LMHEAD, 0);
    m.head_sums = head.sums, m.head_biases = head.biases;
    return m;
}

enum status cached_step_open_persistent(struct cuda_session *session, struct error *error) {
    const struct cuda_backend *backend = cuda_backend_of(session);
    const struct session_spec *spec = &session->base.spec;
    const struct session_buffers *b = &session->buffers;
    const struct persistent_model model = model_of(backend);
    struct persistent_rows rows = {};
    rows.B = spec->rows;
    rows.max_tokens = spec->max_tokens;
    rows.tokens = b->tokens;
    rows.lengths = b->lengths;
    rows.kv = b->kv;
    rows.kv_stride = session->kv_stride;
    rows.draws = spec->sampling.temperature > 0;
    rows.logits = spec->keep_logits || rows.draws ? b->logits : NULL;
    rows.ld = backend->weights.padded_vocab;
    CUDA_TRY(persistent_open(&model, &rows, b->persistent, backend->stream, &session->persistent));
    return STATUS_OK;
}

enum status cached_step_run_many(struct cuda_session *session, int left, int *taken, struct error *error) {
    const struct session_spec *spec = &session->base.spec;
    const bool draws = spec->sampling.temperature > 0;
    *taken = left < STEPS_AT_ONCE ? left : (int)STEPS_AT_ONCE;
    if (spec->time_steps || draws) *taken = 1;
    CUDA_TRY(persistent_run(session->persistent, *taken, cuda_backend_of(session)->stream));
    return draws ? schedule_sample(session, spec->rows, NULL, error) : STATUS_OK;
}
