// A record from the JSON that report_json.c writes. What follows from the samples and the shape is computed
// again, not read.
#include "measure/record.h"

#include "base/mapped_file.h"
#include "measure/machine_json.h"

#include <jansson.h>
#include <limits.h>
#include <math.h>
#include <stb/stb_ds.h>
#include <stdio.h>
#include <string.h>

static enum status refuse(struct error *error, const char *where, const char *what) {
    return error_set(error, STATUS_FAILED, "%s: %s", where, what);
}

// Copies a string that must fit.
static enum status copy_text(char *destination, size_t size, const char *text, const char *where,
                             struct error *error) {
    if (strlen(text) >= size) return refuse(error, where, "longer than this program writes");
    memcpy(destination, text, strlen(text) + 1);
    return STATUS_OK;
}

// The position of `text` among names, or an error that lists them.
static enum status find_name(const char *text, const char *const *names, int count, const char *where,
                             int *found, struct error *error) {
    char expected[128] = "";
    for (int i = 0; i < count; i++) {
        if (strcmp(text, names[i]) == 0) {
            *found = i;
            return STATUS_OK;
        }
        size_t length = strlen(expected);
        snprintf(expected + length, sizeof expected - length, "%s%s", i ? ", " : "", names[i]);
    }
    return error_set(error, STATUS_FAILED, "%s: expected one of %s, found \"%.40s\"", where, expected, text);
}

static enum status read_dtype(const char *text, const char *where, enum dtype *dtype, struct error *error) {
    const char *const names[] = {dtype_name(DTYPE_F32), dtype_name(DTYPE_F16), dtype_name(DTYPE_BF16)};
    int found = 0;
    TRY(find_name(text, names, 3, where, &found, error));
    *dtype = (enum dtype)found;
    return STATUS_OK;
}

// Fields that are missing or of another type.
static enum status unpack_error(const json_error_t *json_error, const char *where, struct error *error) {
    return error_set(error, STATUS_FAILED, "%s: %s", where, json_error->text);
}

static enum status read_engine(json_t *json, struct record_engine *engine, struct error *error) {
    const char *version, *commit, *compiler;
    int cuda;
    json_error_t json_error;
    if (json_unpack_ex(json, &json_error, 0, "{s:s, s:s, s:s, s:b}", "version", &version, "commit", &commit,
                       "compiler", &compiler, "cuda", &cuda) != 0)
        return unpack_error(&json_error, "engine", error);
    engine->cuda = cuda;
    TRY(copy_text(engine->version, sizeof engine->version, version, "engine.version", error));
    TRY(copy_text(engine->commit, sizeof engine->commit, commit, "engine.commit", error));
    return copy_text(engine->compiler, sizeof engine->compiler, compiler, "engine.compiler", error);
}

static enum status read_ceilings(json_t *json, struct ceilings *ceilings, struct error *error) {
    json_t *bandwidth, *matmul_rate, *launch;
    json_error_t json_error;
    if (json_unpack_ex(json, &json_error, 0, "{s:o, s:o, s:o}", "read_bytes_per_s", &bandwidth,
                       "matmul_flop_per_s", &matmul_rate, "launch_s", &launch) != 0)
        return unpack_error(&json_error, "device.ceilings", error);
    if (json_is_null(bandwidth)) return STATUS_OK; // not measured
    *ceilings = (struct ceilings){.bandwidth = json_number_value(bandwidth),
                                  .matmul_rate = json_number_value(matmul_rate),
                                  .launch = json_number_value(launch)};
    if (!(ceilings->bandwidth > 0) || !(ceilings->matmul_rate > 0) || !(ceilings->launch >= 0))
        return refuse(error, "device.ceilings", "expected numbers above 0");
    return STATUS_OK;
}

// Numbers that must fit an int.
struct int_field {
    const char *name;
    int *value;
    int minimum;
};

static enum status read_ints(json_t *json, const struct int_field *fields, size_t count, const char *where,
                             struct error *error) {
    for (size_t i = 0; i < count; i++) {
        json_t *field = json_object_get(json, fields[i].name);
        json_int_t value = json_integer_value(field);
        if (!json_is_integer(field) || value < fields[i].minimum || value > INT_MAX)
            return error_set(error, STATUS_FAILED, "%s.%s: expected a whole number from %d to %d", where,
                             fields[i].name, fields[i].minimum, INT_MAX);
        *fields[i].value = (int)value;
    }
    return STATUS_OK;
}
#define READ_INTS(json, fields, where, error)                                                                \
    read_ints(json, fields, sizeof(fields) / sizeof(fields)[0], where, error)

static enum status read_device(json_t *json, struct bench_record *record, struct error *error) {
    struct device_info *device = &record->device;
    const struct int_field ints[] = {{"index", &device->index, 0},
                                     {"compute_units", &device->compute_units, 0}};
    const char *backend, *name, *detail;
    json_int_t memory, memory_free, cache;
    json_t *ceilings;
    json_error_t json_error;
    if (json_unpack_ex(json, &json_error, 0, "{s:s, s:s, s:s, s:I, s:I, s:I, s:o}", "backend", &backend,
                       "name", &name, "detail", &detail, "memory_bytes", &memory, "memory_free", &memory_free,
                       "cache_bytes", &cache, "ceilings", &ceilings) != 0)
        return unpack_error(&json_error, "device", error);
    device->memory_bytes = memory;
    device->memory_free = memory_free;
    device->cache_bytes = cache;
    TRY(READ_INTS(json, ints, "device", error));
    TRY(copy_text(device->backend, sizeof device->backend, backend, "device.backend", error));
    TRY(copy_text(device->name, sizeof device->name, name, "device.name", error));
    TRY(copy_text(device->detail, sizeof device->detail, detail, "device.detail", error));
    return read_ceilings(ceilings, &record->ceilings, error);
}

static enum status read_config(json_t *json, struct gpt2_config *config, struct error *error) {
    const struct int_field ints[] = {{"context", &config->context, 1},     {"vocab", &config->vocab, 1},
                                     {"layers", &config->layers, 1},       {"heads", &config->heads, 1},
                                     {"channels", &config->channels, 1},   {"inner", &config->inner, 1},
                                     {"eos_token", &config->eos_token, -1}};
    double epsilon;
    int scale, scale_by_layer, tied;
    json_error_t json_error;
    if (json_unpack_ex(json, &json_error, 0, "{s:F, s:b, s:b, s:b}", "layer_norm_epsilon", &epsilon,
                       "scale_attention", &scale, "scale_attention_by_layer", &scale_by_layer, "tied_lm_head",
                       &tied) != 0)
        return unpack_error(&json_error, "model.config", error);
    config->layer_norm_epsilon = (float)epsilon;
    config->scale_attention = scale;
    config->scale_attention_by_layer = scale_by_layer;
    config->tied_lm_head = tied;
    return READ_INTS(json, ints, "model.config", error);
}

static enum status read_model(json_t *json, struct record_model *model, struct error *error) {
    const char *name, *format, *stored_dtype;
    json_int_t parameters;
    json_t *config;
    json_error_t json_error;
    if (json_unpack_ex(json, &json_error, 0, "{s:s, s:s, s:s, s:I, s:o}", "name", &name, "format", &format,
                       "stored_dtype", &stored_dtype, "parameters", &parameters, "config", &config) != 0)
        return unpack_error(&json_error, "model", error);
    model->parameters = parameters;
    TRY(copy_text(model->name, sizeof model->name, name, "model.name", error));
    TRY(copy_text(model->format, sizeof model->format, format, "model.format", error));
    TRY(read_dtype(stored_dtype, "model.stored_dtype", &model->stored_dtype, error));
    return read_config(config, &model->config, error);
}

static enum status read_workload(json_t *json, struct bench_record *record, struct error *error) {
    struct record_workload *workload = &record->workload;
    const struct int_field ints[] = {{"prompt_len", &workload->prompt_len, 1},
                                     {"gen_len", &workload->gen_len, 1},
                                     {"warmup", &workload->warmup, 0},
                                     {"reps", &workload->reps, 0}};
    const char *const logits_names[] = {logits_mode_name(LOGITS_LAST), logits_mode_name(LOGITS_ALL)};
    const char *dtype, *logits, *sampling;
    json_int_t seed;
    int found = 0, deterministic = 0; // records before 0.6.0 do not say
    json_error_t json_error;
    if (json_unpack_ex(json, &json_error, 0, "{s:s, s:s, s?b, s:s, s:I, s:F, s:F}", "dtype", &dtype, "logits",
                       &logits, "deterministic", &deterministic, "sampling", &sampling, "seed", &seed,
                       "noise", &workload->noise, "max_time_s", &workload->max_seconds) != 0)
        return unpack_error(&json_error, "workload", error);
    workload->seed = (uint64_t)seed;
    workload->deterministic = deterministic;
    TRY(READ_INTS(json, ints, "workload", error));
    TRY(read_dtype(dtype, "workload.dtype", &workload->dtype, error));
    TRY(find_name(logits, logits_names, 2, "workload.logits", &found, error));
    workload->logits = (enum logits_mode)found;
    if (strcmp(sampling, "greedy") != 0) return refuse(error, "workload.sampling", "expected \"greedy\"");
    if (workload->prompt_len > record->model.config.context - workload->gen_len)
        return refuse(error, "workload", "prompt_len and gen_len do not fit the model's context");
    return STATUS_OK;
}

// A number from 0, or null for `unknown`.
static enum status read_optional(json_t *json, const char *name, double unknown, const char *where,
                                 double *value, struct error *error) {
    json_t *field = json_object_get(json, name);
    *value = json_is_null(field) ? unknown : json_number_value(field);
    if (json_is_null(field) || (json_is_number(field) && *value >= 0)) return STATUS_OK;
    return error_set(error, STATUS_FAILED, "%s.%s: expected a number from 0, or null", where, name);
}

static enum status read_pricing(json_t *json, struct pricing *pricing, struct error *error) {
    TRY(read_optional(json, "gpu_hour_usd", 0, "pricing", &pricing->device_hour_usd, error));
    return read_optional(json, "requests_per_day", 0, "pricing", &pricing->requests_per_day, error);
}

static enum status read_sensors(json_t *json, struct row_sensors *sensors, const char *row,
                                struct error *error) {
    char where[48];
    snprintf(where, sizeof where, "%s.sensors", row);
    const struct int_field ints[] = {{"readings", &sensors->readings, 0},
                                     {"other_processes", &sensors->other_processes, 0}};
    const char *clock_limits;
    int throttled;
    json_error_t json_error;
    if (json_unpack_ex(json, &json_error, 0, "{s:s, s:b}", "clock_limits", &clock_limits, "throttled",
                       &throttled) != 0)
        return unpack_error(&json_error, where, error);
    sensors->throttled = throttled;
    const double unknown = (double)NAN;
    TRY(READ_INTS(json, ints, where, error));
    TRY(copy_text(sensors->clock_limits, sizeof sensors->clock_limits, clock_limits, where, error));
    TRY(read_optional(json, "sm_mhz", unknown, where, &sensors->sm_mhz, error));
    TRY(read_optional(json, "memory_mhz", unknown, where, &sensors->memory_mhz, error));
    TRY(read_optional(json, "power_w", unknown, where, &sensors->power_w, error));
    TRY(read_optional(json, "temperature_c", unknown, where, &sensors->temperature_c, error));
    return read_optional(json, "resident_percent", unknown, where, &sensors->resident_percent, error);
}

static enum status read_samples(json_t *json, struct bench_row *row, const char *where, struct error *error) {
    json_t *samples;
    json_error_t json_error;
    if (json_unpack_ex(json, &json_error, 0, "{s:o}", "samples", &samples) != 0)
        return unpack_error(&json_error, where, error);
    if (!json_is_array(samples)) return refuse(error, where, "samples: expected an array");
    for (size_t i = 0; i < json_array_size(samples); i++) {
        json_t *sample = json_array_get(samples, i);
        double value = json_number_value(sample);
        if (!json_is_number(sample) || !(value > 0) || !isfinite(value))
            return refuse(error, where, "samples: expected numbers above 0");
        arrput(row->samples, value);
    }
    row->tok_s = stats_summarize(row->samples, (int)arrlen(row->samples));
    row->tok_s_per_row = row->tok_s.median / row->batch;
    return STATUS_OK;
}

static enum status read_agreement(json_t *json, struct arm_agreement *agreement, const char *where,
                                  struct error *error) {
    const struct int_field ints[] = {{"differing_rows", &agreement->differing_rows, 0},
                                     {"row", &agreement->row, 0},
                                     {"position", &agreement->position, 0}};
    const char *const names[] = {agreement_name(AGREEMENT_UNKNOWN), agreement_name(AGREEMENT_SAME),
                                 agreement_name(AGREEMENT_NEAR_TIE), agreement_name(AGREEMENT_DIFFERENT)};
    const char *verdict;
    json_t *gap, *allows;
    int found = 0;
    json_error_t json_error;
    if (json_unpack_ex(json, &json_error, 0, "{s:s, s:o, s:o}", "verdict", &verdict, "logit_gap", &gap,
                       "rounding_allows", &allows) != 0)
        return unpack_error(&json_error, where, error);
    TRY(READ_INTS(json, ints, where, error));
    TRY(find_name(verdict, names, 4, where, &found, error));
    agreement->verdict = (enum agreement)found;
    agreement->logit_gap = json_is_number(gap) ? json_number_value(gap) : (double)NAN;
    agreement->rounding_allows = json_is_number(allows) ? json_number_value(allows) : (double)NAN;
    return STATUS_OK;
}

static enum status read_memory(json_t *json, struct memory_ledger *memory, const char *where,
                               struct error *error) {
    json_int_t weights, kv_cache, activations, logits, tokens, free_bytes;
    json_error_t json_error;
    if (json_unpack_ex(json, &json_error, 0, "{s:I, s:I, s:I, s:I, s:I, s:I}", "weights", &weights,
                       "kv_cache", &kv_cache, "activations", &activations, "logits", &logits, "tokens",
                       &tokens, "free", &free_bytes) != 0)
        return unpack_error(&json_error, where, error);
    *memory = (struct memory_ledger){.weights = weights,
                                     .kv_cache = kv_cache,
                                     .activations = activations,
                                     .logits = logits,
                                     .tokens = tokens,
                                     .free = free_bytes};
    return STATUS_OK;
}

static enum status read_steps(json_t *json, struct step_times *step, const char *where, struct error *error) {
    const struct int_field ints[] = {{"count", &step->count, 0}};
    TRY(READ_INTS(json, ints, where, error));
    if (step->count == 0) return STATUS_OK; // not measured: the others are null
    json_error_t json_error;
    if (json_unpack_ex(json, &json_error, 0, "{s:F, s:F, s:F, s:F}", "mean", &step->mean, "p50", &step->p50,
                       "p95", &step->p95, "p99", &step->p99) != 0)
        return unpack_error(&json_error, where, error);
    return STATUS_OK;
}

static enum status read_names(const char *kvcache, const char *status, struct bench_row *row,
                              const char *where, struct error *error) {
    static const char *const arms[] = {"off", "on"};
    const char *statuses[ROW_MISMATCH + 1];
    for (int i = 0; i <= ROW_MISMATCH; i++) statuses[i] = row_status_name((enum row_status)i);
    int found = 0;
    TRY(find_name(kvcache, arms, 2, where, &found, error));
    row->kv_cache = found == 1;
    TRY(find_name(status, statuses, ROW_MISMATCH + 1, where, &found, error));
    row->status = (enum row_status)found;
    return STATUS_OK;
}

static enum status read_row(json_t *json, const char *where, struct bench_row *row, struct error *error) {
    const struct int_field ints[] = {{"batch", &row->batch, 1}, {"reps", &row->reps, 0}};
    const char *kvcache, *status, *reason, *note, *decode_path, *token_hash;
    json_t *tok_s, *step, *speedup, *agreement, *memory, *sensors;
    json_error_t json_error;
    if (json_unpack_ex(json, &json_error, 0,
                       "{s:s, s:s, s:s, s:s, s:o, s:F, s:F, s:F, s:o, s:s, s:s, s:o, s:o, s:o, s:o}",
                       "kvcache", &kvcache, "status", &status, "reason", &reason, "note", &note, "tok_s",
                       &tok_s, "prefill_ms", &row->prefill_ms, "ms_per_step", &row->ms_per_step,
                       "decode_tok_s", &row->decode_tok_s, "step_ms", &step, "decode_path", &decode_path,
                       "token_hash", &token_hash, "speedup", &speedup, "agreement", &agreement, "memory",
                       &memory, "sensors", &sensors) != 0)
        return unpack_error(&json_error, where, error);
    TRY(READ_INTS(json, ints, where, error));
    if (!(row->prefill_ms >= 0) || !(row->ms_per_step >= 0))
        return refuse(error, where, "expected times from 0");
    row->speedup = json_number_value(speedup); // null: 0
    TRY(read_names(kvcache, status, row, where, error));
    TRY(copy_text(row->reason, sizeof row->reason, reason, where, error));
    TRY(copy_text(row->note, sizeof row->note, note, where, error));
    TRY(copy_text(row->decode_path, sizeof row->decode_path, decode_path, where, error));
    TRY(copy_text(row->token_hash, sizeof row->token_hash, token_hash, where, error));
    TRY(read_agreement(agreement, &row->agreement, where, error));
    TRY(read_steps(step, &row->step, where, error));
    TRY(read_memory(memory, &row->memory, where, error));
    TRY(read_sensors(sensors, &row->sensors, where, error));
    return read_samples(tok_s, row, where, error);
}

static enum status read_rows(json_t *json, struct bench_record *record, struct error *error) {
    if (!json_is_array(json)) return refuse(error, "rows", "expected an array");
    for (size_t i = 0; i < json_array_size(json); i++) {
        char where[32];
        snprintf(where, sizeof where, "rows[%zu]", i);
        struct bench_row empty;
        memset(&empty, 0, sizeof empty);
        arrput(record->rows, empty);
        TRY(read_row(json_array_get(json, i), where, &arrlast(record->rows), error));
    }
    return STATUS_OK;
}

static enum status read_document(json_t *json, struct bench_record *record, struct error *error) {
    const char *schema = json_string_value(json_object_get(json, "schema"));
    if (!schema || strcmp(schema, RECORD_SCHEMA) != 0)
        return error_set(error, STATUS_FAILED, "schema: expected \"%s\", found %s%.40s%s", RECORD_SCHEMA,
                         schema ? "\"" : "", schema ? schema : "none", schema ? "\"" : "");
    json_t *engine, *device, *model, *workload, *pricing, *discovery, *machine, *rows;
    json_error_t json_error;
    if (json_unpack_ex(json, &json_error, 0, "{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "engine", &engine,
                       "device", &device, "model", &model, "workload", &workload, "pricing", &pricing,
                       "discovery", &discovery, "machine", &machine, "rows", &rows) != 0)
        return error_set(error, STATUS_FAILED, "%s", json_error.text);
    TRY(read_engine(engine, &record->engine, error));
    TRY(read_device(device, record, error));
    TRY(read_model(model, &record->model, error));
    TRY(read_workload(workload, record, error));
    TRY(read_pricing(pricing, &record->pricing, error));
    TRY(discovery_from_json(discovery, &record->discovery, error));
    TRY(machine_read(machine, &record->machine, error));
    return read_rows(rows, record, error);
}

enum status record_read(const char *path, struct bench_record *record, struct error *error) {
    memset(record, 0, sizeof *record);
    struct mapped_file file;
    TRY(mapped_file_open(path, &file, error));
    json_error_t json_error;
    json_t *json = json_loadb((const char *)file.data, file.size, JSON_REJECT_DUPLICATES, &json_error);
    mapped_file_close(&file);
    enum status status;
    if (!json)
        status = error_set(error, STATUS_FAILED, "line %d: %s", json_error.line, json_error.text);
    else
        status = read_document(json, record, error);
    json_decref(json);
    if (status != STATUS_OK) {
        record_clear(record);
        error_prefix(error, "%s", path);
    }
    return status;
}
