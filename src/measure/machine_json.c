#include "measure/machine_json.h"

#include "measure/report_values.h"

#include <math.h>
#include <stddef.h>

static const struct {
    const char *name;
    size_t offset; // of a double
} fields[] = {
    {"read_bytes_per_s", offsetof(struct machine, bandwidth)},
    {"matmul_flop_per_s", offsetof(struct machine, rate)},
    {"cached_step_s", offsetof(struct machine, cached_step)},
    {"uncached_step_s", offsetof(struct machine, uncached_step)},
    {"prefill_s", offsetof(struct machine, prefill)},
    {"persistent_step_s", offsetof(struct machine, persistent_step)},
    {"persistent_last_step_s", offsetof(struct machine, persistent_last_step)},
    {"persistent_rows", offsetof(struct machine, persistent_rows)},
    {"fused_step_s", offsetof(struct machine, fused_step)},
    {"fused_last_step_s", offsetof(struct machine, fused_last_step)},
    {"fused_rows", offsetof(struct machine, fused_rows)},
    {"host_s", offsetof(struct machine, host)},
    {"cache_bytes", offsetof(struct machine, cache_bytes)},
};
enum { FIELDS = sizeof fields / sizeof fields[0] };

json_t *machine_json(const struct machine *machine) {
    json_t *json = json_object();
    for (size_t i = 0; i < FIELDS; i++) {
        double value = *(const double *)((const char *)machine + fields[i].offset);
        if (json_object_set_new(json, fields[i].name, report_known(value, machine->rate > 0)) == 0) continue;
        json_decref(json);
        return NULL;
    }
    return json;
}

enum status machine_read(const json_t *json, struct machine *machine, struct error *error) {
    const struct machine unknown = {0};
    struct machine found = {0};
    int nulls = 0;
    for (size_t i = 0; i < FIELDS; i++) {
        const json_t *field = json_object_get(json, fields[i].name);
        double value = json_number_value(field);
        bool null = json_is_null(field);
        if (!null && !(json_is_number(field) && value >= 0 && isfinite(value)))
            return error_set(error, STATUS_FAILED, "machine.%s: expected a number from 0", fields[i].name);
        *(double *)((char *)&found + fields[i].offset) = value;
        nulls += null;
    }
    *machine = nulls == FIELDS ? unknown : found;
    if (nulls == FIELDS || (nulls == 0 && found.rate > 0 && found.bandwidth > 0)) return STATUS_OK;
    return error_set(error, STATUS_FAILED, "machine: expected rates above 0, or all fields null");
}
