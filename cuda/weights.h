// A model's weights on the device, in one allocation.
#ifndef CUDA_WEIGHTS_H
#define CUDA_WEIGHTS_H

#include "base/status.h"
#include "engine/backend.h"
#include "models/model.h"

#include <stdint.h>

// A product's weight seen through the LayerNorm before it: deferred_norm.h.
struct folded_norm {
    const float *sums, *biases; // device (outputs)
};

struct weights {
    void *memory;         // device, owned
    int64_t bytes;        //
    int layers;           // L
    const void **tensors; // (L, GPT2_TENSORS) into memory, owned
    int padded_vocab;     // rows of wte and of the LM head: V rounded up to 128, zeros behind V

    float *folded_memory;       // device, owned; NULL in f32, which has no deferred LayerNorm
    struct folded_norm *folded; // (1 + 2 L): the LM head, QKV and FC of every layer; owned
};

// Linear weights, wte and wpe are stored in options->dtype, as are the biases of products that answer in it
// (qkvb, fcb); LayerNorm's weights and the biases added to the residual stream (attprojb, fcprojb) in f32.
// The rows of wte are padded so that the LM head is a product of aligned matrices.
CHECKED enum status weights_upload(struct weights *weights, const struct model *model,
                                   const struct backend_options *options, struct error *error);
void weights_free(struct weights *weights); // zeroed weights are allowed

// Device pointer; layer 0 for tensors that are not per layer. The LM head of a tied model is its wte.
const void *weights_tensor(const struct weights *weights, enum gpt2_tensor tensor, int layer);

// A tensor or number that every layer has: its place in layer 0, and the bytes from layer to layer.
struct layered {
    const void *first;
    int64_t stride;
};
struct layered weights_layered(const struct weights *weights, enum gpt2_tensor tensor);

// A LayerNorm parameter or another tensor kept in f32.
const float *weights_f32(const struct weights *weights, enum gpt2_tensor tensor, int layer);

// Of GPT2_QKVW, GPT2_FCW or (layer 0) GPT2_LMHEAD; only where the weights are of a 16-bit type.
struct folded_norm weights_folded(const struct weights *weights, enum gpt2_tensor product, int layer);
// Those of all layers, of GPT2_QKVW or GPT2_FCW.
struct layered_norm {
    struct layered sums, biases;
};
struct layered_norm weights_layered_norm(const struct weights *weights, enum gpt2_tensor product);

#endif
