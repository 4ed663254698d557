// The machine as this process may use it.
#ifndef CPU_HOST_H
#define CPU_HOST_H

#include <stddef.h>
#include <stdint.h>

// Processors in this process's affinity mask, or OMP_NUM_THREADS when that is set.
int host_threads(void);

// Bytes of memory, all of it and what is available without swapping: the machine's, or less when a control
// group limits this process, and less a small reserve. 0 where the system does not say.
struct host_memory {
    int64_t total, available;
};
struct host_memory host_memory(void);

int64_t host_cache_bytes(void); // last-level cache; 0 where the system does not say
void host_cpu_name(char *name, size_t size);

#endif
