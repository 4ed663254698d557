#include "models/safetensors.h"

#include "base/dtype.h"
#include "models/json_fields.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const size_t header_limit = 100 * 1000 * 1000; // the format's own

// ---- one entry ----------------------------------------------------------------------------------

static enum status parse_shape(const json_t *entry, struct safetensors_tensor *tensor, struct error *error) {
    const json_t *shape = json_object_get(entry, "shape");
    size_t rank = json_array_size(shape); // 0 for what is no array
    bool valid = json_is_array(shape) && rank <= SAFETENSORS_RANK;
    for (size_t i = 0; valid && i < rank; i++) {
        const json_t *length = json_array_get(shape, i);
        tensor->shape[i] = json_integer_value(length);
        valid = json_is_integer(length) && tensor->shape[i] >= 0;
    }
    tensor->rank = (int)rank;
    if (valid) return STATUS_OK;
    return error_set(error, STATUS_FAILED, "shape: expected up to %d lengths, found %s", SAFETENSORS_RANK,
                     json_show(shape).text);
}

static enum status parse_offsets(const json_t *entry, const struct safetensors *file,
                                 struct safetensors_tensor *tensor, struct error *error) {
    const json_t *offsets = json_object_get(entry, "data_offsets");
    const json_t *first = json_array_get(offsets, 0), *last = json_array_get(offsets, 1);
    json_int_t begin = json_integer_value(first), end = json_integer_value(last);
    if (!json_is_integer(first) || !json_is_integer(last) || json_array_size(offsets) != 2 || begin < 0 ||
        begin > end || (uint64_t)end > file->data_size) {
        return error_set(
            error, STATUS_FAILED,
            "data_offsets: expected a begin and an end within the file's %zu bytes of data, found %s",
            file->data_size, json_show(offsets).text);
    }
    tensor->data = file->data + begin;
    tensor->size = (size_t)(end - begin);
    return STATUS_OK;
}

// Number of elements, or one more than `limit` where it is larger.
static uint64_t element_count(const struct safetensors_tensor *tensor, uint64_t limit) {
    uint64_t count = 1;
    for (int i = 0; i < tensor->rank; i++)
        if (tensor->shape[i] == 0) return 0;
    for (int i = 0; i < tensor->rank; i++) {
        if ((uint64_t)tensor->shape[i] > limit / count) return limit + 1;
        count *= (uint64_t)tensor->shape[i];
    }
    return count;
}

static enum status parse_entry(const json_t *entry, const struct safetensors *file,
                               struct safetensors_tensor *tensor, struct error *error) {
    const json_t *dtype = json_object_get(entry, "dtype");
    if (!json_is_string(dtype))
        return error_set(error, STATUS_FAILED, "dtype: expected a name, found %s", json_show(dtype).text);
    tensor->dtype = json_string_value(dtype);
    TRY(parse_shape(entry, tensor, error));
    TRY(parse_offsets(entry, file, tensor, error));
    // Only the dtypes that are ever read; the others' bytes are merely skipped.
    enum dtype known;
    if (!safetensors_dtype(tensor->dtype, &known)) return STATUS_OK;
    uint64_t size = dtype_size(known), count = element_count(tensor, file->data_size / size);
    if (count * size == tensor->size) return STATUS_OK;
    return error_set(error, STATUS_FAILED, "data_offsets: expected the size of %s %s, found %zu bytes",
                     tensor->dtype, json_show(json_object_get(entry, "shape")).text, tensor->size);
}

bool safetensors_dtype(const char *name, enum dtype *dtype) {
    static const char *const names[] = {[DTYPE_F32] = "F32", [DTYPE_F16] = "F16", [DTYPE_BF16] = "BF16"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(name, names[i]) != 0) continue;
        *dtype = (enum dtype)i;
        return true;
    }
    return false;
}

bool safetensors_find(const struct safetensors *file, const char *name, struct safetensors_tensor *tensor) {
    const json_t *entry = json_object_get(file->header, name);
    struct error ignored; // every entry was accepted when the file was opened
    return entry != NULL && parse_entry(entry, file, tensor, &ignored) == STATUS_OK;
}

// ---- the whole file -----------------------------------------------------------------------------

static int compare_data(const void *left, const void *right) {
    const struct safetensors_tensor *a = left, *b = right;
    if (a->data != b->data) return a->data < b->data ? -1 : 1;
    return (a->size > b->size) - (a->size < b->size);
}

// The tensors, sorted by place, must lie end to end from the header to the end of the file: what lies between
// or behind them would be a sign of a damaged or doubled file.
static enum status check_coverage(const struct safetensors *file, struct safetensors_tensor *tensors,
                                  size_t count, struct error *error) {
    qsort(tensors, count, sizeof *tensors, compare_data);
    size_t covered = 0;
    for (size_t i = 0; i < count; i++) {
        size_t begin = (size_t)(tensors[i].data - file->data);
        if (begin != covered) {
            return error_set(
                error, STATUS_FAILED,
                "data_offsets: expected a tensor to begin at byte %zu of the data, found the next at %zu",
                covered, begin);
        }
        covered += tensors[i].size;
    }
    if (covered == file->data_size) return STATUS_OK;
    return error_set(error, STATUS_FAILED, "expected %zu bytes of data by the header, found %zu", covered,
                     file->data_size);
}

static enum status check_entries(const struct safetensors *file, struct safetensors_tensor *tensors,
                                 struct error *error) {
    size_t count = 0;
    const char *name;
    json_t *entry;
    json_object_foreach(file->header, name, entry) {
        enum status status = parse_entry(entry, file, &tensors[count++], error);
        if (status == STATUS_OK) continue;
        error_prefix(error, "tensor %.200s", name);
        return status;
    }
    return check_coverage(file, tensors, count, error);
}

static enum status parse_header(const char *path, struct safetensors *file, struct error *error) {
    const unsigned char *bytes = file->file.data;
    uint64_t length = 0;
    for (int i = 0; i < 8 && (size_t)i < file->file.size; i++) length |= (uint64_t)bytes[i] << (8 * i);
    if (file->file.size < 8 || length > header_limit || length > file->file.size - 8) {
        return error_set(
            error, STATUS_FAILED,
            "%s: not a safetensors file, or a truncated one: expected 8 bytes with the length of a "
            "header, found length %" PRIu64 " in a file of %zu bytes",
            path, length, file->file.size);
    }
    TRY(json_parse_object(path, bytes + 8, (size_t)length, &file->header, error));
    json_object_del(file->header, "__metadata__");
    file->data = bytes + 8 + length;
    file->data_size = file->file.size - 8 - (size_t)length;
    size_t count = json_object_size(file->header);
    struct safetensors_tensor *tensors = malloc((count + 1) * sizeof *tensors);
    if (tensors == NULL)
        return error_set(error, STATUS_OUT_OF_MEMORY, "%s: no memory for its %zu tensors", path, count);
    enum status status = check_entries(file, tensors, error);
    if (status != STATUS_OK) error_prefix(error, "%s", path);
    free(tensors);
    return status;
}

enum status safetensors_open(const char *path, struct safetensors *file, struct error *error) {
    *file = (struct safetensors){0};
    TRY(mapped_file_open(path, &file->file, error));
    enum status status = parse_header(path, file, error);
    if (status != STATUS_OK) safetensors_close(file);
    return status;
}

void safetensors_close(struct safetensors *file) {
    json_decref(file->header);
    mapped_file_close(&file->file);
    *file = (struct safetensors){0};
}
