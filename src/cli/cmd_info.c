// info: devices, model, and the memory a session takes.
#include "base/output_file.h"
#include "base/version.h"
#include "cli/commands.h"
#include "cli/json_text.h"
#include "cli/progress.h"
#include "cli/setup.h"
#include "measure/measure_device.h"

#include <inttypes.h>
#include <string.h>

struct facts {
    struct device_info *devices; // (device_count)
    int device_count;
    struct device_info used; // by the model
    const struct model *model;
    enum dtype dtype; // computed in
    struct session_spec spec;
    struct memory_ledger memory;
    bool measured;
    struct device_measurement measurement;
};

static const double mib = 1024.0 * 1024.0;

// ---- for people

static void write_device(const struct device_info *device, FILE *stream) {
    fprintf(stream, "device       %s:%d  %s (%s), %.0f of %.0f MiB free\n", device->backend, device->index,
            device->name, device->detail, (double)device->memory_free / mib,
            (double)device->memory_bytes / mib);
}

static void write_table(const struct facts *facts, FILE *stream) {
    const struct gpt2_config *config = model_config(facts->model);
    const char *commit = build_commit();
    fprintf(stream, "engine       gpt2infer %s%s%s, %s\n", GPT2INFER_VERSION, commit[0] ? " " : "", commit,
            build_has_cuda() ? "CPU and CUDA" : "CPU only");
    for (int i = 0; i < facts->device_count; i++) write_device(&facts->devices[i], stream);
    fprintf(stream, "model        %s (%s, stored in %s)\n", model_name(facts->model),
            model_format(facts->model), dtype_name(model_stored_dtype(facts->model)));
    fprintf(stream, "parameters   %" PRId64 "\n", gpt2_parameter_count(config));
    fprintf(stream, "shape        L %d  C %d  H %d  V %d  context %d\n", config->layers, config->channels,
            config->heads, config->vocab, config->context);
    fprintf(stream, "computes     in %s on %s:%d\n", dtype_name(facts->dtype), facts->used.backend,
            facts->used.index);
    char ledger[512];
    memory_ledger_format(&facts->memory, ledger, sizeof ledger);
    fprintf(stream, "memory of a session of %d row%s of %d tokens\n%s\n", facts->spec.rows,
            facts->spec.rows == 1 ? "" : "s", facts->spec.max_tokens, ledger);
    if (facts->measured) device_measurement_write(&facts->measurement, stream);
}

// ---- JSON

static json_t *device_object(const struct device_info *device) {
    return json_pack("{s:s, s:i, s:o, s:o, s:i, s:I, s:I, s:I}", "backend", device->backend, "index",
                     device->index, "name", json_text(device->name, strlen(device->name)), "detail",
                     json_text(device->detail, strlen(device->detail)), "compute_units",
                     device->compute_units, "memory_bytes", (json_int_t)device->memory_bytes, "memory_free",
                     (json_int_t)device->memory_free, "cache_bytes", (json_int_t)device->cache_bytes);
}

static json_t *device_array(const struct facts *facts) {
    json_t *list = json_array();
    for (int i = 0; list && i < facts->device_count; i++) {
        if (json_array_append_new(list, device_object(&facts->devices[i])) == 0) continue;
        json_decref(list);
        return NULL;
    }
    return list;
}

static json_t *model_object(const struct facts *facts) {
    const struct gpt2_config *config = model_config(facts->model);
    const char *name = model_name(facts->model);
    return json_pack("{s:o, s:s, s:s, s:I, s:i, s:i, s:i, s:i, s:i, s:i, s:b}", "name",
                     json_text(name, strlen(name)), "format", model_format(facts->model), "stored_dtype",
                     dtype_name(model_stored_dtype(facts->model)), "parameters",
                     (json_int_t)gpt2_parameter_count(config), "context", config->context, "vocab",
                     config->vocab, "layers", config->layers, "heads", config->heads, "channels",
                     config->channels, "inner", config->inner, "tied_lm_head", (int)config->tied_lm_head);
}

static json_t *memory_object(const struct facts *facts) {
    const struct memory_ledger *memory = &facts->memory;
    return json_pack("{s:i, s:i, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "rows", facts->spec.rows, "max_tokens",
                     facts->spec.max_tokens, "weights", (json_int_t)memory->weights, "kv_cache",
                     (json_int_t)memory->kv_cache, "activations", (json_int_t)memory->activations, "logits",
                     (json_int_t)memory->logits, "tokens", (json_int_t)memory->tokens, "session",
                     (json_int_t)memory_ledger_session_bytes(memory), "free", (json_int_t)memory->free);
}

static enum status write_json(const struct facts *facts, FILE *stream, struct error *error) {
    json_t *engine = json_pack("{s:s, s:s, s:s, s:b}", "version", GPT2INFER_VERSION, "commit", build_commit(),
                               "compiler", build_compiler(), "cuda", (int)build_has_cuda());
    json_t *document = json_pack(
        "{s:s, s:o, s:o, s:s, s:s, s:i, s:o, s:o}", "schema", "gpt2infer.info/1", "engine", engine, "devices",
        device_array(facts), "dtype", dtype_name(facts->dtype), "backend", facts->used.backend,
        "device_index", facts->used.index, "model", model_object(facts), "memory", memory_object(facts));
    if (document && facts->measured &&
        json_object_set_new(document, "measured", device_measurement_json(&facts->measurement)) != 0) {
        json_decref(document);
        document = NULL;
    }
    return json_write(document, false, stream, error);
}

// ---- gathering

enum { MOST_DEVICES = 64, DEFAULT_PROMPT = 50, DEFAULT_NEW = 200 };

// The workload of bench's defaults where the context has room for it and nothing else was asked for.
static enum status choose_max_tokens(const struct options *options, int context, int *max_tokens,
                                     struct error *error) {
    int prompt = options->prompt_len ? options->prompt_len : DEFAULT_PROMPT;
    int made = options->gen_len ? options->gen_len : DEFAULT_NEW;
    bool asked = options->prompt_len || options->gen_len;
    if (asked && prompt + made > context)
        return error_set(error, STATUS_USAGE,
                         "--prompt-len %d and --gen-len %d: more than the model's context of %d", prompt,
                         made, context);
    *max_tokens = prompt + made < context ? prompt + made : context;
    return STATUS_OK;
}

static enum status gather(const struct options *options, const struct setup *setup, struct facts *facts,
                          struct error *error) {
    struct device devices[MOST_DEVICES];
    facts->device_count = device_list(devices, MOST_DEVICES);
    for (int i = 0; i < facts->device_count; i++) TRY(device_describe(devices[i], &facts->devices[i], error));
    facts->used = setup->info;
    facts->model = setup->model;
    facts->dtype = backend_dtype(setup->backend);
    facts->spec = (struct session_spec){
        .rows = options->batch,
        .kv_cache = options->kvcache == KVCACHE_ON,
        .logits = options->logits == LOGITS_CHOICE_ALL ? LOGITS_ALL : LOGITS_LAST,
        .sampling = {.top_p = 1},
    };
    TRY(choose_max_tokens(options, model_config(setup->model)->context, &facts->spec.max_tokens, error));
    backend_ledger(setup->backend, &facts->spec, &facts->memory);
    return STATUS_OK;
}

static void show_probe(void *context, int done, int probes) {
    progress_update(context, "measuring", (double)done / probes, -1);
}

static enum status measure(const struct options *options, const volatile sig_atomic_t *interrupt,
                           struct setup *setup, struct facts *facts, struct error *error) {
    struct progress progress;
    struct device_measurement_options measuring = {
        .interrupt = interrupt, .progress = show_probe, .progress_context = &progress};
    progress_start(&progress, options->quiet, true);
    enum status status = measure_device(setup->backend, &measuring, &facts->measurement, error);
    progress_clear(&progress);
    facts->measured = status == STATUS_OK;
    return status;
}

static enum status info(const struct options *options, const volatile sig_atomic_t *interrupt,
                        struct setup *setup, struct output_file *output, struct error *error) {
    TRY(setup_open_model(options, MODEL_RANDOM, setup, error));
    TRY(setup_open_backend(options, interrupt, setup, error));
    struct device_info devices[MOST_DEVICES];
    struct facts facts = {.devices = devices};
    TRY(gather(options, setup, &facts, error));
    if (options->measure) TRY(measure(options, interrupt, setup, &facts, error));
    if (options->format == FORMAT_JSON)
        TRY(write_json(&facts, output->stream, error));
    else
        write_table(&facts, output->stream);
    return output_file_commit(output, error);
}

enum status cmd_info(const struct options *options, const volatile sig_atomic_t *interrupt,
                     struct error *error) {
    struct setup setup = {0};
    struct output_file output;
    TRY(output_file_open(options->output_file, &output, error));
    enum status status = info(options, interrupt, &setup, &output, error);
    output_file_discard(&output);
    setup_close(&setup);
    return status;
}
