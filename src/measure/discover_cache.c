#include "measure/discover_cache.h"

#include "measure/cache.h"

// Everything the answer depends on. NULL, and nothing is remembered, when a name is not text.
static json_t *cache_key(struct backend *backend, const struct discover_options *options) {
    struct error error;
    char goal[GOAL_TEXT];
    json_t *key;
    if (cache_backend_key(backend, &key, &error) != STATUS_OK) return NULL;
    discover_goal_format(&options->goal, goal);
    const struct gpt2_config *config = backend_config(backend);
    json_t *search = json_pack(
        "{s:s, s:[i, i, i, i, i, i], s:i, s:i, s:s, s:b, s:i, s:s, s:I}", "model", options->model->name,
        "shape", config->layers, config->channels, config->heads, config->inner, config->vocab,
        config->context, "prompt_len", options->prompt_len, "gen_len", options->gen_len, "logits",
        logits_mode_name(options->logits), "kvcache", options->kv_cache, "decode_path",
        (int)options->decode_path, "goal", goal, "reserve_bytes", (json_int_t)options->reserve_bytes);
    const bool whole = json_object_update(key, search) == 0;
    json_decref(search);
    if (whole) return key;
    json_decref(key);
    return NULL;
}

int discover_cache_read(struct backend *backend, const struct discover_options *options, struct error *note) {
    json_t *key = cache_key(backend, options), *value = NULL;
    json_int_t batch = 0;
    if (key && cache_read("batch", key, &value, note) == STATUS_OK && value) {
        batch = json_integer_value(json_object_get(value, "batch"));
        if (batch < 1 || batch > 1 << 20) {
            snprintf(note->message, sizeof note->message, "the cached batch size makes no sense");
            batch = 0;
        }
    }
    json_decref(value);
    json_decref(key);
    return (int)batch;
}

void discover_cache_write(struct backend *backend, const struct discover_options *options, int batch,
                          struct error *note) {
    struct error error;
    json_t *key = cache_key(backend, options), *value = json_pack("{s:i}", "batch", batch);
    if (key && value && cache_write("batch", key, value, &error) != STATUS_OK && !note->message[0])
        *note = error;
    json_decref(value);
    json_decref(key);
}
