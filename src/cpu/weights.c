// Loading: every linear layer is packed into panels once, here.
#include "cpu/cpu.h"
#include "cpu/host.h"

#include <stdlib.h>

static void layout_matrix(const struct cpu_backend *b, struct arena *arena, struct matrix *matrix,
                          enum gpt2_tensor weights) {
    struct gpt2_shape shape = gpt2_tensor_shape(&b->base.config, weights);
    *matrix = (struct matrix){.dtype = b->base.options.dtype, .inputs = shape.columns, .outputs = shape.rows};
    matrix->panels = arena_take(arena, 1, matrix_panel_bytes(matrix->dtype, shape.columns, shape.rows));
    matrix->bias = arena_take(arena, 1, matrix_bias_bytes(shape.rows));
}

static float *layout_plain(const struct cpu_backend *b, struct arena *arena, enum gpt2_tensor tensor) {
    struct gpt2_shape shape = gpt2_tensor_shape(&b->base.config, tensor);
    return arena_take(arena, (size_t)shape.rows, (size_t)shape.columns * sizeof(float));
}

// The arena's pieces, in the order a step reads them; `layers` is the array to fill.
static void layout(struct cpu_backend *b, struct arena *arena, struct cpu_layer *layers) {
    b->wpe = layout_plain(b, arena, GPT2_WPE);
    for (int l = 0; l < b->base.config.layers; l++) {
        struct cpu_layer *layer = &layers[l];
        layer->ln1w = layout_plain(b, arena, GPT2_LN1W);
        layer->ln1b = layout_plain(b, arena, GPT2_LN1B);
        layout_matrix(b, arena, &layer->qkv, GPT2_QKVW);
        layout_matrix(b, arena, &layer->attproj, GPT2_ATTPROJW);
        layer->ln2w = layout_plain(b, arena, GPT2_LN2W);
        layer->ln2b = layout_plain(b, arena, GPT2_LN2B);
        layout_matrix(b, arena, &layer->fc, GPT2_FCW);
        layout_matrix(b, arena, &layer->fcproj, GPT2_FCPROJW);
    }
    b->lnfw = layout_plain(b, arena, GPT2_LNFW);
    b->lnfb = layout_plain(b, arena, GPT2_LNFB);
    layout_matrix(b, arena, &b->wte, GPT2_WTE);
    if (b->base.config.tied_lm_head)
        b->lm_head = b->wte;
    else
        layout_matrix(b, arena, &b->lm_head, GPT2_LMHEAD);
}

// Reads weights and bias through `staging`, which holds the largest pair.
static void load_matrix(struct cpu_backend *b, const struct model *model, struct matrix *matrix, int layer,
                        enum gpt2_tensor weights, enum gpt2_tensor bias, float *staging) {
    float *staged_bias = NULL;
    model_read(model, weights, layer, staging);
    if (bias != GPT2_TENSORS) {
        staged_bias = staging + (size_t)matrix->inputs * (size_t)matrix->outputs;
        model_read(model, bias, layer, staged_bias);
    }
    matrix_pack(matrix, staging, staged_bias, b->base.options.threads);
}

static void load(struct cpu_backend *b, const struct model *model, float *staging) {
    const enum gpt2_tensor no_bias = GPT2_TENSORS;
    model_read(model, GPT2_WPE, 0, b->wpe);
    for (int l = 0; l < b->base.config.layers; l++) {
        struct cpu_layer *layer = &b->layers[l];
        model_read(model, GPT2_LN1W, l, layer->ln1w);
        model_read(model, GPT2_LN1B, l, layer->ln1b);
        load_matrix(b, model, &layer->qkv, l, GPT2_QKVW, GPT2_QKVB, staging);
        load_matrix(b, model, &layer->attproj, l, GPT2_ATTPROJW, GPT2_ATTPROJB, staging);
        model_read(model, GPT2_LN2W, l, layer->ln2w);
        model_read(model, GPT2_LN2B, l, layer->ln2b);
        load_matrix(b, model, &layer->fc, l, GPT2_FCW, GPT2_FCB, staging);
        load_matrix(b, model, &layer->fcproj, l, GPT2_FCPROJW, GPT2_FCPROJB, staging);
    }
    model_read(model, GPT2_LNFW, 0, b->lnfw);
    model_read(model, GPT2_LNFB, 0, b->lnfb);
    load_matrix(b, model, &b->wte, 0, GPT2_WTE, no_bias, staging);
    if (!b->base.config.tied_lm_head) load_matrix(b, model, &b->lm_head, 0, GPT2_LMHEAD, no_bias, staging);
}

// Floats that the largest tensor and its bias take while they are read.
static size_t staging_floats(const struct gpt2_config *config) {
    size_t most = 0;
    for (int tensor = 0; tensor < GPT2_TENSORS; tensor++) {
        struct gpt2_shape shape = gpt2_tensor_shape(config, (enum gpt2_tensor)tensor);
        size_t floats = (size_t)shape.rows * ((size_t)shape.columns + 1);
        most = floats > most ? floats : most;
    }
    return most;
}

static enum status reserve(struct cpu_backend *b, float **staging, struct error *error) {
    const double mib = 1024.0 * 1024.0;
    size_t staging_bytes = staging_floats(&b->base.config) * sizeof(float);
    b->layers = calloc((size_t)b->base.config.layers, sizeof *b->layers);
    *staging = NULL;
    if (b->layers) {
        layout(b, &b->arena, b->layers);
        int64_t free_bytes = host_memory().available, needed = b->arena.used + (int64_t)staging_bytes;
        if (needed > free_bytes) {
            return error_set(error, STATUS_OUT_OF_MEMORY,
                             "out of memory: weights in %s take %.1f MiB and %.1f MiB more while they are "
                             "loaded; %.1f MiB are free",
                             dtype_name(b->base.options.dtype), (double)b->arena.used / mib,
                             (double)staging_bytes / mib, (double)free_bytes / mib);
        }
        *staging = malloc(staging_bytes);
    }
    if (!*staging || !arena_reserve(&b->arena, b->base.options.threads))
        return error_set(error, STATUS_OUT_OF_MEMORY,
                         "out of memory: the system refused room for the weights");
    layout(b, &b->arena, b->layers);
    return STATUS_OK;
}

enum status cpu_open(const struct backend *base, const struct model *model, struct backend **backend,
                     struct error *error) {
    struct cpu_backend *b = calloc(1, sizeof *b);
    if (!b) return error_set(error, STATUS_OUT_OF_MEMORY, "out of memory: no room for a backend");
    b->base = *base;
    team_init(&b->team);
    if (b->base.options.threads == 0) b->base.options.threads = host_threads();
    float *staging;
    enum status status = reserve(b, &staging, error);
    if (status == STATUS_OK) load(b, model, staging);
    free(staging);
    if (status != STATUS_OK) {
        cpu_close(&b->base);
        return status;
    }
    *backend = &b->base;
    return STATUS_OK;
}

void cpu_close(struct backend *backend) {
    struct cpu_backend *b = (struct cpu_backend *)backend;
    arena_free(&b->arena);
    team_destroy(&b->team);
    free(b->layers);
    free(b);
}
