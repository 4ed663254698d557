#include "measure/roofline.h"

// Weights that are multiplied with every token: QKV, attention projection and the two of the MLP, per layer.
static double matrix_weights(const struct gpt2_config *config) {
    double C = config->channels, F = config->inner;
    return config->layers * (3 * C * C + C * C + 2 * C * F);
}

// Biases and LayerNorms: qkvb attprojb fcb fcprojb, ln1w ln1b ln2w ln2b per layer, lnfw lnfb.
static double vector_weights(const struct gpt2_config *config) {
    double C = config->channels, F = config->inner;
    return config->layers * (3 * C + C + F + C + 4 * C) + 2 * C;
}

static double head_weights(const struct gpt2_config *config) {
    return (double)config->vocab * config->channels;
}

double roofline_kv_token_bytes(const struct gpt2_config *config, enum dtype dtype) {
    return 2.0 * config->layers * config->channels * (double)dtype_size(dtype);
}

double roofline_weight_bytes(const struct gpt2_config *config, enum dtype dtype) {
    return (matrix_weights(config) + vector_weights(config) + head_weights(config)) *
           (double)dtype_size(dtype);
}

// `fed` tokens per row pass through the layers, `pairs` (query, key) pairs per row and layer are attended to,
// `scored` positions per row pass through the LM head.
static struct cost pass_cost(const struct generation_shape *shape, double fed, double pairs, double scored) {
    const struct gpt2_config *config = shape->config;
    double B = shape->batch, C = config->channels, V = config->vocab;
    double element = (double)dtype_size(shape->dtype);
    struct cost cost = {
        .flop = 2 * B * fed * matrix_weights(config) + 4 * B * config->layers * C * pairs +
                2 * B * scored * head_weights(config),
        .bytes = roofline_weight_bytes(config, shape->dtype) + B * fed * 2 * C * element +
                 B * scored * V * 2 * sizeof(float),
        .launches = 7 * config->layers + 4,
    };
    return cost;
}

// Every row feeds its whole prefix of T tokens: token t attends to t keys. Costs are linear in T and T^2, so
// the means of both give the mean cost.
static struct cost prefix_cost(const struct generation_shape *shape, double T, double T_squared) {
    return pass_cost(shape, T, (T_squared + T) / 2, shape->logits == LOGITS_ALL ? T : 1);
}

static double cache_bytes(const struct generation_shape *shape, double tokens) {
    return shape->batch * tokens * roofline_kv_token_bytes(shape->config, shape->dtype);
}

struct cost roofline_prefill(const struct generation_shape *shape) {
    double P = shape->prompt_len;
    struct cost cost = prefix_cost(shape, P, P * P);
    if (shape->kv_cache) cost.bytes += cache_bytes(shape, P); // written
    return cost;
}

// `keys` are attended to, the newest token's among them.
static struct cost step_cost(const struct generation_shape *shape, double keys, double keys_squared) {
    if (!shape->kv_cache) return prefix_cost(shape, keys, keys_squared);
    struct cost cost = pass_cost(shape, 1, keys, 1);
    cost.bytes += cache_bytes(shape, keys); // keys - 1 read, 1 written
    return cost;
}

struct cost roofline_step(const struct generation_shape *shape, int step) {
    double keys = (double)shape->prompt_len + step;
    return step_cost(shape, keys, keys * keys);
}

struct cost roofline_mean_step(const struct generation_shape *shape) {
    double steps = shape->gen_len - 1;
    if (steps < 1) return (struct cost){0, 0, 0};
    // Of the consecutive numbers P + 1 .. P + steps: their mean, and their variance (steps^2 - 1) / 12.
    double keys = shape->prompt_len + (steps + 1) / 2;
    return step_cost(shape, keys, keys * keys + (steps * steps - 1) / 12);
}

const char *limit_name(enum limit limit) {
    static const char *const names[] = {"memory", "compute", "launch"};
    return names[limit];
}

struct floor_time roofline_floor(const struct cost *cost, const struct ceilings *ceilings) {
    struct floor_time floor = {cost->bytes / ceilings->bandwidth, LIMIT_MEMORY};
    double compute = cost->flop / ceilings->matmul_rate;
    if (compute > floor.seconds) floor = (struct floor_time){compute, LIMIT_COMPUTE};
    double launch = cost->launches * ceilings->launch;
    if (launch > floor.seconds) floor = (struct floor_time){launch, LIMIT_LAUNCH};
    return floor;
}

struct token_steps roofline_token_steps(int prompt_len, int gen_len) {
    double P = prompt_len, G = gen_len;
    struct token_steps steps = {.uncached = G * P + G * (G - 1) / 2, .cached = P + G};
    steps.ratio = steps.uncached / steps.cached;
    return steps;
}
