// What a GPU's sensors say while a row is measured: clocks, power, temperature, and who else is there.
//
// A thread reads them every 0.1 s, only between telemetry_start and telemetry_stop. A stretch too short for
// that is read once, by telemetry_stop, so that its timed span is not disturbed at all. Where there is no
// NVML, or it does not know a value, that is missing and nothing fails.
#ifndef MEASURE_TELEMETRY_H
#define MEASURE_TELEMETRY_H

#include "engine/backend.h"
#include "measure/nvml.h"

#include <stdbool.h>

// NAN, or 0 for limits and processes: not known.
struct sensor_reading {
    double sm_mhz, memory_mhz; // clocks
    double power_w;
    double temperature_c;
    double resident_percent;   // of the last 1/6 .. 1 s with any kernel on the device: not an efficiency
    unsigned long long limits; // enum nvml_clock_limit
    unsigned processes;        // with a compute context, ourselves among them
};

// All readings of a row.
struct row_sensors {
    int readings; // 0: none, and nothing below is known
    double sm_mhz, memory_mhz, power_w, temperature_c, resident_percent; // medians, NAN: not known
    char clock_limits[128]; // names of all that held the clocks back at any reading, joined by ", "
    // By heat or by a fault of the power supply. The power cap, idleness and clocks that somebody chose are
    // the device as its owner runs it: they are told in clock_limits and mark nothing.
    bool throttled;
    int other_processes; // most at any reading. One process is us, whatever its number in our namespace.
};

struct telemetry;

// NULL, which the functions below accept, when the device has no sensors to read.
struct telemetry *telemetry_open(const struct device_info *device);
// The same over a library that is there already and stays the caller's.
struct telemetry *telemetry_open_nvml(const struct nvml *nvml, const char *pci_bus_id);
void telemetry_close(struct telemetry *telemetry);

void telemetry_start(struct telemetry *telemetry);
// Appends what was read since start to *readings, an stb_ds array; at least one reading.
void telemetry_stop(struct telemetry *telemetry, struct sensor_reading **readings);

struct row_sensors telemetry_summarize(const struct sensor_reading *readings, int count);

#endif
