// What a GPT-2 is: its configuration and the one table of its tensors.
//
// Letters used everywhere: B rows (sequences), T tokens, C channels, H heads, D = C / H head size, F hidden
// units of the MLP, L layers, V vocabulary.
#ifndef MODELS_GPT2_H
#define MODELS_GPT2_H

#include "base/status.h"

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct gpt2_config {
    int context;                   // T: positions (n_positions)
    int vocab;                     // V (vocab_size)
    int layers;                    // L (n_layer)
    int heads;                     // H (n_head)
    int channels;                  // C (n_embd)
    int inner;                     // F (n_inner), 4 C unless the model says otherwise
    float layer_norm_epsilon;      //
    bool scale_attention;          // scores are divided by sqrt(D) (scale_attn_weights)
    bool scale_attention_by_layer; // and by layer + 1 (scale_attn_by_inverse_layer_idx)
    bool tied_lm_head;             // logits come from wte (tie_word_embeddings)
    int32_t eos_token;             // -1: none known
};

// Refuses sizes that no GPT-2 has (zero, negative, huge, heads that do not divide the channels), so that
// nothing computed from an accepted configuration overflows 64 bits.
CHECKED enum status gpt2_config_check(const struct gpt2_config *config, struct error *error);

// The names of GPT-2's weights as llm.c writes them. Linear weights are always [out, in] here, whatever
// the file stores.
enum gpt2_tensor {
    GPT2_WTE,      // (V, C) token embedding, and the LM head when tied
    GPT2_WPE,      // (T, C) position embedding
    GPT2_LN1W,     // (C)      per layer, like all down to FCPROJB
    GPT2_LN1B,     // (C)
    GPT2_QKVW,     // (3C, C)  rows: all of q, all of k, all of v; head h owns rows h D .. (h + 1) D of each
    GPT2_QKVB,     // (3C)
    GPT2_ATTPROJW, // (C, C)
    GPT2_ATTPROJB, // (C)
    GPT2_LN2W,     // (C)
    GPT2_LN2B,     // (C)
    GPT2_FCW,      // (F, C)
    GPT2_FCB,      // (F)
    GPT2_FCPROJW,  // (C, F)
    GPT2_FCPROJB,  // (C)
    GPT2_LNFW,     // (C)
    GPT2_LNFB,     // (C)
    GPT2_LMHEAD,   // (V, C) only when not tied
    GPT2_TENSORS
};

// One row of the tensor table.
struct gpt2_tensor_info {
    const char *name;    // "qkvw"
    const char *hf_name; // "h.%d.attn.c_attn.weight", without the optional "transformer." prefix
    bool per_layer;
    bool linear; // stored [in, out] by Hugging Face's Conv1D
};

const struct gpt2_tensor_info *gpt2_tensor_info(enum gpt2_tensor tensor);

// Shape of one layer's tensor: (rows, columns); vectors have rows 1. A tensor the model does not have (the
// LM head of a tied model) has 0 rows.
struct gpt2_shape {
    int rows, columns;
};
struct gpt2_shape gpt2_tensor_shape(const struct gpt2_config *config, enum gpt2_tensor tensor);

// All parameters, the tied LM head counted once.
int64_t gpt2_parameter_count(const struct gpt2_config *config);

// What scores q . k are multiplied with in `layer`.
float gpt2_attention_scale(const struct gpt2_config *config, int layer);

#ifdef __cplusplus
}
#endif
#endif
