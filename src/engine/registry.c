// Chooses a device by name. The only place that knows whether this build has a GPU backend.
#include "engine/backend.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const struct backend_ops *const backends[] = {
// in the order `auto` prefers them
#ifdef GPT2INFER_CUDA
    &cuda_backend_ops,
#endif
    &cpu_backend_ops,
};
static const size_t backend_count = sizeof backends / sizeof backends[0];

int device_list(struct device *devices, int room) {
    int found = 0;
    for (size_t i = 0; i < backend_count; i++) {
        int count = backends[i]->device_count();
        for (int index = 0; index < count && found < room; index++)
            devices[found++] = (struct device){.ops = backends[i], .index = index};
    }
    return found;
}

// Splits "cuda:1" into a backend name's length and an index; false when what follows the colon is no number.
static bool split_device_name(const char *name, size_t *length, int *index) {
    *length = strcspn(name, ":");
    *index = 0;
    if (name[*length] == '\0') return true;
    const char *digits = name + *length + 1;
    char *end;
    errno = 0;
    long value = strtol(digits, &end, 10);
    if (*digits < '0' || *digits > '9' || *end != '\0' || errno || value > 4095) return false;
    *index = (int)value;
    return true;
}

enum status device_find(const char *name, struct device *device, struct error *error) {
    if (strcmp(name, "auto") == 0) {
        for (size_t i = 0; i < backend_count; i++) {
            if (backends[i]->device_count() > 0) {
                *device = (struct device){.ops = backends[i], .index = 0};
                return STATUS_OK;
            }
        }
    }
    size_t length;
    int index;
    if (!split_device_name(name, &length, &index))
        return error_set(error, STATUS_USAGE, "--device %s: expected auto, cpu, cuda or cuda:N", name);
    for (size_t i = 0; i < backend_count; i++) {
        if (strlen(backends[i]->name) != length || strncmp(backends[i]->name, name, length) != 0) continue;
        int count = backends[i]->device_count();
        if (index >= count) {
            return error_set(error, STATUS_FAILED, "--device %s: found %d usable %s device%s", name, count,
                             backends[i]->name, count == 1 ? "" : "s");
        }
        *device = (struct device){.ops = backends[i], .index = index};
        return STATUS_OK;
    }
    if (length == 4 && strncmp(name, "cuda", 4) == 0)
        return error_set(error, STATUS_FAILED,
                         "--device %s: this build has no CUDA backend (no nvcc was found)", name);
    return error_set(error, STATUS_USAGE, "--device %s: expected auto, cpu, cuda or cuda:N", name);
}
