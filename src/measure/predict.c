#include "measure/predict.h"

#include <math.h>

// Fitted to the engine's products of GPT-2 124M at 1, 2, 4 ... 64 rows on a CPU of 2 cores with
// AVX-512: 8.34, 8.54, 9.84, 10.65, 16.56, 25.71 and 48.37 ms at 30.8 GB/s and 325 GFLOP/s, each met within 6
// %.
static const double overlap_exponent = 1.5;

// Activations written by one operation and read by the next, per token: LayerNorm 2 C twice, QKV 4 C,
// attention 4 C, projection 3 C, MLP 2 F + 3 C, in all layers.
static double activation_bytes(const struct machine *machine, const struct generation_shape *shape,
                               double tokens) {
    const struct gpt2_config *config = shape->config;
    double C = config->channels, F = config->inner, element = (double)dtype_size(shape->dtype);
    double widest = tokens * F * element; // (tokens, F)
    if (widest <= machine->cache_bytes / 2) return 0;
    return tokens * config->layers * (18 * C + 2 * F) * element;
}

static double pass_work(const struct machine *machine, const struct generation_shape *shape,
                        const struct cost *cost, double tokens, double kv_bytes) {
    double bytes = cost->bytes - kv_bytes + activation_bytes(machine, shape, tokens);
    double memory = bytes / machine->bandwidth, compute = cost->flop / machine->rate;
    double products =
        pow(pow(memory, overlap_exponent) + pow(compute, overlap_exponent), 1 / overlap_exponent);
    return products + kv_bytes / machine->bandwidth;
}

// Of n tokens per row, read or written.
static double kv_bytes(const struct generation_shape *shape, double n) {
    if (!shape->kv_cache) return 0;
    return shape->batch * n * roofline_kv_token_bytes(shape->config, shape->dtype);
}

double predict_prefill_work(const struct machine *machine, const struct generation_shape *shape) {
    const struct cost cost = roofline_prefill(shape);
    double P = shape->prompt_len;
    return pass_work(machine, shape, &cost, shape->batch * P, kv_bytes(shape, P));
}

double predict_step_work(const struct machine *machine, const struct generation_shape *shape, int step) {
    const struct cost cost = roofline_step(shape, step);
    double keys = shape->prompt_len + (double)step;
    return pass_work(machine, shape, &cost, shape->batch * (shape->kv_cache ? 1 : keys),
                     kv_bytes(shape, keys));
}

// On the straight line from `first` at one row to `last` at `most` rows.
static double on_line(double first, double last, double most, double rows) {
    double share = most > 1 ? (rows - 1) / (most - 1) : 0;
    return first + share * (last - first);
}

static double fixed_step(const struct machine *machine, const struct generation_shape *shape) {
    double rows = shape->batch;
    if (!shape->kv_cache) return machine->uncached_step;
    if (rows <= machine->persistent_rows)
        return on_line(machine->persistent_step, machine->persistent_last_step, machine->persistent_rows,
                       rows);
    if (rows <= machine->fused_rows)
        return on_line(machine->fused_step, machine->fused_last_step, machine->fused_rows, rows);
    return machine->cached_step;
}

struct prediction predict(const struct machine *machine, const struct generation_shape *shape) {
    double fixed = fixed_step(machine, shape), decode = 0;
    double prefill = fmax(machine->host, machine->prefill + predict_prefill_work(machine, shape));
    const int most_samples = 4096; // of evenly spaced steps, each for its share: a record may claim billions
    int steps = shape->gen_len - 1, samples = steps < most_samples ? steps : most_samples;
    for (int i = 0; i < samples; i++) {
        int step = 1 + (int)((2 * (int64_t)i + 1) * steps / (2 * (int64_t)samples));
        decode += fmax(machine->host, fixed + predict_step_work(machine, shape, step)) * steps / samples;
    }
    return (struct prediction){.prefill_ms = prefill * 1e3,
                               .ms_per_step = steps > 0 ? decode * 1e3 / steps : 0,
                               .tok_s = shape->batch * (double)shape->gen_len / (prefill + decode)};
}

struct machine machine_of_ceilings(const struct ceilings *ceilings, const struct gpt2_config *config,
                                   double cache_bytes) {
    const struct generation_shape any = {.config = config, .batch = 1, .prompt_len = 1, .gen_len = 2};
    double fixed = roofline_step(&any, 1).launches * ceilings->launch;
    return (struct machine){.bandwidth = ceilings->bandwidth,
                            .rate = ceilings->matmul_rate,
                            .cached_step = fixed,
                            .uncached_step = fixed,
                            .prefill = fixed,
                            .cache_bytes = cache_bytes};
}

const char *predict_limit(const struct machine *machine, const struct generation_shape *shape) {
    const struct cost mean = roofline_mean_step(shape);
    double fixed = fixed_step(machine, shape);
    const struct ceilings ceilings = {
        .bandwidth = machine->bandwidth, .matmul_rate = machine->rate, .launch = fixed / mean.launches};
    double device = fixed + predict_step_work(machine, shape, shape->gen_len / 2);
    return machine->host > device ? "host" : limit_name(roofline_floor(&mean, &ceilings).limit);
}

double predict_memory_bytes(const struct generation_shape *shape) {
    const struct gpt2_config *config = shape->config;
    const double most_at_once = 4096; // tokens
    double C = config->channels, F = config->inner, element = (double)dtype_size(shape->dtype);
    double longest = shape->prompt_len + (double)shape->gen_len;
    double tokens = fmin(shape->batch * longest, most_at_once);
    double scored = shape->logits == LOGITS_ALL ? tokens : fmin(shape->batch, most_at_once);
    return roofline_weight_bytes(config, shape->dtype) + config->context * C * element +
           kv_bytes(shape, longest) + tokens * (5 * C + F) * element + // residual, normed, QKV; hidden
           scored * config->vocab * sizeof(float);
}

const char *predict_notice(void) {
    return "A model, not a measurement (formulas: bench --help-metrics): where checked, off by at most 15 % "
           "in cached steps of GPT-2 124M on an H200 (1 to 256 rows) and 25 % in most rows on a 2-core CPU; "
           "checked nowhere else.";
}
