#include "models/config_json.h"

#include "models/json_fields.h"

#include <limits.h>
#include <string.h>

// The string field must be one of `accepted` (ending in NULL); missing means the first of them.
static enum status require_one_of(const json_t *object, const char *key, const char *const *accepted,
                                  const char *why, struct error *error) {
    const json_t *field = json_object_get(object, key);
    if (field == NULL) return STATUS_OK;
    for (const char *const *name = accepted; *name != NULL; name++)
        if (json_is_string(field) && strcmp(json_string_value(field), *name) == 0) return STATUS_OK;
    return error_set(error, STATUS_FAILED, "%s: expected \"%s\"%s, found %s", key, accepted[0], why,
                     json_show(field).text);
}

// What this engine cannot compute, by name.
static enum status refuse_other_mathematics(const json_t *object, struct error *error) {
    static const char *const types[] = {"gpt2", NULL};
    static const char *const activations[] = {"gelu_new", "gelu_pytorch_tanh", NULL};
    TRY(require_one_of(object, "model_type", types, "", error));
    TRY(require_one_of(object, "activation_function", activations, " (GELU's tanh form)", error));
    bool cross_attention = false, upcast = false;
    TRY(json_get_bool(object, "add_cross_attention", &cross_attention, error));
    if (cross_attention)
        return error_set(error, STATUS_FAILED, "add_cross_attention: expected false, found true");
    TRY(json_get_bool(object, "reorder_and_upcast_attn", &upcast, error)); // our scores are f32 either way
    const json_t *pruned = json_object_get(object, "pruned_heads");
    if (pruned != NULL && !json_is_null(pruned) && !(json_is_object(pruned) && json_object_size(pruned) == 0))
        return error_set(error, STATUS_FAILED, "pruned_heads: expected none, found %s",
                         json_show(pruned).text);
    return STATUS_OK;
}

static enum status read_sizes(const json_t *object, struct gpt2_config *config, struct error *error) {
    TRY(json_get_int(object, "n_positions", true, 1, INT_MAX, &config->context, error));
    TRY(json_get_int(object, "vocab_size", true, 1, INT_MAX, &config->vocab, error));
    TRY(json_get_int(object, "n_layer", true, 1, INT_MAX, &config->layers, error));
    TRY(json_get_int(object, "n_head", true, 1, INT_MAX, &config->heads, error));
    TRY(json_get_int(object, "n_embd", true, 1, INT_MAX / 4, &config->channels, error));
    config->inner = 4 * config->channels;
    return json_get_int(object, "n_inner", false, 1, INT_MAX, &config->inner, error);
}

static enum status read_epsilon(const json_t *object, float *epsilon, struct error *error) {
    const json_t *field = json_object_get(object, "layer_norm_epsilon");
    if (field == NULL) return STATUS_OK;
    if (!json_is_number(field)) {
        return error_set(error, STATUS_FAILED, "layer_norm_epsilon: expected a number, found %s",
                         json_show(field).text);
    }
    double value = json_number_value(field);
    *epsilon =
        value > 1 ? 2 : (float)value; // beyond float's range the conversion is undefined; 2 is refused too
    return STATUS_OK;
}

// One id or a list of ids, whose first is taken. An id outside the vocabulary never comes up: none.
static enum status read_eos(const json_t *object, struct gpt2_config *config, struct error *error) {
    const json_t *field = json_object_get(object, "eos_token_id");
    json_int_t id = field == NULL ? 50256 : -1;
    if (json_is_array(field) && json_array_size(field) > 0) field = json_array_get(field, 0);
    if (json_is_integer(field)) {
        id = json_integer_value(field);
    } else if (field != NULL && !json_is_null(field)) {
        return error_set(error, STATUS_FAILED,
                         "eos_token_id: expected a token id, a list of them or null, found %s",
                         json_show(field).text);
    }
    config->eos_token = id >= 0 && id < config->vocab ? (int32_t)id : -1;
    return STATUS_OK;
}

static enum status read_fields(const json_t *object, struct gpt2_config *config, struct error *error) {
    *config =
        (struct gpt2_config){.layer_norm_epsilon = 1e-5f, .scale_attention = true, .tied_lm_head = true};
    TRY(refuse_other_mathematics(object, error));
    TRY(read_sizes(object, config, error));
    TRY(read_epsilon(object, &config->layer_norm_epsilon, error));
    TRY(json_get_bool(object, "scale_attn_weights", &config->scale_attention, error));
    TRY(json_get_bool(object, "scale_attn_by_inverse_layer_idx", &config->scale_attention_by_layer, error));
    TRY(json_get_bool(object, "tie_word_embeddings", &config->tied_lm_head, error));
    TRY(read_eos(object, config, error));
    return gpt2_config_check(config, error);
}

enum status config_json_read(const char *path, struct gpt2_config *config, struct error *error) {
    json_t *object;
    TRY(json_read_object(path, 1 << 20, &object, error));
    enum status status = read_fields(object, config, error);
    if (status != STATUS_OK) error_prefix(error, "%s", path);
    json_decref(object);
    return status;
}
