// GPT-2's forward pass: prefill, cached decoding, recomputation and scoring all come through here and differ
// only in how many tokens a sequence is fed and how many it has behind it.
#include "cpu/cpu.h"
#include "cpu/pointwise.h"

static bool interrupted(const struct backend *backend) {
    return backend->options.interrupt && *backend->options.interrupt;
}

static void next_layer(struct cpu_session *s, int sequences, size_t layer_bytes) {
    for (int i = 0; i < sequences; i++) s->sequences[i].cache = (char *)s->sequences[i].cache + layer_bytes;
}

enum status cpu_forward(struct cpu_session *s, int sequences, size_t layer_bytes, struct error *error) {
    const struct cpu_backend *b = (const struct cpu_backend *)s->base.backend;
    const struct gpt2_config *config = &b->base.config;
    const struct sequence *last = &s->sequences[sequences - 1];
    const int N = last->first + last->count, C = config->channels, threads = b->base.options.threads;
    const float epsilon = config->layer_norm_epsilon;

    embed(&b->wte, b->wpe, N, s->tokens, s->positions, s->x, threads);
    for (int l = 0; l < config->layers; l++) {
        if (interrupted(&b->base)) return error_set(error, STATUS_INTERRUPTED, "interrupted");
        const struct cpu_layer *layer = &b->layers[l];
        const struct attention attention = {
            .dtype = b->base.options.dtype,
            .heads = config->heads,
            .head_size = C / config->heads,
            .scale = gpt2_attention_scale(config, l),
            .scratch = s->attention_scratch,
            .threads = threads,
        };
        layernorm(s->x, NULL, layer->ln1w, layer->ln1b, epsilon, N, C, s->normed, threads);
        matmul(&layer->qkv, MATMUL_PLAIN, N, s->normed, s->wide, threads); // (N, 3C)
        attention_store(&attention, s->sequences, sequences, s->wide);
        attention_forward(&attention, s->sequences, sequences, s->wide, s->normed);
        matmul(&layer->attproj, MATMUL_ADD, N, s->normed, s->x, threads);
        layernorm(s->x, NULL, layer->ln2w, layer->ln2b, epsilon, N, C, s->normed, threads);
        matmul(&layer->fc, MATMUL_GELU, N, s->normed, s->wide, threads); // (N, F)
        matmul(&layer->fcproj, MATMUL_ADD, N, s->wide, s->x, threads);
        next_layer(s, sequences, layer_bytes);
    }
    return STATUS_OK;
}

void cpu_lm_head(struct cpu_session *s, int first, int count) {
    const struct cpu_backend *b = (const struct cpu_backend *)s->base.backend;
    const struct gpt2_config *config = &b->base.config;
    const int threads = b->base.options.threads;
    layernorm(s->x, s->logits_tokens + first, b->lnfw, b->lnfb, config->layer_norm_epsilon, count,
              config->channels, s->normed, threads);
    matmul(&b->lm_head, MATMUL_PLAIN, count, s->normed, s->logits, threads);
}
