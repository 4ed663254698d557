// GPT-2's forward pass: prefill, cached decoding, recomputation and scoring all come through here and differ
// only in how many tokens a sequence is fed and how many it has behind it.
#include "cpu/cpu.h"
#include "cpu/pointwise.h"

#include <omp.h>

static bool interrupted(const struct backend *backend) {
    return backend->options.interrupt && *backend->options.interrupt;
}

bool cpu_forward(struct cpu_session *s, int sequences, size_t layer_bytes) {
    struct cpu_backend *b = (struct cpu_backend *)s->base.backend;
    const struct gpt2_config *config = &b->base.config;
    const struct sequence *last = &s->sequences[sequences - 1];
    const int N = last->first + last->count, C = config->channels;
    const float epsilon = config->layer_norm_epsilon;
    struct team *team = &b->team;

    embed(&b->wte, b->wpe, N, s->tokens, s->positions, s->x, team);
    for (int l = 0; l < config->layers; l++) {
        const struct cpu_layer *layer = &b->layers[l];
        const struct attention attention = {
            .dtype = b->base.options.dtype,
            .heads = config->heads,
            .head_size = C / config->heads,
            .scale = gpt2_attention_scale(config, l),
            .layer_offset = (size_t)l * layer_bytes,
            .scratch = s->attention_scratch,
            .team = team,
        };
        if (omp_get_thread_num() == 0)
            s->stop = interrupted(&b->base); // all threads must see the same answer
        layernorm(s->x, NULL, layer->ln1w, layer->ln1b, epsilon, N, C, s->normed, team);
        if (s->stop) return false;
        matmul(&layer->qkv, MATMUL_PLAIN, N, s->normed, s->wide, team); // (N, 3C)
        attention_store(&attention, s->sequences, sequences, s->wide);
        attention_forward(&attention, s->sequences, sequences, s->wide, s->normed);
        matmul(&layer->attproj, MATMUL_ADD, N, s->normed, s->x, team);
        layernorm(s->x, NULL, layer->ln2w, layer->ln2b, epsilon, N, C, s->normed, team);
        matmul(&layer->fc, MATMUL_GELU, N, s->normed, s->wide, team); // (N, F)
        matmul(&layer->fcproj, MATMUL_ADD, N, s->wide, s->x, team);
    }
    return true;
}

void cpu_lm_head(struct cpu_session *s, int first, int count) {
    struct cpu_backend *b = (struct cpu_backend *)s->base.backend;
    const struct gpt2_config *config = &b->base.config;
    layernorm(s->x, s->logits_tokens + first, b->lnfw, b->lnfb, config->layer_norm_epsilon, count,
              config->channels, s->normed, &b->team);
    matmul(&b->lm_head, MATMUL_PLAIN, count, s->normed, s->logits, &b->team);
}
