// Devices one may not have, as their vendor describes them. The only place with such figures.
#ifndef MEASURE_DEVICE_SPECS_H
#define MEASURE_DEVICE_SPECS_H

#include "measure/predict.h"

struct device_spec {
    const char *name;  // as the command line takes it
    const char *title; // with the variant that the figures are of
    double bandwidth;  // bytes / s
    double f16_rate;   // flop / s of dense f16 products summed in f32
    double f32_rate;   // flop / s outside the tensor cores
    double memory_bytes, cache_bytes;
    unsigned dtypes;          // bit (1u << enum dtype)
    enum dtype fastest_dtype; // what --dtype auto means
    bool hopper;              // sm_90: our own decode kernels run, in 16-bit dtypes
};

extern const struct device_spec device_specs[];
extern const size_t device_spec_count;

const struct device_spec *device_spec_find(const char *name, size_t length); // NULL: not known

// Vendors' figures are promises. This engine is taken to reach of them what it reached on an H200, and
// `efficiency` (a fraction of the vendor's rate; 0: this engine's) of the rate.
struct machine device_spec_machine(const struct device_spec *spec, const struct gpt2_config *config,
                                   enum dtype dtype, double efficiency);

#endif
