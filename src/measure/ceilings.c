#include "measure/ceilings.h"

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

static bool read_ceilings(const json_t *stored, void *value, struct error *note) {
    struct ceilings *ceilings = value;
    ceilings->bandwidth = json_number_value(json_object_get(stored, "read_bytes_per_s"));
    ceilings->matmul_rate = json_number_value(json_object_get(stored, "matmul_flop_per_s"));
    ceilings->launch = json_number_value(json_object_get(stored, "launch_s"));
    const bool good = ceilings->bandwidth > 0 && ceilings->matmul_rate > 0 && ceilings->launch >= 0 &&
                      isfinite(ceilings->bandwidth) && isfinite(ceilings->matmul_rate) &&
                      isfinite(ceilings->launch);
    if (!good) snprintf(note->message, sizeof note->message, "the cached ceilings make no sense");
    return good;
}

static json_t *write_ceilings(const void *value) {
    const struct ceilings *ceilings = value;
    return json_pack("{s:f, s:f, s:f}", "read_bytes_per_s", ceilings->bandwidth, "matmul_flop_per_s",
                     ceilings->matmul_rate, "launch_s", ceilings->launch);
}

static enum status make_ceilings(struct backend *backend, const void *context, void *value,
                                 struct error *error) {
    (void)context;
    return ceilings_measure(backend, value, error);
}

enum status ceilings_get(struct backend *backend, bool refresh, struct ceilings *ceilings, struct error *note,
                         struct error *error) {
    static const struct cache_finding finding = {"ceilings", read_ceilings, write_ceilings, make_ceilings};
    json_t *key;
    note->message[0] = '\0'; // read also where this fails
    TRY(cache_backend_key(backend, &key, error));
    enum status status = cache_find(&finding, key, backend, NULL, refresh, ceilings, note, error);
    json_decref(key);
    return status;
}
