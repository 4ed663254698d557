#include "cuda/weights.h"

#include "cuda/check.h"
#include "cuda/deferred_norm.h"

#include <stdlib.h>
#include <string.h>

enum {
    ALIGNMENT = 256,       // of every tensor: what cuBLAS's fastest kernels may assume
    VOCAB_ALIGNMENT = 128, // rows of the LM head
};

static enum dtype stored_dtype(enum gpt2_tensor tensor, enum dtype compute) {
    switch (tensor) {
    case GPT2_LN1W:
    case GPT2_LN1B:
    case GPT2_LN2W:
    case GPT2_LN2B:
    case GPT2_LNFW:
    case GPT2_LNFB:
    case GPT2_ATTPROJB:
    case GPT2_FCPROJB:
        return DTYPE_F32;
    default:
        return compute;
    }
}

static int64_t element_count(const struct gpt2_config *config, enum gpt2_tensor tensor) {
    struct gpt2_shape shape = gpt2_tensor_shape(config, tensor);
    return (int64_t)shape.rows * shape.columns;
}

// Bytes on the device: the vocabulary's rows padded, the end aligned.
static int64_t stored_bytes(const struct gpt2_config *config, enum gpt2_tensor tensor, enum dtype compute) {
    struct gpt2_shape shape = gpt2_tensor_shape(config, tensor);
    int64_t rows = shape.rows;
    if (tensor == GPT2_WTE || tensor == GPT2_LMHEAD)
        rows = (rows + VOCAB_ALIGNMENT - 1) / VOCAB_ALIGNMENT * VOCAB_ALIGNMENT;
    int64_t bytes = rows * shape.columns * (int64_t)dtype_size(stored_dtype(tensor, compute));
    return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

static int layer_count(const struct gpt2_config *config, enum gpt2_tensor tensor) {
    return gpt2_tensor_info(tensor)->per_layer ? config->layers : 1;
}

// Gives every tensor its place behind `memory` and returns the bytes of all.
static int64_t place_tensors(struct weights *weights, const struct gpt2_config *config, enum dtype compute) {
    int64_t offset = 0;
    for (int t = 0; t < GPT2_TENSORS; t++) {
        enum gpt2_tensor tensor = (enum gpt2_tensor)t;
        for (int layer = 0; layer < layer_count(config, tensor); layer++) {
            weights->tensors[layer * GPT2_TENSORS + t] = (char *)weights->memory + offset;
            offset += stored_bytes(config, tensor, compute);
        }
    }
    if (config->tied_lm_head) weights->tensors[GPT2_LMHEAD] = weights->tensors[GPT2_WTE];
    return offset;
}

static void convert(enum dtype dtype, const float *source, void *destination, int64_t count) {
    const int64_t block = 1 << 16; // a thread's portion
#pragma omp parallel for
    for (int64_t begin = 0; begin < count; begin += block) {
        int64_t length = count - begin < block ? count - begin : block;
        dtype_from_f32(dtype, source + begin, (char *)destination + begin * (int64_t)dtype_size(dtype),
                       (size_t)length);
    }
}

// `host` holds the largest tensor in f32 twice over: as read and as converted.
static enum status upload_tensors(const struct weights *weights, const struct model *model,
                                  const struct backend_options *options, float *host, int64_t largest,
                                  struct error *error) {
    const struct gpt2_config *config = model_config(model);
    for (int t = 0; t < GPT2_TENSORS; t++) {
        enum gpt2_tensor tensor = (enum gpt2_tensor)t;
        int64_t count = element_count(config, tensor);
        enum dtype dtype = stored_dtype(tensor, options->dtype);
        for (int layer = 0; layer < layer_count(config, tensor) && count > 0; layer++) {
            if (options->interrupt && *options->interrupt)
                return error_set(error, STATUS_INTERRUPTED, "interrupted while uploading the weights");
            model_read(model, tensor, layer, host);
            void *converted = host + largest;
            convert(dtype, host, converted, count);
            CUDA_TRY(cudaMemcpy(const_cast<void *>(weights_tensor(weights, tensor, layer)), converted,
                                (size_t)count * dtype_size(dtype), cudaMemcpyHostToDevice));
        }
    }
    return STATUS_OK;
}

static enum status allocate_and_upload(struct weights *weights, const struct model *model,
                                       const struct backend_options *options, struct error *error) {
    const struct gpt2_config *config = model_config(model);
    int64_t largest = 0;
    for (int t = 0; t < GPT2_TENSORS; t++) {
        int64_t count = element_count(config, (enum gpt2_tensor)t);
        if (count > largest) largest = count;
    }
    weights->tensors = (const void **)calloc((size_t)config->layers * GPT2_TENSORS, sizeof *weights->tensors);
    if (!weights->tensors)
        return error_set(error, STATUS_OUT_OF_MEMORY, "no host memory for the table of weights");
    weights->bytes = place_tensors(weights, config, options->dtype);
    enum status status = cuda_status(cudaMalloc(&weights->memory, (size_t)weights->bytes), "weights", error);
    if (status != STATUS_OK) {
        error_prefix(error, "%.1f MiB for the weights", (double)weights->bytes / 1048576.0);
        return status;
    }
    (void)place_tensors(weights, config, options->dtype);
    CUDA_TRY(cudaMemset(weights->memory, 0, (size_t)weights->bytes)); // the padding
    float *host = (float *)malloc((size_t)largest * 2 * sizeof *host);
    if (!host) return error_set(error, STATUS_OUT_OF_MEMORY, "no host memory to convert the weights in");
    status = upload_tensors(weights, model, options, host, largest, error);
    free(host);
    TRY(status);
    CUDA_TRY(cudaDeviceSynchronize()); // copies from pageable memory may return before they have arrived
    return STATUS_OK;
}

// ---- LayerNorms folded into the products behind them

struct folded_product {
    enum gpt2_tensor weight, bias, gain, offset;
    int layer;
    int index; // in weights->folded
};

// Calls f for every product that a LayerNorm feeds; GPT2_TENSORS stands for no bias.
template <typename F>
static enum status for_each_folded(const struct gpt2_config *config, F f) {
    for (int layer = 0; layer < config->layers; layer++) {
        TRY(f({GPT2_QKVW, GPT2_QKVB, GPT2_LN1W, GPT2_LN1B, layer, 1 + 2 * layer}));
        TRY(f({GPT2_FCW, GPT2_FCB, GPT2_LN2W, GPT2_LN2B, layer, 2 + 2 * layer}));
    }
    return f({GPT2_LMHEAD, GPT2_TENSORS, GPT2_LNFW, GPT2_LNFB, 0, 0});
}

static int folded_outputs(const struct weights *weights, const struct gpt2_config *config,
                          enum gpt2_tensor weight) {
    return weight == GPT2_LMHEAD ? weights->padded_vocab : gpt2_tensor_shape(config, weight).rows;
}

static enum status fold_norms(struct weights *weights, const struct gpt2_config *config, enum dtype dtype,
                              struct error *error) {
    if (dtype == DTYPE_F32) return STATUS_OK;
    int64_t count = 0;
    TRY(for_each_folded(config, [&](folded_product product) {
        count += 2 * (int64_t)folded_outputs(weights, config, product.weight);
        return STATUS_OK;
    }));
    weights->folded = (struct folded_norm *)calloc(2 * (size_t)config->layers + 1, sizeof *weights->folded);
    if (!weights->folded)
        return error_set(error, STATUS_OUT_OF_MEMORY, "no host memory for the folded norms");
    CUDA_TRY(cudaMalloc(&weights->folded_memory, (size_t)count * sizeof(float)));
    weights->bytes += count * (int64_t)sizeof(float);
    float *next = weights->folded_memory;
    TRY(for_each_folded(config, [&](folded_product p) {
        const int outputs = folded_outputs(weights, config, p.weight);
        float *sums = next, *biases = next + outputs;
        next += 2 * (int64_t)outputs;
        weights->folded[p.index] = {sums, biases};
        CUDA_TRY(deferred_norm_fold(dtype, weights_tensor(weights, p.weight, p.layer),
                                    p.bias == GPT2_TENSORS ? NULL : weights_tensor(weights, p.bias, p.layer),
                                    weights_f32(weights, p.gain, p.layer),
                                    weights_f32(weights, p.offset, p.layer), outputs, config->channels, sums,
                                    biases, 0));
        return STATUS_OK;
    }));
    CUDA_TRY(cudaDeviceSynchronize());
    return STATUS_OK;
}

enum status weights_upload(struct weights *weights, const struct model *model,
                           const struct backend_options *options, struct error *error) {
    memset(weights, 0, sizeof *weights);
    int vocab = model_config(model)->vocab;
    weights->layers = model_config(model)->layers;
    weights->padded_vocab = (vocab + VOCAB_ALIGNMENT - 1) / VOCAB_ALIGNMENT * VOCAB_ALIGNMENT;
    enum status status = allocate_and_upload(weights, model, options, error);
    if (status == STATUS_OK) status = fold_norms(weights, model_config(model), options->dtype, error);
    if (status != STATUS_OK) weights_free(weights);
    return status;
}

void weights_free(struct weights *weights) {
    cudaFree(weights->memory);
    cudaFree(weights->folded_memory);
    free(weights->tensors);
    free(weights->folded);
    memset(weights, 0, sizeof *weights);
}

const void *weights_tensor(const struct weights *weights, enum gpt2_tensor tensor, int layer) {
    return weights->tensors[layer * GPT2_TENSORS + tensor];
}

const float *weights_f32(const struct weights *weights, enum gpt2_tensor tensor, int layer) {
    return (const float *)weights_tensor(weights, tensor, layer);
}

struct folded_norm weights_folded(const struct weights *weights, enum gpt2_tensor product, int layer) {
    if (product == GPT2_LMHEAD) return weights->folded[0];
    return weights->folded[1 + 2 * layer + (product == GPT2_FCW)];
}

// Every tensor's layers are placed one after the other, and so are the folded norms' of all layers.
static struct layered by_layer(const struct weights *weights, const void *first, const void *second) {
    return {first,
            weights->layers > 1 ? static_cast<const char *>(second) - static_cast<const char *>(first) : 0};
}

struct layered weights_layered(const struct weights *weights, enum gpt2_tensor tensor) {
    const int second = weights->layers > 1;
    return by_layer(weights, weights_tensor(weights, tensor, 0), weights_tensor(weights, tensor, second));
}

struct layered_norm weights_layered_norm(const struct weights *weights, enum gpt2_tensor product) {
    const int second = weights->layers > 1;
    const struct folded_norm a = weights_folded(weights, product, 0),
                             b = weights_folded(weights, product, second);
    return {by_layer(weights, a.sums, b.sums), by_layer(weights, a.biases, b.biases)};
}
