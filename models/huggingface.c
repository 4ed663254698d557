// A model as Hugging Face publishes it: config.json and tensors in one safetensors file, or in several and an
// index that says which tensor is in which.
#include "models/format.h"

#include "base/text.h"
#include "models/config_json.h"
#include "models/json_fields.h"
#include "models/safetensors.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct shard {
    char *path;
    const char *name; // in the index, which owns it; NULL: the single file
    struct safetensors contents;
};

struct checkpoint {
    json_t *index;        // NULL: everything is in shards[0]
    json_t *weight_map;   // in the index: tensor name -> shard's name
    struct shard *shards; // (count)
    int count;
};

static void checkpoint_close(struct checkpoint *checkpoint) {
    for (int i = 0; i < checkpoint->count; i++) {
        safetensors_close(&checkpoint->shards[i].contents);
        free(checkpoint->shards[i].path);
    }
    free(checkpoint->shards);
    json_decref(checkpoint->index);
}

static enum status no_memory(const char *path, struct error *error) {
    return error_set(error, STATUS_OUT_OF_MEMORY, "%s: no memory to open the model", path);
}

// ---- files --------------------------------------------------------------------------------------

// Takes over `path` (NULL: there was no memory for it).
static enum status add_shard(struct checkpoint *checkpoint, char *path, const char *name,
                             struct error *error) {
    struct shard *shards = realloc(checkpoint->shards, ((size_t)checkpoint->count + 1) * sizeof *shards);
    if (shards != NULL) checkpoint->shards = shards;
    if (shards == NULL || path == NULL) {
        free(path);
        return no_memory(name == NULL ? "model" : name, error);
    }
    shards[checkpoint->count] = (struct shard){.path = path, .name = name};
    return safetensors_open(path, &shards[checkpoint->count++].contents, error);
}

static const struct shard *find_shard(const struct checkpoint *checkpoint, const char *name) {
    for (int i = 0; i < checkpoint->count; i++)
        if (strcmp(checkpoint->shards[i].name, name) == 0) return &checkpoint->shards[i];
    return NULL;
}

// The index may only name files beside it.
static bool is_plain_name(const char *name) {
    return name != NULL && *name != '\0' && strchr(name, '/') == NULL && strcmp(name, ".") != 0 &&
           strcmp(name, "..") != 0;
}

static enum status open_indexed_shards(const char *directory, struct checkpoint *checkpoint,
                                       struct error *error) {
    checkpoint->weight_map = json_object_get(checkpoint->index, "weight_map");
    if (!json_is_object(checkpoint->weight_map)) {
        return error_set(error, STATUS_FAILED, "weight_map: expected an object, found %s",
                         json_show(checkpoint->weight_map).text);
    }
    const char *tensor;
    json_t *file;
    json_object_foreach(checkpoint->weight_map, tensor, file) {
        const char *name = json_string_value(file);
        if (!is_plain_name(name)) {
            return error_set(
                error, STATUS_FAILED,
                "weight_map: expected the name of a file beside the index for tensor %.200s, found %s",
                tensor, json_show(file).text);
        }
        if (find_shard(checkpoint, name) != NULL) continue;
        TRY(add_shard(checkpoint, text_format("%s/%s", directory, name), name, error));
    }
    return STATUS_OK;
}

static enum status open_index(const char *directory, const char *path, struct checkpoint *checkpoint,
                              struct error *error) {
    TRY(json_read_object(path, 16 << 20, &checkpoint->index, error));
    enum status status = open_indexed_shards(directory, checkpoint, error);
    if (status != STATUS_OK) error_prefix(error, "%s", path);
    return status;
}

// A directory's single file, or its index when there is no such file.
static enum status open_directory(const char *directory, struct checkpoint *checkpoint, struct error *error) {
    char *single = text_format("%s/model.safetensors", directory);
    char *index = text_format("%s/model.safetensors.index.json", directory);
    enum status status;
    if (single == NULL || index == NULL) {
        status = no_memory(directory, error);
    } else if (access(single, F_OK) == 0) {
        status = add_shard(checkpoint, single, NULL, error);
        single = NULL;
    } else if (access(index, F_OK) == 0) {
        status = open_index(directory, index, checkpoint, error);
    } else {
        status = error_set(
            error, STATUS_FAILED,
            "%s: expected model.safetensors or model.safetensors.index.json in it, found neither", directory);
    }
    free(single);
    free(index);
    return status;
}

// ---- names --------------------------------------------------------------------------------------

static const char prefix[] = "transformer."; // a model saved with its LM head has it, the bare model has not

static bool starts_with(const char *text, const char *start) {
    return strncmp(text, start, strlen(start)) == 0;
}

// For "h.7.attn.bias" 7 and ".attn.bias"; NULL for names of no layer.
static const char *split_layer(const char *name, long *layer) {
    if (!starts_with(name, "h.") || name[2] < '0' || name[2] > '9') return NULL;
    char *rest;
    *layer = strtol(name + 2, &rest, 10);
    return rest;
}

static bool is_known(const char *name, const struct gpt2_config *config) {
    long layer;
    const char *in_layer = split_layer(name, &layer);
    if (in_layer != NULL && layer >= config->layers) return false;
    // Causal masks that older versions saved.
    if (in_layer != NULL &&
        (strcmp(in_layer, ".attn.bias") == 0 || strcmp(in_layer, ".attn.masked_bias") == 0))
        return true;
    for (int t = 0; t < GPT2_TENSORS; t++) {
        const struct gpt2_tensor_info *info = gpt2_tensor_info((enum gpt2_tensor)t);
        if (info->per_layer ? in_layer != NULL && strcmp(in_layer, info->hf_name + strlen("h.%d")) == 0
                            : strcmp(name, info->hf_name) == 0)
            return true;
    }
    return false;
}

// A tensor that takes part in the computation (an adapter, a further layer, a bias of the LM head) but is
// unknown would be silently left out: refused. Other heads beside the model are not ours to use.
static enum status check_names(const struct shard *shard, const struct gpt2_config *config,
                               struct error *error) {
    static const char *const parts[] = {"h.", "wte.", "wpe.", "ln_f.", "lm_head."};
    const char *full_name;
    json_t *entry;
    json_object_foreach(shard->contents.header, full_name, entry) {
        bool prefixed = starts_with(full_name, prefix), ours = prefixed;
        const char *name = prefixed ? full_name + strlen(prefix) : full_name;
        for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
            ours = ours || starts_with(name, parts[i]);
        if (!ours || is_known(name, config)) continue;
        return error_set(
            error, STATUS_FAILED,
            "%s: tensor %.200s has no place in a GPT-2 of %d layers, which config.json describes",
            shard->path, full_name, config->layers);
    }
    return STATUS_OK;
}

// ---- tensors ------------------------------------------------------------------------------------

struct found_tensor {
    const struct shard *shard; // NULL: there is none
    struct safetensors_tensor tensor;
};

static enum status find_exact(const struct checkpoint *checkpoint, const char *name,
                              struct found_tensor *found, struct error *error) {
    const struct shard *shard = &checkpoint->shards[0];
    if (checkpoint->weight_map != NULL) {
        const char *file = json_string_value(json_object_get(checkpoint->weight_map, name));
        if (file == NULL) return STATUS_OK;
        shard = find_shard(checkpoint, file); // all that the index names have been opened
    }
    if (safetensors_find(&shard->contents, name, &found->tensor)) {
        found->shard = shard;
        return STATUS_OK;
    }
    if (checkpoint->weight_map == NULL) return STATUS_OK;
    return error_set(error, STATUS_FAILED, "%s: tensor %s is missing, which the index places there",
                     shard->path, name);
}

// With or without the prefix, but not both.
static enum status find_tensor(const struct model *model, const struct checkpoint *checkpoint,
                               const char *name, struct found_tensor *found, struct error *error) {
    char prefixed[80];
    snprintf(prefixed, sizeof prefixed, "%s%s", prefix, name);
    struct found_tensor with_prefix = {0};
    *found = (struct found_tensor){0};
    TRY(find_exact(checkpoint, name, found, error));
    TRY(find_exact(checkpoint, prefixed, &with_prefix, error));
    if (found->shard != NULL && with_prefix.shard != NULL) {
        return error_set(error, STATUS_FAILED, "%s: expected one tensor %s, found another as %s",
                         found->shard->path, name, prefixed);
    }
    if (found->shard == NULL) *found = with_prefix;
    if (found->shard != NULL) return STATUS_OK;
    return error_set(error, STATUS_FAILED, "%s: tensor %s is missing",
                     checkpoint->weight_map == NULL ? checkpoint->shards[0].path : model->directory, name);
}

static enum status check_shape(const struct found_tensor *found, const char *name,
                               const struct safetensors_tensor *expected, struct error *error) {
    const struct safetensors_tensor *tensor = &found->tensor;
    size_t bytes = (size_t)expected->rank * sizeof expected->shape[0];
    if (tensor->rank == expected->rank && memcmp(tensor->shape, expected->shape, bytes) == 0)
        return STATUS_OK;
    char texts[2][128];
    const struct safetensors_tensor *shapes[2] = {expected, tensor};
    for (int t = 0; t < 2; t++) {
        int length = snprintf(texts[t], sizeof texts[t], "[");
        for (int i = 0; i < shapes[t]->rank && length < (int)sizeof texts[t] - 24; i++) {
            length += snprintf(texts[t] + length, sizeof texts[t] - (size_t)length, "%s%" PRId64,
                               i > 0 ? ", " : "", shapes[t]->shape[i]);
        }
        snprintf(texts[t] + length, sizeof texts[t] - (size_t)length, "]");
    }
    return error_set(error, STATUS_FAILED, "%s: tensor %s: expected shape %s by config.json, found %s",
                     found->shard->path, name, texts[0], texts[1]);
}

// The shape in the file: (out, in), but (in, out) for linear weights; vectors have one dimension.
static struct safetensors_tensor expected_shape(const struct gpt2_config *config, enum gpt2_tensor tensor) {
    struct gpt2_shape shape = gpt2_tensor_shape(config, tensor);
    if (gpt2_tensor_info(tensor)->linear)
        return (struct safetensors_tensor){.rank = 2, .shape = {shape.columns, shape.rows}};
    if (tensor == GPT2_WTE || tensor == GPT2_WPE || tensor == GPT2_LMHEAD)
        return (struct safetensors_tensor){.rank = 2, .shape = {shape.rows, shape.columns}};
    return (struct safetensors_tensor){.rank = 1, .shape = {shape.columns}};
}

static enum status place_tensor(const struct model *model, const struct checkpoint *checkpoint,
                                enum gpt2_tensor tensor, int layer, struct error *error) {
    const struct gpt2_tensor_info *info = gpt2_tensor_info(tensor);
    char name[64];
    snprintf(name, sizeof name, "%s", info->hf_name);
    if (info->per_layer) snprintf(name, sizeof name, "h.%d%s", layer, info->hf_name + strlen("h.%d"));
    struct found_tensor found;
    TRY(find_tensor(model, checkpoint, name, &found, error));
    struct tensor_view *view = model_view(model, tensor, layer);
    if (!safetensors_dtype(found.tensor.dtype, &view->dtype)) {
        return error_set(error, STATUS_FAILED, "%s: tensor %s: expected dtype F32, F16 or BF16, found %.20s",
                         found.shard->path, name, found.tensor.dtype);
    }
    struct safetensors_tensor expected = expected_shape(&model->config, tensor);
    TRY(check_shape(&found, name, &expected, error));
    view->data = found.tensor.data;
    view->transposed = info->linear;
    return STATUS_OK;
}

static enum status place_tensors(struct model *model, const struct checkpoint *checkpoint,
                                 struct error *error) {
    for (int i = 0; i < checkpoint->count; i++)
        TRY(check_names(&checkpoint->shards[i], &model->config, error));
    TRY(model_allocate_views(model, error));
    for (int t = 0; t < GPT2_TENSORS; t++) {
        if (t == GPT2_LMHEAD && model->config.tied_lm_head) continue;
        int layers = gpt2_tensor_info((enum gpt2_tensor)t)->per_layer ? model->config.layers : 1;
        for (int layer = 0; layer < layers; layer++)
            TRY(place_tensor(model, checkpoint, (enum gpt2_tensor)t, layer, error));
    }
    model->stored_dtype = model_view(model, GPT2_WTE, 0)->dtype;
    return STATUS_OK;
}

// ---- opening ------------------------------------------------------------------------------------

// The views point into the mapped files: from now on the model keeps them.
static enum status take_files(struct model *model, struct checkpoint *checkpoint, struct error *error) {
    model->files = calloc((size_t)checkpoint->count, sizeof *model->files);
    if (model->files == NULL) return no_memory(model->name, error);
    for (int i = 0; i < checkpoint->count; i++) {
        model->files[model->file_count++] = checkpoint->shards[i].contents.file;
        checkpoint->shards[i].contents.file = (struct mapped_file){0};
    }
    return STATUS_OK;
}

static enum status read_config(struct model *model, struct error *error) {
    char *path = text_format("%s/config.json", model->directory);
    if (path == NULL) return no_memory(model->name, error);
    enum status status = config_json_read(path, &model->config, error);
    free(path);
    return status;
}

static enum status open_checkpoint(const char *weights, const char *directory, struct checkpoint *checkpoint,
                                   struct error *error) {
    if (weights == NULL)
        TRY(open_directory(directory, checkpoint, error));
    else
        TRY(add_shard(checkpoint, text_format("%s", weights), NULL, error));
    if (checkpoint->count > 0) return STATUS_OK;
    return error_set(error, STATUS_FAILED, "%s: the index of its tensors names no file", directory);
}

enum status huggingface_open(const char *weights, struct model *model, struct error *error) {
    model->format = "safetensors";
    TRY(read_config(model, error));
    struct checkpoint checkpoint = {0};
    enum status status = open_checkpoint(weights, model->directory, &checkpoint, error);
    if (status == STATUS_OK) status = place_tensors(model, &checkpoint, error);
    if (status == STATUS_OK) status = take_files(model, &checkpoint, error);
    checkpoint_close(&checkpoint);
    return status;
}
