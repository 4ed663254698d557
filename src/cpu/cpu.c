// The CPU as a device: what it is, and the table of its operations.
#include "cpu/cpu.h"
#include "cpu/host.h"
#include "cpu/vector.h"

#include <stdio.h>

static int cpu_device_count(void) {
    return 1;
}

static enum status cpu_describe(int index, struct device_info *info, struct error *error) {
    (void)error;
    const struct host_memory memory = host_memory();
    *info = (struct device_info){
        .backend = "cpu",
        .index = index,
        .compute_units = host_threads(),
        .memory_bytes = memory.total,
        .memory_free = memory.available,
        .cache_bytes = host_cache_bytes(),
        .dtypes = 1u << DTYPE_F32 | 1u << DTYPE_BF16,
        .fastest_dtype = DTYPE_BF16, // half the bytes per step
    };
    host_cpu_name(info->name, sizeof info->name);
    snprintf(info->detail, sizeof info->detail, "%s, %d thread%s", VECTOR_NAME, info->compute_units,
             info->compute_units == 1 ? "" : "s");
    return STATUS_OK;
}

const struct backend_ops cpu_backend_ops = {
    .name = "cpu",
    .device_count = cpu_device_count,
    .describe = cpu_describe,
    .open = cpu_open,
    .close = cpu_close,
    .ledger = cpu_ledger,
    .session_open = cpu_session_open,
    .session_close = cpu_session_close,
    .prefill = cpu_prefill,
    .decode = cpu_decode,
    .collect = cpu_collect,
    .retire = cpu_retire,
    .logits = cpu_logits,
    .step_times = cpu_step_times,
    .score = cpu_score,
    .probe = cpu_probe,
};
