#include "models/gpt2.h"

#include <math.h>

// ---- configuration ------------------------------------------------------------------------------

static enum status check_size(const char *what, int value, int maximum, struct error *error) {
    if (value >= 1 && value <= maximum) return STATUS_OK;
    return error_set(error, STATUS_FAILED, "%s: expected 1 to %d, found %d", what, maximum, value);
}

enum status gpt2_config_check(const struct gpt2_config *config, struct error *error) {
    TRY(check_size("positions (n_positions)", config->context, 1 << 20, error));
    TRY(check_size("vocabulary (vocab_size)", config->vocab, 1 << 24, error));
    TRY(check_size("layers (n_layer)", config->layers, 1024, error));
    TRY(check_size("heads (n_head)", config->heads, 1024, error));
    TRY(check_size("channels (n_embd)", config->channels, 1 << 16, error));
    TRY(check_size("inner channels (n_inner)", config->inner, 1 << 20, error));
    if (config->channels % config->heads != 0) {
        return error_set(error, STATUS_FAILED,
                         "channels (n_embd): expected a multiple of the %d heads (n_head), found %d",
                         config->heads, config->channels);
    }
    if (!(config->layer_norm_epsilon > 0 && config->layer_norm_epsilon <= 1)) {
        return error_set(error, STATUS_FAILED,
                         "layer_norm_epsilon: expected more than 0 and at most 1, found %g",
                         (double)config->layer_norm_epsilon);
    }
    return STATUS_OK;
}

// ---- tensors ------------------------------------------------------------------------------------

static const struct gpt2_tensor_info tensors[GPT2_TENSORS] = {
    // clang-format off
    //                 name          hf_name                      per_layer  linear
    [GPT2_WTE]      = {"wte",        "wte.weight",                false,     false},
    [GPT2_WPE]      = {"wpe",        "wpe.weight",                false,     false},
    [GPT2_LN1W]     = {"ln1w",       "h.%d.ln_1.weight",          true,      false},
    [GPT2_LN1B]     = {"ln1b",       "h.%d.ln_1.bias",            true,      false},
    [GPT2_QKVW]     = {"qkvw",       "h.%d.attn.c_attn.weight",   true,      true},
    [GPT2_QKVB]     = {"qkvb",       "h.%d.attn.c_attn.bias",     true,      false},
    [GPT2_ATTPROJW] = {"attprojw",   "h.%d.attn.c_proj.weight",   true,      true},
    [GPT2_ATTPROJB] = {"attprojb",   "h.%d.attn.c_proj.bias",     true,      false},
    [GPT2_LN2W]     = {"ln2w",       "h.%d.ln_2.weight",          true,      false},
    [GPT2_LN2B]     = {"ln2b",       "h.%d.ln_2.bias",            true,      false},
    [GPT2_FCW]      = {"fcw",        "h.%d.mlp.c_fc.weight",      true,      true},
    [GPT2_FCB]      = {"fcb",        "h.%d.mlp.c_fc.bias",        true,      false},
    [GPT2_FCPROJW]  = {"fcprojw",    "h.%d.mlp.c_proj.weight",    true,      true},
    [GPT2_FCPROJB]  = {"fcprojb",    "h.%d.mlp.c_proj.bias",      true,      false},
    [GPT2_LNFW]     = {"lnfw",       "ln_f.weight",               false,     false},
    [GPT2_LNFB]     = {"lnfb",       "ln_f.bias",                 false,     false},
    [GPT2_LMHEAD]   = {"lmhead",     "lm_head.weight",            false,     false}, // a plain Linear
    // clang-format on
};

const struct gpt2_tensor_info *gpt2_tensor_info(enum gpt2_tensor tensor) {
    return &tensors[tensor];
}

struct gpt2_shape gpt2_tensor_shape(const struct gpt2_config *config, enum gpt2_tensor tensor) {
    int C = config->channels, F = config->inner;
    switch (tensor) {
    case GPT2_WTE:
        return (struct gpt2_shape){config->vocab, C};
    case GPT2_WPE:
        return (struct gpt2_shape){config->context, C};
    case GPT2_QKVW:
        return (struct gpt2_shape){3 * C, C};
    case GPT2_QKVB:
        return (struct gpt2_shape){1, 3 * C};
    case GPT2_ATTPROJW:
        return (struct gpt2_shape){C, C};
    case GPT2_FCW:
        return (struct gpt2_shape){F, C};
    case GPT2_FCB:
        return (struct gpt2_shape){1, F};
    case GPT2_FCPROJW:
        return (struct gpt2_shape){C, F};
    case GPT2_LMHEAD:
        return (struct gpt2_shape){config->tied_lm_head ? 0 : config->vocab, C};
    default:
        return (struct gpt2_shape){1, C}; // LayerNorms, and the biases of what ends in C channels
    }
}

int64_t gpt2_parameter_count(const struct gpt2_config *config) {
    int64_t count = 0;
    for (int t = 0; t < GPT2_TENSORS; t++) {
        struct gpt2_shape shape = gpt2_tensor_shape(config, (enum gpt2_tensor)t);
        count += (int64_t)shape.rows * shape.columns * (tensors[t].per_layer ? config->layers : 1);
    }
    return count;
}

float gpt2_attention_scale(const struct gpt2_config *config, int layer) {
    double scale = config->scale_attention ? 1 / sqrt(config->channels / config->heads) : 1;
    return (float)(config->scale_attention_by_layer ? scale / (layer + 1) : scale);
}
