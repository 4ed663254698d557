#include "tests/support/model_writer.h"

#include <inttypes.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

// ---- weights ------------------------------------------------------------------------------------

struct gpt2_config tiny_config(int layers, int channels, int heads, int vocab, int context) {
    return (struct gpt2_config){.context = context,
                                .vocab = vocab,
                                .layers = layers,
                                .heads = heads,
                                .channels = channels,
                                .inner = 4 * channels,
                                .layer_norm_epsilon = 1e-5f,
                                .scale_attention = true,
                                .tied_lm_head = true,
                                .eos_token = vocab - 1};
}

static int layers_of(const struct gpt2_config *config, int tensor) {
    return gpt2_tensor_info((enum gpt2_tensor)tensor)->per_layer ? config->layers : 1;
}

static size_t elements_of(const struct gpt2_config *config, int tensor) {
    struct gpt2_shape shape = gpt2_tensor_shape(config, (enum gpt2_tensor)tensor);
    return (size_t)shape.rows * (size_t)shape.columns;
}

void host_model_make(const struct gpt2_config *config, uint64_t seed, struct host_model *model) {
    *model = (struct host_model){.config = *config};
    for (int t = 0; t < GPT2_TENSORS; t++) {
        size_t count = elements_of(config, t) * (size_t)layers_of(config, t);
        if (count == 0) continue;
        model->weights[t] = malloc(count * sizeof(float));
        assert_non_null(model->weights[t]);
        float mean = t == GPT2_LN1W || t == GPT2_LN2W || t == GPT2_LNFW ? 1 : 0;
        for (size_t i = 0; i < count; i++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            model->weights[t][i] = mean + ((float)(seed >> 40) * 0x1p-24f - 0.5f) / 4;
        }
    }
}

void host_model_free(struct host_model *model) {
    for (int t = 0; t < GPT2_TENSORS; t++) free(model->weights[t]);
    *model = (struct host_model){0};
}

float *host_model_weights(const struct host_model *model, enum gpt2_tensor tensor, int layer) {
    return model->weights[tensor] + elements_of(&model->config, tensor) * (size_t)layer;
}

// ---- bytes --------------------------------------------------------------------------------------

static FILE *create(const char *path) {
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    return file;
}

static void finish(FILE *file) {
    assert_int_equal(fclose(file), 0);
}

static void put_weight(FILE *file, enum dtype dtype, float weight) {
    uint16_t half = dtype == DTYPE_F16 ? f32_to_f16(weight) : f32_to_bf16(weight);
    fwrite(dtype == DTYPE_F32 ? (void *)&weight : (void *)&half, dtype_size(dtype), 1, file);
}

// (rows, columns), or (columns, rows) when transposed.
static void put_matrix(FILE *file, enum dtype dtype, const float *weights, struct gpt2_shape shape,
                       bool transposed) {
    int outer = transposed ? shape.columns : shape.rows, inner = transposed ? shape.rows : shape.columns;
    for (int i = 0; i < outer; i++)
        for (int j = 0; j < inner; j++)
            put_weight(file, dtype, weights[transposed ? j * shape.columns + i : i * shape.columns + j]);
}

// ---- safetensors --------------------------------------------------------------------------------

struct writer {
    char *header, *data; // of the streams below
    size_t header_size, data_size;
    FILE *header_stream, *data_stream;
};

static void writer_begin(struct writer *writer) {
    *writer = (struct writer){0};
    writer->header_stream = open_memstream(&writer->header, &writer->header_size);
    writer->data_stream = open_memstream(&writer->data, &writer->data_size);
    assert_non_null(writer->header_stream);
    assert_non_null(writer->data_stream);
    fputs("{\"__metadata__\":{\"format\":\"pt\"}", writer->header_stream);
}

// One header entry for the bytes from `begin` to where the data stream is now.
static void writer_entry(struct writer *writer, const char *name, const char *dtype, const char *shape,
                         long begin) {
    fprintf(writer->header_stream, ",\"%s\":{\"dtype\":\"%s\",\"shape\":[%s],\"data_offsets\":[%ld,%ld]}",
            name, dtype, shape, begin, ftell(writer->data_stream));
}

// The header is padded with blanks, as others do, so that the data begins at a multiple of 8 (or not).
static void writer_end(struct writer *writer, const char *path, bool misaligned) {
    fputc('}', writer->header_stream);
    finish(writer->header_stream);
    finish(writer->data_stream);
    uint64_t padding = (8 - writer->header_size % 8) % 8 + (misaligned ? 1 : 0);
    uint64_t length = writer->header_size + padding;
    FILE *file = create(path);
    fwrite(&length, sizeof length, 1, file);
    fwrite(writer->header, 1, writer->header_size, file);
    for (uint64_t i = 0; i < padding; i++) fputc(' ', file);
    fwrite(writer->data, 1, writer->data_size, file);
    finish(file);
    free(writer->header);
    free(writer->data);
}

static void write_tensor(struct writer *writer, const struct host_model *model, enum gpt2_tensor source,
                         enum dtype dtype, int layer, const char *name) {
    static const char *const dtypes[] = {[DTYPE_F32] = "F32", [DTYPE_F16] = "F16", [DTYPE_BF16] = "BF16"};
    struct gpt2_shape shape = gpt2_tensor_shape(&model->config, source);
    bool is_linear = gpt2_tensor_info(source)->linear,
         is_embedding = source <= GPT2_WPE || source == GPT2_LMHEAD;
    char dimensions[64];
    if (is_linear || is_embedding) {
        snprintf(dimensions, sizeof dimensions, "%d,%d", is_linear ? shape.columns : shape.rows,
                 is_linear ? shape.rows : shape.columns);
    } else {
        snprintf(dimensions, sizeof dimensions, "%d", shape.columns);
    }
    long begin = ftell(writer->data_stream);
    put_matrix(writer->data_stream, dtype, host_model_weights(model, source, layer), shape, is_linear);
    writer_entry(writer, name, dtypes[dtype], dimensions, begin);
}

static void write_masks(struct writer *writer, int context, int layer, const char *prefix) {
    char name[64], shape[64];
    long begin = ftell(writer->data_stream);
    for (int i = 0; i < context * context; i++) fputc(i % context <= i / context, writer->data_stream);
    snprintf(name, sizeof name, "%sh.%d.attn.bias", prefix, layer);
    snprintf(shape, sizeof shape, "1,1,%d,%d", context, context);
    writer_entry(writer, name, "BOOL", shape, begin);
    begin = ftell(writer->data_stream);
    put_weight(writer->data_stream, DTYPE_F32, -10000);
    snprintf(name, sizeof name, "%sh.%d.attn.masked_bias", prefix, layer);
    writer_entry(writer, name, "F32", "", begin);
}

static void tensor_name(char name[64], const struct safetensors_style *style, int tensor, int layer) {
    const char *pattern = gpt2_tensor_info((enum gpt2_tensor)tensor)->hf_name;
    const char *prefix = style->prefix && tensor != GPT2_LMHEAD ? "transformer." : "";
    const char *number = strstr(pattern, "%d");
    if (number == NULL) {
        snprintf(name, 64, "%s%s", prefix, pattern);
    } else {
        snprintf(name, 64, "%s%.*s%d%s", prefix, (int)(number - pattern), pattern, layer, number + 2);
    }
}

// Writes the tensors of one of `count` files, dealt out in turn, and their places to the index.
static void write_shard(const struct host_model *model, const struct safetensors_style *style,
                        const char *directory, int shard, int count, FILE *index) {
    char file_name[64] = "model.safetensors", path[512], name[64];
    if (index != NULL)
        snprintf(file_name, sizeof file_name, "model-%05d-of-%05d.safetensors", shard + 1, count);
    struct writer writer;
    writer_begin(&writer);
    int number = 0;
    for (int t = 0; t < GPT2_TENSORS; t++) {
        if (t == GPT2_LMHEAD && !style->lm_head) continue;
        enum gpt2_tensor source =
            t == GPT2_LMHEAD && model->config.tied_lm_head ? GPT2_WTE : (enum gpt2_tensor)t;
        enum dtype dtype =
            (enum dtype)(style->mixed_dtypes ? ((int)style->dtype + t) % 3 : (int)style->dtype);
        for (int layer = 0; layer < layers_of(&model->config, t); layer++) {
            if (number++ % count != shard) continue;
            tensor_name(name, style, t, layer);
            write_tensor(&writer, model, source, dtype, layer, name);
            if (index != NULL) fprintf(index, ",\"%s\":\"%s\"", name, file_name);
        }
    }
    for (int layer = 0; style->masks && shard == 0 && layer < model->config.layers; layer++)
        write_masks(&writer, model->config.context, layer, style->prefix ? "transformer." : "");
    snprintf(path, sizeof path, "%s/%s", directory, file_name);
    writer_end(&writer, path, style->misaligned);
}

static void write_config(const struct gpt2_config *config, const char *directory) {
    char path[512];
    snprintf(path, sizeof path, "%s/config.json", directory);
    FILE *file = create(path);
    fprintf(
        file,
        "{\"model_type\": \"gpt2\", \"activation_function\": \"gelu_new\", \"n_positions\": %d, "
        "\"vocab_size\": %d, \"n_layer\": %d, \"n_head\": %d, \"n_embd\": %d, \"n_inner\": %d, "
        "\"layer_norm_epsilon\": %.9g, \"scale_attn_weights\": %s, \"scale_attn_by_inverse_layer_idx\": %s, "
        "\"tie_word_embeddings\": %s, \"eos_token_id\": %d}\n",
        config->context, config->vocab, config->layers, config->heads, config->channels, config->inner,
        (double)config->layer_norm_epsilon, config->scale_attention ? "true" : "false",
        config->scale_attention_by_layer ? "true" : "false", config->tied_lm_head ? "true" : "false",
        config->eos_token);
    finish(file);
}

void write_huggingface_model(const struct host_model *model, const char *directory,
                             const struct safetensors_style *style) {
    write_config(&model->config, directory);
    if (style->shards == 0) {
        write_shard(model, style, directory, 0, 1, NULL);
        return;
    }
    char path[512];
    snprintf(path, sizeof path, "%s/model.safetensors.index.json", directory);
    FILE *index = create(path);
    // A first pair without meaning saves every other one the question whether it needs a comma.
    fputs("{\"metadata\": {\"total_size\": 0}, \"weight_map\": {\"other_head.weight\": \"model-00001-of-",
          index);
    fprintf(index, "%05d.safetensors\"", style->shards);
    for (int shard = 0; shard < style->shards; shard++)
        write_shard(model, style, directory, shard, style->shards, index);
    fputs("}}\n", index);
    finish(index);
}

// ---- llm.c --------------------------------------------------------------------------------------

void write_llmc_model(const struct host_model *model, const char *path, enum dtype dtype, int padded_vocab) {
    const struct gpt2_config *config = &model->config;
    int32_t header[256] = {
        20240326,      dtype == DTYPE_F32 ? 3 : 5, config->context, config->vocab, config->layers,
        config->heads, config->channels,           padded_vocab};
    FILE *file = create(path);
    fwrite(header, sizeof header, 1, file);
    for (int t = 0; t < GPT2_LMHEAD; t++) {
        struct gpt2_shape shape = gpt2_tensor_shape(config, (enum gpt2_tensor)t);
        for (int layer = 0; layer < layers_of(config, t); layer++)
            put_matrix(file, dtype, host_model_weights(model, (enum gpt2_tensor)t, layer), shape, false);
        int padding = t == GPT2_WTE ? (padded_vocab - config->vocab) * config->channels : 0;
        for (int i = 0; i < padding; i++) put_weight(file, dtype, NAN);
    }
    finish(file);
}
