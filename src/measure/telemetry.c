#include "measure/telemetry.h"

#include "measure/stats.h"

#include <math.h>
#include <pthread.h>
#include <stb/stb_ds.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { interval_ns = 100 * 1000 * 1000 };

struct telemetry {
    struct nvml nvml;
    bool owns_library;
    void *device;
    pthread_t thread;
    pthread_mutex_t mutex;           // guards what follows
    pthread_cond_t changed;          // waits by CLOCK_MONOTONIC
    bool watching, closing;          //
    struct sensor_reading *readings; // since start, stb_ds array
};

// ---- one reading

static double clock_mhz(const struct telemetry *telemetry, int type) {
    unsigned mhz;
    const struct nvml *nvml = &telemetry->nvml;
    bool known = nvml->clock && nvml->clock(telemetry->device, type, &mhz) == NVML_SUCCESS;
    return known ? mhz : (double)NAN;
}

static unsigned count_processes(const struct telemetry *telemetry) {
    unsigned count = 0;
    const struct nvml *nvml = &telemetry->nvml;
    if (!nvml->compute_processes) return 0;
    int result = nvml->compute_processes(telemetry->device, &count, NULL);
    return result == NVML_SUCCESS || result == NVML_ERROR_INSUFFICIENT_SIZE ? count : 0;
}

static struct sensor_reading read_sensors(const struct telemetry *telemetry) {
    const struct nvml *nvml = &telemetry->nvml;
    void *device = telemetry->device;
    unsigned value;
    unsigned long long limits;
    struct nvml_utilization utilization;
    struct sensor_reading reading = {.sm_mhz = clock_mhz(telemetry, NVML_CLOCK_SM),
                                     .memory_mhz = clock_mhz(telemetry, NVML_CLOCK_MEM),
                                     .power_w = (double)NAN,
                                     .temperature_c = (double)NAN,
                                     .resident_percent = (double)NAN};
    if (nvml->power && nvml->power(device, &value) == NVML_SUCCESS) reading.power_w = value / 1e3;
    if (nvml->temperature && nvml->temperature(device, NVML_TEMPERATURE_GPU, &value) == NVML_SUCCESS)
        reading.temperature_c = value;
    if (nvml->utilization && nvml->utilization(device, &utilization) == NVML_SUCCESS)
        reading.resident_percent = utilization.gpu;
    if (nvml->clock_limits && nvml->clock_limits(device, &limits) == NVML_SUCCESS) reading.limits = limits;
    reading.processes = count_processes(telemetry);
    return reading;
}

// ---- the thread

static struct timespec next_reading(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    time.tv_nsec += interval_ns;
    if (time.tv_nsec >= 1000 * 1000 * 1000) {
        time.tv_nsec -= 1000 * 1000 * 1000;
        time.tv_sec++;
    }
    return time;
}

// True when the time passed undisturbed, false when start, stop or close came in between.
static bool wait_one_interval(struct telemetry *telemetry) {
    const struct timespec until = next_reading();
    return pthread_cond_timedwait(&telemetry->changed, &telemetry->mutex, &until) != 0;
}

static void *watch(void *argument) {
    struct telemetry *telemetry = argument;
    pthread_mutex_lock(&telemetry->mutex);
    while (!telemetry->closing) {
        if (!telemetry->watching)
            pthread_cond_wait(&telemetry->changed, &telemetry->mutex);
        else if (wait_one_interval(telemetry) && telemetry->watching) // stop may have come with the time
            arrput(telemetry->readings, read_sensors(telemetry));
    }
    pthread_mutex_unlock(&telemetry->mutex);
    return NULL;
}

static bool start_thread(struct telemetry *telemetry) {
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&telemetry->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_mutex_init(&telemetry->mutex, NULL);
    if (pthread_create(&telemetry->thread, NULL, watch, telemetry) == 0) return true;
    pthread_mutex_destroy(&telemetry->mutex);
    pthread_cond_destroy(&telemetry->changed);
    return false;
}

// ---- for callers

struct telemetry *telemetry_open_nvml(const struct nvml *nvml, const char *pci_bus_id) {
    struct telemetry *telemetry = calloc(1, sizeof *telemetry);
    if (!telemetry) return NULL;
    telemetry->nvml = *nvml;
    if (nvml->init() == NVML_SUCCESS) {
        if (nvml->device_by_pci_bus_id(pci_bus_id, &telemetry->device) == NVML_SUCCESS &&
            start_thread(telemetry))
            return telemetry;
        nvml->shutdown();
    }
    free(telemetry);
    return NULL;
}

struct telemetry *telemetry_open(const struct device_info *device) {
    struct nvml nvml;
    if (device->pci_bus_id[0] == '\0' || !nvml_load(&nvml)) return NULL;
    struct telemetry *telemetry = telemetry_open_nvml(&nvml, device->pci_bus_id);
    if (telemetry)
        telemetry->owns_library = true;
    else
        nvml_unload(&nvml);
    return telemetry;
}

static void set_watching(struct telemetry *telemetry, bool watching) {
    pthread_mutex_lock(&telemetry->mutex);
    telemetry->watching = watching;
    pthread_cond_signal(&telemetry->changed);
    pthread_mutex_unlock(&telemetry->mutex);
}

void telemetry_close(struct telemetry *telemetry) {
    if (!telemetry) return;
    pthread_mutex_lock(&telemetry->mutex);
    telemetry->closing = true;
    pthread_cond_signal(&telemetry->changed);
    pthread_mutex_unlock(&telemetry->mutex);
    pthread_join(telemetry->thread, NULL);
    pthread_mutex_destroy(&telemetry->mutex);
    pthread_cond_destroy(&telemetry->changed);
    telemetry->nvml.shutdown();
    if (telemetry->owns_library) nvml_unload(&telemetry->nvml);
    arrfree(telemetry->readings);
    free(telemetry);
}

void telemetry_start(struct telemetry *telemetry) {
    if (telemetry) set_watching(telemetry, true);
}

void telemetry_stop(struct telemetry *telemetry, struct sensor_reading **readings) {
    if (!telemetry) return;
    set_watching(telemetry, false); // from here on the thread reads nothing
    if (arrlen(telemetry->readings) == 0) arrput(telemetry->readings, read_sensors(telemetry));
    for (ptrdiff_t i = 0; i < arrlen(telemetry->readings); i++) arrput(*readings, telemetry->readings[i]);
    arrfree(telemetry->readings);
}

// ---- many readings

// The median of the known values of one field, which begins at `offset`.
static double median_of(const struct sensor_reading *readings, int count, size_t offset) {
    double *values = NULL;
    for (int i = 0; i < count; i++) {
        double value;
        memcpy(&value, (const char *)&readings[i] + offset, sizeof value);
        if (isfinite(value)) arrput(values, value);
    }
    int known = (int)arrlen(values);
    double median = known > 0 ? stats_percentile(values, known, 50) : (double)NAN;
    arrfree(values);
    return median;
}

static void name_limits(unsigned long long limits, char *text, size_t size) {
    static const struct {
        enum nvml_clock_limit bit;
        const char *name;
    } names[] = {
        {NVML_LIMIT_HW_SLOWDOWN, "hardware slowdown"}, {NVML_LIMIT_HW_THERMAL, "hardware thermal"},
        {NVML_LIMIT_POWER_BRAKE, "power brake"},       {NVML_LIMIT_SW_THERMAL, "software thermal"},
        {NVML_LIMIT_POWER_CAP, "power cap"},           {NVML_LIMIT_SYNC_BOOST, "sync boost"},
        {NVML_LIMIT_APPLICATION_CLOCKS, "set clocks"}, {NVML_LIMIT_DISPLAY_CLOCKS, "display clocks"},
    };
    text[0] = '\0';
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        size_t length = strlen(text);
        if (limits & names[i].bit)
            snprintf(text + length, size - length, "%s%s", length ? ", " : "", names[i].name);
    }
}

struct row_sensors telemetry_summarize(const struct sensor_reading *readings, int count) {
    static const unsigned long long throttling =
        NVML_LIMIT_HW_SLOWDOWN | NVML_LIMIT_SW_THERMAL | NVML_LIMIT_HW_THERMAL | NVML_LIMIT_POWER_BRAKE;
    struct row_sensors sensors;
    memset(&sensors, 0, sizeof sensors);
    if (count == 0) return sensors;
    unsigned long long limits = 0;
    unsigned processes = 1;
    for (int i = 0; i < count; i++) {
        limits |= readings[i].limits;
        if (readings[i].processes > processes) processes = readings[i].processes;
    }
    sensors.readings = count;
    sensors.sm_mhz = median_of(readings, count, offsetof(struct sensor_reading, sm_mhz));
    sensors.memory_mhz = median_of(readings, count, offsetof(struct sensor_reading, memory_mhz));
    sensors.power_w = median_of(readings, count, offsetof(struct sensor_reading, power_w));
    sensors.temperature_c = median_of(readings, count, offsetof(struct sensor_reading, temperature_c));
    sensors.resident_percent = median_of(readings, count, offsetof(struct sensor_reading, resident_percent));
    name_limits(limits, sensors.clock_limits, sizeof sensors.clock_limits);
    sensors.throttled = limits & throttling;
    sensors.other_processes = (int)(processes - 1);
    return sensors;
}
