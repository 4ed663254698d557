// What a device really does, and how much of that the engine gets: `info --measure`.
#ifndef MEASURE_MEASURE_DEVICE_H
#define MEASURE_MEASURE_DEVICE_H

#include "measure/roofline.h"

#include <jansson.h>
#include <stdio.h>

enum { MEASURED_SHAPES = 5, MEASURED_ROWS = 8 };

// One of the model's products, (m, k) x (n, k)^T, by the path the engine uses for that m, with cold weights.
struct measured_shape {
    const char *name; // "qkv", "attproj", "fc", "fcproj", "lm head"
    int n, k;
    double seconds[MEASURED_ROWS]; // at device_measurement.rows[i]
    // Of min(bandwidth bound, rate bound): the least time 2 m n k flop at the device's rate or the bytes of
    // the weights and of both activations at its bandwidth allow, divided by the measured time.
    double share[MEASURED_ROWS];
};

struct device_measurement {
    struct device_info device;
    enum dtype dtype;
    struct ceilings ceilings;
    int rows[MEASURED_ROWS]; // m: 1 2 4 8 16 32 64 1024
    struct measured_shape shapes[MEASURED_SHAPES];
    // A real session's cached decode of one row.
    int decode_steps;
    double decode_ms_per_step;
    double decode_share; // bytes of all weights per step / time / bandwidth
};

struct device_measurement_options {
    const volatile sig_atomic_t *interrupt;                // may be NULL
    void (*progress)(void *context, int done, int probes); // may be NULL
    void *progress_context;
};

// Takes some tens of seconds on a CPU. The shapes are of the backend's own model.
CHECKED enum status measure_device(struct backend *backend, const struct device_measurement_options *options,
                                   struct device_measurement *measurement, struct error *error);

void device_measurement_write(const struct device_measurement *measurement, FILE *file);
// {"ceilings", "decode", "products": [{"name", "n", "k", "m", "seconds", "share"}]}; the caller owns the
// reference; NULL when memory runs out.
json_t *device_measurement_json(const struct device_measurement *measurement);

#endif
