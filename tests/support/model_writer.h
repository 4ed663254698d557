// Writes tiny models in every format that models/ reads, from weights held as f32.
#ifndef TESTS_SUPPORT_MODEL_WRITER_H
#define TESTS_SUPPORT_MODEL_WRITER_H

#include "base/dtype.h"
#include "models/gpt2.h"

#include <stdint.h>

struct host_model {
    struct gpt2_config config;
    float
        *weights[GPT2_TENSORS]; // (L or 1, rows, columns), linear weights [out, in]; NULL: not in this model
};

// Sizes with the published models' other settings: inner 4 C, tied, end of text = V - 1.
struct gpt2_config tiny_config(int layers, int channels, int heads, int vocab, int context);

// Seeded weights in [-1/8, 1/8), LayerNorm weights around 1. These functions fail the running test when the
// system refuses.
void host_model_make(const struct gpt2_config *config, uint64_t seed, struct host_model *model);
void host_model_free(struct host_model *model);
float *host_model_weights(const struct host_model *model, enum gpt2_tensor tensor,
                          int layer); // (rows, columns)

struct safetensors_style {
    enum dtype dtype;
    bool mixed_dtypes; // the tensors' dtypes follow each other in turn, beginning with `dtype` for wte
    bool prefix;       // "transformer." before all names but the LM head's
    bool masks;        // with h.N.attn.bias and masked_bias
    bool lm_head;      // with lm_head.weight (when tied: a copy of wte)
    bool misaligned;   // the data begins at an odd byte
    int shards;        // 0: model.safetensors; else as many files and their index
};

// config.json and the tensors, in an existing directory.
void write_huggingface_model(const struct host_model *model, const char *directory,
                             const struct safetensors_style *style);

// An llm.c checkpoint of version 3 (f32) or 5 (bf16). The padding rows are NaN: nobody may read them.
void write_llmc_model(const struct host_model *model, const char *path, enum dtype dtype, int padded_vocab);

#endif
