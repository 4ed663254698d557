#include "measure/ceilings.h"

#include <string.h>

// Several times the cache, so that the start and the end of the read weigh little.
static int64_t read_probe_bytes(const struct device_info *device) {
    const int64_t least = INT64_C(256) << 20, most = INT64_C(1) << 30;
    int64_t bytes = 8 * device->cache_bytes;
    return bytes < least ? least : bytes > most ? most : bytes;
}

// A device needs a large product to show its rate; a slow one need not show it on the largest.
static enum status measure_matmul_rate(struct backend *backend, double *rate, struct error *error) {
    const int smallest = 1024, largest = 8192;
    const double quick = 0.25; // seconds
    *rate = 0;
    double seconds = 0;
    for (int n = smallest; n <= largest && 8 * seconds <= quick; n *= 2) {
        const struct probe probe = {.kind = PROBE_PEAK_MATMUL, .m = n, .n = n, .k = n};
        TRY(backend_probe(backend, &probe, &seconds, error));
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
    TRY(backend_probe(backend, &read, &seconds, error));
    double bandwidth = (double)read.bytes / seconds;
    TRY(backend_probe(backend, &launch, &seconds, error));
    double rate;
    TRY(measure_matmul_rate(backend, &rate, error));
    *ceilings = (struct ceilings){.bandwidth = bandwidth, .matmul_rate = rate, .launch = seconds};
    return STATUS_OK;
}
