// A directory for one test's files, gone when the test is.
#ifndef TESTS_SUPPORT_SCRATCH_DIR_H
#define TESTS_SUPPORT_SCRATCH_DIR_H

#include <stddef.h>

struct scratch_dir {
    char path[256];
};

// These fail the running test when the system refuses.
void scratch_dir_make(struct scratch_dir *dir);
void scratch_dir_write(const struct scratch_dir *dir, const char *name, const void *data, size_t size);
void scratch_dir_delete(const struct scratch_dir *dir, const char *name); // a file that is not there is fine
void scratch_dir_remove(struct scratch_dir *dir);                         // with the files in it

// A whole file; the caller frees. A NUL follows the last byte. `size` may be NULL.
char *read_whole_file(const char *path, size_t *size);

#endif
