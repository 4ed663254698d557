#include "measure/report_json.h"

#include "measure/machine_json.h"
#include "measure/metrics.h"
#include "measure/report_values.h"

#include <stb/stb_ds.h>

static json_t *engine_json(const struct record_engine *engine) {
    return json_pack("{s:s, s:s, s:s, s:b, s:s}", "name", "gpt2infer", "version", engine->version, "commit",
                     engine->commit, "cuda", engine->cuda, "compiler", engine->compiler);
}

static json_t *ceilings_json(const struct ceilings *ceilings) {
    bool measured = ceilings->bandwidth > 0;
    return json_pack("{s:o, s:o, s:o}", "read_bytes_per_s", report_known(ceilings->bandwidth, measured),
                     "matmul_flop_per_s", report_known(ceilings->matmul_rate, measured), "launch_s",
                     report_known(ceilings->launch, measured));
}

static json_t *device_json(const struct bench_record *record) {
    const struct device_info *device = &record->device;
    return json_pack("{s:s, s:i, s:o, s:o, s:i, s:I, s:I, s:I, s:o}", "backend", device->backend, "index",
                     device->index, "name", report_text(device->name), "detail", report_text(device->detail),
                     "compute_units", device->compute_units, "memory_bytes", (json_int_t)device->memory_bytes,
                     "memory_free", (json_int_t)device->memory_free, "cache_bytes",
                     (json_int_t)device->cache_bytes, "ceilings", ceilings_json(&record->ceilings));
}

static json_t *config_json(const struct gpt2_config *config) {
    return json_pack("{s:i, s:i, s:i, s:i, s:i, s:i, s:f, s:b, s:b, s:b, s:i}", "context", config->context,
                     "vocab", config->vocab, "layers", config->layers, "heads", config->heads, "channels",
                     config->channels, "inner", config->inner, "layer_norm_epsilon",
                     (double)config->layer_norm_epsilon, "scale_attention", config->scale_attention,
                     "scale_attention_by_layer", config->scale_attention_by_layer, "tied_lm_head",
                     config->tied_lm_head, "eos_token", (int)config->eos_token);
}

static json_t *model_json(const struct record_model *model) {
    return json_pack("{s:o, s:s, s:s, s:I, s:o}", "name", report_text(model->name), "format", model->format,
                     "stored_dtype", dtype_name(model->stored_dtype), "parameters",
                     (json_int_t)model->parameters, "config", config_json(&model->config));
}

static json_t *token_steps_json(const struct record_workload *workload) {
    struct token_steps steps = roofline_token_steps(workload->prompt_len, workload->gen_len);
    return json_pack("{s:f, s:f, s:o}", "uncached", steps.uncached, "cached", steps.cached, "ratio",
                     report_finite(steps.ratio));
}

static json_t *workload_json(const struct record_workload *workload) {
    return json_pack("{s:i, s:i, s:s, s:s, s:b, s:s, s:I, s:i, s:i, s:f, s:f, s:o}", "prompt_len",
                     workload->prompt_len, "gen_len", workload->gen_len, "dtype", dtype_name(workload->dtype),
                     "logits", logits_mode_name(workload->logits), "deterministic", workload->deterministic,
                     "sampling", "greedy", "seed", (json_int_t)workload->seed, "warmup", workload->warmup,
                     "reps", workload->reps, "noise", workload->noise, "max_time_s", workload->max_seconds,
                     "token_steps", token_steps_json(workload));
}

static json_t *summary_json(const struct summary *summary, const double *samples) {
    json_t *array = json_array();
    for (int i = 0; i < summary->count; i++) json_array_append_new(array, report_finite(samples[i]));
    return json_pack("{s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:o}", "median", summary->median, "mean",
                     summary->mean, "sd", summary->sd, "cv", summary->cv, "ci95_low", summary->ci95_low,
                     "ci95_high", summary->ci95_high, "min", summary->min, "max", summary->max, "samples",
                     array);
}

static json_t *memory_json(const struct memory_ledger *memory) {
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I}", "weights", (json_int_t)memory->weights, "kv_cache",
                     (json_int_t)memory->kv_cache, "activations", (json_int_t)memory->activations, "logits",
                     (json_int_t)memory->logits, "tokens", (json_int_t)memory->tokens, "free",
                     (json_int_t)memory->free);
}

static json_t *agreement_json(const struct arm_agreement *agreement) {
    return json_pack("{s:s, s:i, s:i, s:i, s:o, s:o}", "verdict", agreement_name(agreement->verdict),
                     "differing_rows", agreement->differing_rows, "row", agreement->row, "position",
                     agreement->position, "logit_gap", report_finite(agreement->logit_gap), "rounding_allows",
                     report_finite(agreement->rounding_allows));
}

static json_t *step_json(const struct step_times *step) {
    bool measured = step->count > 0;
    return json_pack("{s:i, s:o, s:o, s:o, s:o}", "count", step->count, "mean",
                     report_known(step->mean, measured), "p50", report_known(step->p50, measured), "p95",
                     report_known(step->p95, measured), "p99", report_known(step->p99, measured));
}

static json_t *roofline_json(const struct row_metrics *metrics) {
    bool known_device = metrics->against_device;
    return json_pack("{s:f, s:f, s:f, s:f, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "prefill_bytes",
                     metrics->prefill.bytes, "prefill_flop", metrics->prefill.flop, "step_bytes",
                     metrics->step.bytes, "step_flop", metrics->step.flop, "floor_ms",
                     report_known(metrics->floor.seconds * 1e3, known_device), "floor_share",
                     report_known(metrics->floor_share, known_device), "bandwidth_share",
                     report_known(metrics->bandwidth_share, known_device), "matmul_share",
                     report_known(metrics->matmul_share, known_device), "bound_by",
                     known_device ? json_string(limit_name(metrics->floor.limit)) : json_null(), "busy_share",
                     report_known(metrics->busy_share, metrics->busy_share > 0), "textbook_share",
                     report_known(metrics->textbook_share, metrics->textbook_share > 0));
}

static json_t *predicted_json(const struct row_metrics *metrics) {
    const struct prediction *predicted = &metrics->predicted;
    bool known = predicted->tok_s > 0;
    return json_pack("{s:o, s:o, s:o, s:o}", "tok_s", report_known(predicted->tok_s, known), "prefill_ms",
                     report_known(predicted->prefill_ms, known), "ms_per_step",
                     report_known(predicted->ms_per_step, known), "of_measured",
                     report_known(metrics->predicted_share, metrics->predicted_share > 0));
}

static json_t *pricing_json(const struct pricing *pricing) {
    return json_pack("{s:o, s:o}", "gpu_hour_usd",
                     report_known(pricing->device_hour_usd, pricing->device_hour_usd > 0), "requests_per_day",
                     report_known(pricing->requests_per_day, pricing->requests_per_day > 0));
}

// Only where it was asked for and the row has figures.
static json_t *cost_json(const struct bench_record *record, const struct bench_row *row) {
    const struct pricing *pricing = &record->pricing;
    bool priced = pricing->device_hour_usd > 0 && row->tok_s.count > 0;
    bool loaded = pricing->requests_per_day > 0 && row->tok_s.count > 0;
    struct serving_cost cost = {0};
    if (row->tok_s.count > 0)
        cost = serving_cost(pricing, row->batch, record->workload.gen_len, row->tok_s.median);
    return json_pack("{s:o, s:o, s:o, s:o}", "usd_per_million_tokens",
                     report_known(cost.usd_per_million_tokens, priced), "device_hours_per_day",
                     report_known(cost.device_hours_per_day, loaded), "usd_per_day",
                     report_known(cost.usd_per_day, priced && loaded), "concurrent_requests",
                     report_known(cost.concurrent_requests, loaded));
}

static json_t *sensors_json(const struct row_sensors *sensors) {
    bool read = sensors->readings > 0;
    return json_pack("{s:i, s:o, s:o, s:o, s:o, s:o, s:s, s:b, s:i}", "readings", sensors->readings, "sm_mhz",
                     report_known(sensors->sm_mhz, read), "memory_mhz",
                     report_known(sensors->memory_mhz, read), "power_w", report_known(sensors->power_w, read),
                     "temperature_c", report_known(sensors->temperature_c, read), "resident_percent",
                     report_known(sensors->resident_percent, read), "clock_limits", sensors->clock_limits,
                     "throttled", sensors->throttled, "other_processes", sensors->other_processes);
}

static json_t *row_json(const struct bench_record *record, const struct bench_row *row) {
    const struct row_metrics metrics = row_metrics(record, row);
    return json_pack(
        "{s:i, s:s, s:s, s:o, s:o, s:i, s:o, s:f, s:f, s:f, s:f, s:o, s:s, s:s, s:o, s:o, s:o, s:o, s:o, "
        "s:o, s:o}",
        "batch", row->batch, "kvcache", row->kv_cache ? "on" : "off", "status", row_status_name(row->status),
        "reason", report_text(row->reason), "note", report_text(row->note), "reps", row->reps, "tok_s",
        summary_json(&row->tok_s, row->samples), "tok_s_per_row", row->tok_s_per_row, "prefill_ms",
        row->prefill_ms, "ms_per_step", row->ms_per_step, "decode_tok_s", row->decode_tok_s, "step_ms",
        step_json(&row->step), "decode_path", row->decode_path, "token_hash", row->token_hash, "speedup",
        report_known(row->speedup, row->speedup > 0), "agreement", agreement_json(&row->agreement), "memory",
        memory_json(&row->memory), "roofline", roofline_json(&metrics), "sensors",
        sensors_json(&row->sensors), "cost", cost_json(record, row), "predicted", predicted_json(&metrics));
}

// What all rows share, as the first fields of a document.
static json_t *shared_json(const struct bench_record *record) {
    return json_pack("{s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "schema", RECORD_SCHEMA, "engine",
                     engine_json(&record->engine), "device", device_json(record), "model",
                     model_json(&record->model), "workload", workload_json(&record->workload), "pricing",
                     pricing_json(&record->pricing), "discovery", discovery_to_json(&record->discovery),
                     "machine", machine_json(&record->machine));
}

// Adds `value` to an object, taking both; NULL when either is NULL.
static json_t *with_field(json_t *object, const char *name, json_t *value) {
    if (object && json_object_set_new(object, name, value) == 0) return object;
    if (!object) json_decref(value);
    json_decref(object);
    return NULL;
}

json_t *report_json_document(const struct bench_record *record) {
    json_t *rows = json_array();
    for (ptrdiff_t i = 0; rows && i < arrlen(record->rows); i++) {
        if (json_array_append_new(rows, row_json(record, &record->rows[i])) == 0) continue;
        json_decref(rows);
        rows = NULL;
    }
    return with_field(shared_json(record), "rows", rows);
}

json_t *report_json_row(const struct bench_record *record, const struct bench_row *row) {
    json_t *line = shared_json(record), *fields = row_json(record, row);
    if (line && fields && json_object_update(line, fields) != 0) {
        json_decref(line);
        line = NULL;
    }
    bool whole = line && fields;
    json_decref(fields);
    if (whole) return line;
    json_decref(line);
    return NULL;
}
