// Between model.c and the file formats: what an opened model is made of.
#ifndef MODELS_FORMAT_H
#define MODELS_FORMAT_H

#include "base/mapped_file.h"
#include "models/model.h"

// One layer's tensor where it lies in a mapped file.
struct tensor_view {
    const unsigned char *data; // not necessarily aligned
    enum dtype dtype;
    bool transposed; // (columns, rows) of gpt2_tensor_shape
};

struct model {
    char *name;
    char *directory; // NULL: random
    const char *format;
    struct gpt2_config config;
    enum dtype stored_dtype;
    struct tensor_view
        *views; // (GPT2_TENSORS, L), NULL: random; layer 0 serves tensors that are not per layer
    struct mapped_file *files; // (file_count) what the views point into
    int file_count;
};

// Makes room for the views of model->config, all zero.
CHECKED enum status model_allocate_views(struct model *model, struct error *error);
struct tensor_view *model_view(const struct model *model, enum gpt2_tensor tensor, int layer);

// Each fills format, config, stored_dtype, views and files of a zeroed model that has its name and directory.
// After a failure the caller still closes the model.

// `weights` names the safetensors file; NULL: model.safetensors in model->directory, or its sharded index.
CHECKED enum status huggingface_open(const char *weights, struct model *model, struct error *error);
CHECKED enum status llmc_open(const char *path, struct model *model, struct error *error);
CHECKED enum status random_open(const char *description, struct model *model, struct error *error);

// model_read for random models, which have no views.
void random_read(const struct gpt2_config *config, enum gpt2_tensor tensor, int layer, float *destination);

#endif
