#include "cpu/host.h"

#include <inttypes.h>
#include <omp.h>
#include <stdio.h>
#include <string.h>

int host_threads(void) {
    return omp_get_max_threads();
}

// The first line of a small file without its newline; empty when there is none.
static void read_line(const char *path, char *line, size_t size) {
    line[0] = '\0';
    FILE *file = fopen(path, "r");
    if (!file) return;
    if (!fgets(line, (int)size, file)) line[0] = '\0';
    fclose(file);
    line[strcspn(line, "\n")] = '\0';
}

// What follows "key<blanks>:<blanks>" on the first line of `path` that starts with `key`.
static void read_field(const char *path, const char *key, char *value, size_t size) {
    value[0] = '\0';
    FILE *file = fopen(path, "r");
    if (!file) return;
    char line[512];
    while (fgets(line, sizeof line, file)) {
        const char *colon = strchr(line, ':');
        if (strncmp(line, key, strlen(key)) != 0 || !colon) continue;
        snprintf(value, size, "%s", colon + 1 + strspn(colon + 1, " \t"));
        value[strcspn(value, "\n")] = '\0';
        break;
    }
    fclose(file);
}

static int64_t meminfo_bytes(const char *key) {
    char value[64];
    int64_t kib;
    read_field("/proc/meminfo", key, value, sizeof value);
    return sscanf(value, "%" SCNd64 " kB", &kib) == 1 ? kib * 1024 : 0;
}

// A number in a control group's file; -1 for "max" or no file.
static int64_t group_bytes(const char *group, const char *file) {
    char path[1200], line[64];
    int64_t bytes;
    snprintf(path, sizeof path, "/sys/fs/cgroup%s/%s", group, file);
    read_line(path, line, sizeof line);
    return sscanf(line, "%" SCNd64, &bytes) == 1 ? bytes : -1;
}

struct host_memory host_memory(void) {
    struct host_memory memory = {meminfo_bytes("MemTotal"), meminfo_bytes("MemAvailable")};
    // Version 2 of control groups: "0::/path"; every ancestor's limit holds too.
    char line[1100];
    read_field("/proc/self/cgroup", "0:", line, sizeof line);
    char *group = line[0] == ':' ? line + 1 : line;
    for (;;) {
        int64_t limit = group_bytes(group, "memory.max"), used = group_bytes(group, "memory.current");
        if (limit >= 0 && limit < memory.total) memory.total = limit;
        if (limit >= 0 && used >= 0 && limit - used < memory.available)
            memory.available = limit > used ? limit - used : 0;
        char *slash = strrchr(group, '/');
        if (!slash) break;
        *slash = '\0';
    }
    // A part stays for page tables, buffers and the other programs: a machine filled to the brim ends
    // programs.
    memory.available -= memory.available / 32;
    return memory;
}

int64_t host_cache_bytes(void) {
    int64_t largest = 0;
    for (int index = 0; index < 8; index++) {
        char path[96], line[64];
        int64_t kib;
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/size", index);
        read_line(path, line, sizeof line);
        if (sscanf(line, "%" SCNd64 "K", &kib) == 1 && kib * 1024 > largest) largest = kib * 1024;
    }
    return largest;
}

void host_cpu_name(char *name, size_t size) {
    read_field("/proc/cpuinfo", "model name", name, size);
    if (name[0] == '\0') snprintf(name, size, "CPU");
}
