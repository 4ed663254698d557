// A whole regular file as read-only memory.
#ifndef BASE_MAPPED_FILE_H
#define BASE_MAPPED_FILE_H

#include "base/status.h"

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

struct mapped_file {
    const unsigned char *data; // (size) page-aligned; no zero follows the last byte
    size_t size;               // at least 1 while open
};

// Refuses a missing, unreadable or empty file and anything that is not a regular file (a FIFO is not waited
// for). Nobody may truncate the file while it is mapped. On failure *file is {NULL, 0}; an error names the
// path.
CHECKED enum status mapped_file_open(const char *path, struct mapped_file *file, struct error *error);
void mapped_file_close(struct mapped_file *file); // a closed or zeroed file is allowed

#ifdef __cplusplus
}
#endif
#endif
