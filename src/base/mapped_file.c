#include "base/mapped_file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static enum status map_descriptor(int descriptor, const char *path, struct mapped_file *file,
                                  struct error *error) {
    struct stat info;
    if (fstat(descriptor, &info) != 0)
        return error_set(error, STATUS_FAILED, "%s: %s", path, strerror(errno));
    if (S_ISDIR(info.st_mode))
        return error_set(error, STATUS_FAILED, "%s: expected a file, found a directory", path);
    if (!S_ISREG(info.st_mode))
        return error_set(error, STATUS_FAILED, "%s: expected a regular file, found a pipe or device", path);
    if (info.st_size <= 0) return error_set(error, STATUS_FAILED, "%s: the file is empty", path);
    size_t size = (size_t)info.st_size;
    void *data = mmap(NULL, size, PROT_READ, MAP_PRIVATE, descriptor, 0);
    if (data == MAP_FAILED)
        return error_set(error, STATUS_FAILED, "%s: cannot map %zu bytes: %s", path, size, strerror(errno));
    *file = (struct mapped_file){.data = data, .size = size};
    return STATUS_OK;
}

enum status mapped_file_open(const char *path, struct mapped_file *file, struct error *error) {
    *file = (struct mapped_file){0};
    // Non-blocking, or opening a FIFO would wait for a writer; it changes nothing for regular files.
    int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (descriptor < 0) return error_set(error, STATUS_FAILED, "%s: %s", path, strerror(errno));
    enum status status = map_descriptor(descriptor, path, file, error);
    close(descriptor); // the mapping stays
    return status;
}

void mapped_file_close(struct mapped_file *file) {
    if (file->data != NULL) munmap((void *)file->data, file->size);
    *file = (struct mapped_file){0};
}
