#include "models/format.h"

#include "base/text.h"
#include "models/config_json.h"
#include "models/locate.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "model files are read in place as little-endian");

// ---- opening ------------------------------------------------------------------------------------

enum status model_allocate_views(struct model *model, struct error *error) {
    model->views = calloc((size_t)GPT2_TENSORS * (size_t)model->config.layers, sizeof *model->views);
    if (model->views != NULL) return STATUS_OK;
    return error_set(error, STATUS_OUT_OF_MEMORY, "%s: no memory to open the model", model->name);
}

struct tensor_view *model_view(const struct model *model, enum gpt2_tensor tensor, int layer) {
    return &model->views[(size_t)tensor * (size_t)model->config.layers + (size_t)layer];
}

static bool ends_with(const char *text, const char *ending) {
    size_t length = strlen(text), wanted = strlen(ending);
    return length >= wanted && strcmp(text + length - wanted, ending) == 0;
}

static enum status open_named(const char *name, struct model *model, struct error *error) {
    if (strncmp(name, "random:", 7) == 0) return random_open(name + 7, model, error);
    char *file;
    TRY(model_locate(name, &file, &model->directory, error));
    enum status status;
    if (file == NULL || ends_with(file, ".safetensors")) {
        status = huggingface_open(file, model, error);
    } else if (ends_with(file, ".bin")) {
        status = llmc_open(file, model, error);
    } else {
        status =
            error_set(error, STATUS_FAILED,
                      "model %s: expected a model directory, FILE.safetensors or an llm.c FILE.bin", file);
    }
    free(file);
    return status;
}

enum status model_open(const char *name, struct model **model, struct error *error) {
    *model = NULL;
    struct model *opened = calloc(1, sizeof *opened);
    if (opened != NULL) opened->name = text_format("%s", name);
    if (opened == NULL || opened->name == NULL) {
        free(opened);
        return error_set(error, STATUS_OUT_OF_MEMORY, "%s: no memory to open the model", name);
    }
    enum status status = open_named(name, opened, error);
    if (status == STATUS_OK)
        *model = opened;
    else
        model_close(opened);
    return status;
}

void model_close(struct model *model) {
    if (model == NULL) return;
    for (int i = 0; i < model->file_count; i++) mapped_file_close(&model->files[i]);
    free(model->files);
    free(model->views);
    free(model->directory);
    free(model->name);
    free(model);
}

enum status model_read_config(const char *name, struct gpt2_config *config, struct error *error) {
    if (strncmp(name, "random:", 7) != 0 && !ends_with(name, ".bin")) {
        char *directory;
        TRY(model_find_directory(name, &directory, error));
        char *path = text_format("%s/config.json", directory);
        free(directory);
        if (!path) return error_set(error, STATUS_OUT_OF_MEMORY, "%s: no memory to open the model", name);
        enum status status = config_json_read(path, config, error);
        free(path);
        return status;
    }
    struct model *model;
    TRY(model_open(name, &model, error));
    *config = model->config;
    model_close(model);
    return STATUS_OK;
}

// ---- what is known about it ---------------------------------------------------------------------

const struct gpt2_config *model_config(const struct model *model) {
    return &model->config;
}
const char *model_name(const struct model *model) {
    return model->name;
}
const char *model_format(const struct model *model) {
    return model->format;
}
enum dtype model_stored_dtype(const struct model *model) {
    return model->stored_dtype;
}
const char *model_directory(const struct model *model) {
    return model->directory;
}

// ---- reading ------------------------------------------------------------------------------------

enum { TILE = 64 }; // a tile of f32 is 16 KiB: it stays in the first-level cache

// Writes rows first_row .. of the destination (rows, columns) from a source stored as (columns, rows).
static void transpose_tile_row(const struct tensor_view *view, int rows, int columns, int first_row,
                               float *destination) {
    float tile[TILE][TILE]; // [column][row]
    int height = rows - first_row < TILE ? rows - first_row : TILE;
    for (int first_column = 0; first_column < columns; first_column += TILE) {
        int width = columns - first_column < TILE ? columns - first_column : TILE;
        for (int c = 0; c < width; c++) {
            size_t element = (size_t)(first_column + c) * (size_t)rows + (size_t)first_row;
            dtype_to_f32(view->dtype, view->data + element * dtype_size(view->dtype), tile[c],
                         (size_t)height);
        }
        for (int r = 0; r < height; r++) {
            float *row = destination + (size_t)(first_row + r) * (size_t)columns + first_column;
            for (int c = 0; c < width; c++) row[c] = tile[c][r];
        }
    }
}

void model_read(const struct model *model, enum gpt2_tensor tensor, int layer, float *destination) {
    assert(layer >= 0 && layer < (gpt2_tensor_info(tensor)->per_layer ? model->config.layers : 1));
    if (model->views == NULL) {
        random_read(&model->config, tensor, layer, destination);
        return;
    }
    struct gpt2_shape shape = gpt2_tensor_shape(&model->config, tensor);
    const struct tensor_view *view = model_view(model, tensor, layer);
    if (!view->transposed) {
        dtype_to_f32(view->dtype, view->data, destination, (size_t)shape.rows * (size_t)shape.columns);
        return;
    }
#pragma omp parallel for schedule(static)
    for (int row = 0; row < shape.rows; row += TILE)
        transpose_tile_row(view, shape.rows, shape.columns, row, destination);
}
