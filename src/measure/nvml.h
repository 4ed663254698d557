// The few calls of NVIDIA's management library that telemetry.h needs, found at run time: neither its header
// nor the library has to be there when this is built.
#ifndef MEASURE_NVML_H
#define MEASURE_NVML_H

#include <stdbool.h>

// Names and numbers as in the NVML API reference (docs.nvidia.com/deploy/nvml-api).
enum { NVML_SUCCESS = 0, NVML_ERROR_INSUFFICIENT_SIZE = 7 };
enum { NVML_CLOCK_SM = 1, NVML_CLOCK_MEM = 2 };
enum { NVML_TEMPERATURE_GPU = 0 };
enum nvml_clock_limit { // bits
    NVML_LIMIT_IDLE = 0x1,
    NVML_LIMIT_APPLICATION_CLOCKS = 0x2,
    NVML_LIMIT_POWER_CAP = 0x4,
    NVML_LIMIT_HW_SLOWDOWN = 0x8,
    NVML_LIMIT_SYNC_BOOST = 0x10,
    NVML_LIMIT_SW_THERMAL = 0x20,
    NVML_LIMIT_HW_THERMAL = 0x40,
    NVML_LIMIT_POWER_BRAKE = 0x80,
    NVML_LIMIT_DISPLAY_CLOCKS = 0x100,
};

struct nvml_utilization {
    unsigned gpu;    // percent of the last 1/6 .. 1 s during which any kernel was resident
    unsigned memory; // likewise any read or write of device memory
};

struct nvml_process; // only counted

// A function that the library lacks is NULL, except for the first three. `device` is NVML's handle.
struct nvml {
    void *library;
    int (*init)(void);
    int (*shutdown)(void);
    int (*device_by_pci_bus_id)(const char *pci_bus_id, void **device);
    int (*clock)(void *device, int type, unsigned *mhz);
    int (*power)(void *device, unsigned *milliwatts);
    int (*temperature)(void *device, int sensor, unsigned *celsius);
    int (*utilization)(void *device, struct nvml_utilization *utilization);
    int (*clock_limits)(void *device, unsigned long long *limits);
    // With *count 0 and no room: NVML_ERROR_INSUFFICIENT_SIZE and the number in *count.
    int (*compute_processes)(void *device, unsigned *count, struct nvml_process *processes);
};

// False when this machine has no such library; nothing is held then.
bool nvml_load(struct nvml *nvml);
void nvml_unload(struct nvml *nvml);

#endif
