#include "measure/ceilings.h"

#include "base/version.h"
#include "measure/cache.h"

#include <math.h>
#include <string.h>

// Several times the cache, so that the start and the end of the read weigh little.
static int64_t read_probe_bytes(const struct device_info *device) {
    const int64_t least = INT64_C(256) << 20, most = INT64_C(1) << 30;
    int64_t bytes = 8 * device->cache_bytes;
    return bytes < least ? least : bytes > most ? most : bytes;
}

// The best of three: a ceiling is what the device can do, not what it does beside another program.
static enum status least_seconds(struct backend *backend, const struct probe *probe, double *least,
                                 struct error *error) {
    const int tries = 3;
    *least = INFINITY;
    for (int i = 0; i < tries; i++) {
        double seconds;
        TRY(backend_probe(backend, probe, &seconds, error));
        *least = fmin(*least, seconds);
    }
    return STATUS_OK;
}

// A device needs a large product to show its rate; a slow one need not show it on the largest.
static enum status measure_matmul_rate(struct backend *backend, double *rate, struct error *error) {
    const int smallest = 1024, largest = 8192;
    const double quick = 0.25; // seconds
    *rate = 0;
    double seconds = 0;
    for (int n = smallest; n <= largest && 8 * seconds <= quick; n *= 2) {
        const struct probe probe = {.kind = PROBE_PEAK_MATMUL, .m = n, .n = n, .k = n};
        TRY(least_seconds(backend, &probe, &seconds, error));
        double found = 2.0 * n * n * n / seconds;
        if (found > *rate) *rate = found;
    }
    return STATUS_OK;
}

enum status ceilings_measure(struct backend *backend, struct ceilings *ceilings, struct error *error) {
    memset(ceilings, 0, sizeof *ceilings);
    struct device_info device;
    double seconds;
    TRY(device_describe(backend_device(backend), &device, error));
    const struct probe read = {.kind = PROBE_READ, .bytes = read_probe_bytes(&device)};
    const struct probe launch = {.kind = PROBE_LAUNCH};
    TRY(least_seconds(backend, &read, &seconds, error));
    double bandwidth = (double)read.bytes / seconds;
    TRY(least_seconds(backend, &launch, &seconds, error));
    double rate;
    TRY(measure_matmul_rate(backend, &rate, error));
    *ceilings = (struct ceilings){.bandwidth = bandwidth, .matmul_rate = rate, .launch = seconds};
    return STATUS_OK;
}

static json_t *cache_key(const struct device_info *device, const struct backend *backend) {
    return json_pack("{s:s, s:s, s:s, s:i, s:i, s:s, s:s}", "backend", device->backend, "name", device->name,
                     "detail", device->detail, "compute_units", device->compute_units, "threads",
                     backend->options.threads, "dtype", dtype_name(backend_dtype(backend)), "version",
                     GPT2INFER_VERSION);
}

static bool from_json(const json_t *json, struct ceilings *ceilings) {
    ceilings->bandwidth = json_number_value(json_object_get(json, "read_bytes_per_s"));
    ceilings->matmul_rate = json_number_value(json_object_get(json, "matmul_flop_per_s"));
    ceilings->launch = json_number_value(json_object_get(json, "launch_s"));
    return ceilings->bandwidth > 0 && ceilings->matmul_rate > 0 && ceilings->launch >= 0 &&
           isfinite(ceilings->bandwidth) && isfinite(ceilings->matmul_rate) && isfinite(ceilings->launch);
}

static bool read_cached(json_t *key, struct ceilings *ceilings, struct error *note) {
    json_t *value;
    if (cache_read("ceilings", key, &value, note) != STATUS_OK || !value) return false;
    bool good = from_json(value, ceilings);
    json_decref(value);
    if (!good) snprintf(note->message, sizeof note->message, "the cached ceilings make no sense");
    return good;
}

// A note of the reading stays: it says why there was something to write.
static void write_cached(json_t *key, const struct ceilings *ceilings, struct error *note) {
    struct error error;
    json_t *value = json_pack("{s:f, s:f, s:f}", "read_bytes_per_s", ceilings->bandwidth, "matmul_flop_per_s",
                              ceilings->matmul_rate, "launch_s", ceilings->launch);
    if (value && cache_write("ceilings", key, value, &error) != STATUS_OK && !note->message[0]) *note = error;
    json_decref(value);
}

enum status ceilings_get(struct backend *backend, bool refresh, struct ceilings *ceilings, struct error *note,
                         struct error *error) {
    struct device_info device;
    note->message[0] = '\0';
    TRY(device_describe(backend_device(backend), &device, error));
    json_t *key = cache_key(&device, backend);
    if (!key) return error_set(error, STATUS_OUT_OF_MEMORY, "no host memory for a cache key");
    enum status status = STATUS_OK;
    if (refresh || !read_cached(key, ceilings, note)) {
        status = ceilings_measure(backend, ceilings, error);
        if (status == STATUS_OK) write_cached(key, ceilings, note);
    }
    json_decref(key);
    return status;
}
