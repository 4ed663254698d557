#include "measure/nvml.h"

#include <dlfcn.h>
#include <stddef.h>
#include <string.h>

// The address as a function pointer, which ISO C does not let a cast make.
static void find(void *library, const char *name, void *function) {
    void *address = dlsym(library, name);
    memcpy(function, &address, sizeof address);
}

bool nvml_load(struct nvml *nvml) {
    memset(nvml, 0, sizeof *nvml);
    void *library = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!library) return false;
    nvml->library = library;
    find(library, "nvmlInit_v2", &nvml->init);
    find(library, "nvmlShutdown", &nvml->shutdown);
    find(library, "nvmlDeviceGetHandleByPciBusId_v2", &nvml->device_by_pci_bus_id);
    find(library, "nvmlDeviceGetClockInfo", &nvml->clock);
    find(library, "nvmlDeviceGetPowerUsage", &nvml->power);
    find(library, "nvmlDeviceGetTemperature", &nvml->temperature);
    find(library, "nvmlDeviceGetUtilizationRates", &nvml->utilization);
    find(library, "nvmlDeviceGetCurrentClocksThrottleReasons", &nvml->clock_limits);
    find(library, "nvmlDeviceGetComputeRunningProcesses_v3", &nvml->compute_processes);
    if (nvml->init && nvml->shutdown && nvml->device_by_pci_bus_id) return true;
    nvml_unload(nvml);
    return false;
}

void nvml_unload(struct nvml *nvml) {
    if (nvml->library) dlclose(nvml->library);
    memset(nvml, 0, sizeof *nvml);
}
