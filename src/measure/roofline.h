// What a step must move and compute, by formula, and how long a device with given ceilings needs at least.
// roofline_help() writes the formulas out; the tests count them by hand for one small model.
#ifndef MEASURE_ROOFLINE_H
#define MEASURE_ROOFLINE_H

#include "base/dtype.h"
#include "engine/backend.h"

#include <stdbool.h>

// What one device can do at best, as measured by probes. All zero: not known.
struct ceilings {
    double bandwidth;   // bytes / s read from memory
    double matmul_rate; // flop / s of a large product in the backend's dtype
    double launch;      // seconds the least operation of a step takes: one kernel, one parallel region
};

// What is generated: every row has prompt_len tokens and gets gen_len more.
struct generation_shape {
    const struct gpt2_config *config;
    enum dtype dtype; // of the weights and of the cache
    enum logits_mode logits;
    bool kv_cache;
    int batch, prompt_len, gen_len;
};

struct cost {
    double bytes; // moved between memory and the chip
    double flop;  // of matrix products and attention; a multiply-add counts 2
    // Operations one after the other: 7 per layer (LayerNorm, QKV, attention, projection, LayerNorm and the
    // two of the MLP), and embedding, last LayerNorm, LM head, choice of the token.
    double launches;
};

// One token's keys and values in all layers: 2 L C sizeof(dtype).
double roofline_kv_token_bytes(const struct gpt2_config *config, enum dtype dtype);
double roofline_weight_bytes(const struct gpt2_config *config, enum dtype dtype); // read by one step

// The prefill of all prompts.
struct cost roofline_prefill(const struct generation_shape *shape);
// The decode step that generates token number `step`, 1 .. gen_len - 1 (token 0 comes from the prefill).
struct cost roofline_step(const struct generation_shape *shape, int step);
// Its mean over all steps; zero when gen_len is 1.
struct cost roofline_mean_step(const struct generation_shape *shape);

// Token-steps per row by counting alone, as textbooks explain the cache: without it step i feeds the whole
// prefix, sum of P + i over i = 0 .. G - 1; with it every token is fed once, P + G.
struct token_steps {
    double uncached, cached;
    double ratio; // the speed-up that counting promises
};
struct token_steps roofline_token_steps(int prompt_len, int gen_len);

// What binds a piece of work on a device: the largest of bytes / bandwidth, flop / matmul_rate and
// launches x launch.
enum limit { LIMIT_MEMORY, LIMIT_COMPUTE, LIMIT_LAUNCH };
const char *limit_name(enum limit limit); // "memory", "compute", "launch"
struct floor_time {
    double seconds; // the least it can take
    enum limit limit;
};
struct floor_time roofline_floor(const struct cost *cost, const struct ceilings *ceilings);

// The formulas of every figure that reports show, as text of several lines.
const char *roofline_help(void);

#endif
