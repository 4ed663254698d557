// The safetensors container: u64 header length, a JSON header naming tensors, their bytes one after the
// other.
#ifndef MODELS_SAFETENSORS_H
#define MODELS_SAFETENSORS_H

#include "base/dtype.h"
#include "base/mapped_file.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct safetensors {
    struct mapped_file file;
    json_t *header; // tensor name -> entry, every one checked; "__metadata__" is taken out
    const unsigned char *data;
    size_t data_size;
};

// Proves the header: every entry well-formed, and the tensors' bytes fill the rest of the file without gap or
// overlap. Messages name the file. On failure nothing is left open.
CHECKED enum status safetensors_open(const char *path, struct safetensors *file, struct error *error);
void safetensors_close(struct safetensors *file); // a zeroed one is allowed

enum { SAFETENSORS_RANK = 8 }; // the most dimensions

struct safetensors_tensor {
    const char *dtype; // as the header spells it: "BF16"
    int rank;
    int64_t shape[SAFETENSORS_RANK];
    const unsigned char *data; // not necessarily aligned
    size_t size;               // in bytes; agrees with shape for F32, F16 and BF16
};

// False when there is no tensor of that name. Valid while the file is open.
bool safetensors_find(const struct safetensors *file, const char *name, struct safetensors_tensor *tensor);

// The dtype of a header's spelling; false for those that are not F32, F16 or BF16.
bool safetensors_dtype(const char *name, enum dtype *dtype);

#endif
