// How long a generation should take on a machine that was not asked: a model of time, made of the formulas of
// roofline.h and a few figures of the machine. It is a model, not a measurement; predict_notice() says how
// far it is off where it was checked.
//
//   products = (memory^e + compute^e)^(1 / e)    memory  = (bytes but for the cache's) / bandwidth
//                                                compute = flop / rate
//   step     = max(host, fixed + products + (cache's bytes) / bandwidth)
//
// summed over all steps, whose contexts grow. e = 1 would mean that a product first reads and then computes,
// e = infinity (the roofline) that it does both at once; the engine's lie between. Keys and values are read
// by operations of their own, between the products: that time is added.
#ifndef MEASURE_PREDICT_H
#define MEASURE_PREDICT_H

#include "measure/roofline.h"

// What the model of time knows of a device with the engine on it. All zero: not known.
struct machine {
    double bandwidth; // bytes / s read from memory
    double rate;      // flop / s of the engine's own products when they are large
    // Seconds that a pass takes however few its rows: its operations' starts and ends, and waiting.
    double cached_step, uncached_step, prefill;
    // Of cached steps of up to persistent_rows rows (0: none), which the persistent kernel decodes instead:
    // of one row and of so many, between them by a straight line.
    double persistent_step, persistent_last_step;
    double persistent_rows;
    // Likewise of those beyond, of up to fused_rows rows, which fused kernels decode. Their line, too, begins
    // at one row.
    double fused_step, fused_last_step;
    double fused_rows;
    double host;        // seconds the host needs to launch a pass, while the device works; 0: a graph
    double cache_bytes; // last-level cache: activations that fit into half of it cost no memory time
};

struct prediction {
    double prefill_ms;
    double ms_per_step; // mean; 0 when gen_len is 1
    double tok_s;       // B gen_len / (prefill + all steps)
};

// Only by the ceilings: each operation of a pass takes `launch` beside its work, whatever the pass.
struct machine machine_of_ceilings(const struct ceilings *ceilings, const struct gpt2_config *config,
                                   double cache_bytes);

struct prediction predict(const struct machine *machine, const struct generation_shape *shape);

// Seconds of one pass without its fixed time; the calibration (calibrate.h) subtracts it from what it timed.
double predict_prefill_work(const struct machine *machine, const struct generation_shape *shape);
double predict_step_work(const struct machine *machine, const struct generation_shape *shape, int step);

// What the mean step mostly waits for: "launch", "memory", "compute" or "host". `shape` has a gen_len > 1.
const char *predict_limit(const struct machine *machine, const struct generation_shape *shape);

// Device memory that the generation needs, by formula: weights and position embeddings, cache, activations
// and logits of one pass (at most 4096 tokens of it at once).
double predict_memory_bytes(const struct generation_shape *shape);

// One sentence for every output.
const char *predict_notice(void);

#endif
