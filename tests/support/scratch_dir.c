#include "tests/support/scratch_dir.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void file_path(const struct scratch_dir *dir, const char *name, char path[512]) {
    snprintf(path, 512, "%s/%s", dir->path, name);
}

void scratch_dir_make(struct scratch_dir *dir) {
    const char *parent = getenv("TMPDIR");
    snprintf(dir->path, sizeof dir->path, "%s/gpt2infer-test-XXXXXX", parent ? parent : "/tmp");
    if (!mkdtemp(dir->path)) fail_msg("%s: cannot be made", dir->path);
}

void scratch_dir_write(const struct scratch_dir *dir, const char *name, const void *data, size_t size) {
    char path[512];
    file_path(dir, name, path);
    FILE *file = fopen(path, "wb");
    if (!file) fail_msg("%s: cannot be written", path);
    size_t written = fwrite(data, 1, size, file);
    if (fclose(file) != 0 || written != size) fail_msg("%s: cannot be written", path);
}

void scratch_dir_delete(const struct scratch_dir *dir, const char *name) {
    char path[512];
    file_path(dir, name, path);
    unlink(path);
}

void scratch_dir_remove(struct scratch_dir *dir) {
    DIR *entries = opendir(dir->path);
    if (!entries) fail_msg("%s: cannot be listed", dir->path);
    for (struct dirent *entry; (entry = readdir(entries));) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            scratch_dir_delete(dir, entry->d_name);
    }
    closedir(entries);
    if (rmdir(dir->path) != 0) fail_msg("%s: cannot be removed", dir->path);
}

char *read_whole_file(const char *path, size_t *size) {
    FILE *file = fopen(path, "rb");
    if (!file) fail_msg("%s: cannot be read", path);
    fseek(file, 0, SEEK_END);
    size_t length = (size_t)ftell(file);
    rewind(file);
    char *data = malloc(length + 1);
    if (!data || fread(data, 1, length, file) != length) fail_msg("%s: cannot be read", path);
    fclose(file);
    data[length] = '\0';
    if (size) *size = length;
    return data;
}
