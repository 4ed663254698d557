// What a step must move and compute, by formula, and how long a device with given ceilings needs at least.
#ifndef MEASURE_ROOFLINE_H
#define MEASURE_ROOFLINE_H

// What one device can do at best, as measured by probes.
struct ceilings {
    double bandwidth;   // bytes / s read from memory
    double matmul_rate; // flop / s of a large product in the backend's dtype
    double launch;      // seconds the least step takes
};

#endif
