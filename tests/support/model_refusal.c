#include "tests/support/model_refusal.h"

#include "models/model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

void assert_model_refused(const char *name, const char *where, const char *says) {
    struct error error = {""};
    struct model *model;
    enum status status = model_open(name, &model, &error);
    if (status == STATUS_OK) fail_msg("%s was opened; expected \"%s\"", name, says);
    assert_int_equal(status, STATUS_FAILED);
    assert_null(model);
    const char *place = strstr(error.message, where), *what = strstr(error.message, says);
    if (place != error.message || what == NULL)
        fail_msg("\"%s\"\ndoes not begin with \"%s\" and say \"%s\"", error.message, where, says);
}

void assert_model_opens(const char *name) {
    struct error error;
    struct model *model;
    if (model_open(name, &model, &error) != STATUS_OK) fail_msg("%s", error.message);
    model_close(model);
}

// Text with the replacement made; the caller frees. `text` ends in a NUL.
static char *replaced(const char *text, const char *find, const char *replacement) {
    const char *place = strstr(text, find);
    if (place == NULL) fail_msg("\"%s\" is not in \"%.3000s\"", find, text);
    size_t size = strlen(text) + strlen(replacement) + 1;
    char *result = malloc(size);
    assert_non_null(result);
    snprintf(result, size, "%.*s%s%s", (int)(place - text), text, replacement, place + strlen(find));
    return result;
}

static char *read_file(const struct scratch_dir *dir, const char *file, size_t *size) {
    char path[512];
    snprintf(path, sizeof path, "%s/%s", dir->path, file);
    return read_whole_file(path, size);
}

void replace_in_file(const struct scratch_dir *dir, const char *file, const char *find,
                     const char *replacement) {
    char *text = read_file(dir, file, NULL), *result = replaced(text, find, replacement);
    scratch_dir_write(dir, file, result, strlen(result));
    free(result);
    free(text);
}

void replace_in_header(const struct scratch_dir *dir, const char *file, const char *find,
                       const char *replacement) {
    size_t size;
    uint64_t length;
    char *bytes = read_file(dir, file, &size);
    memcpy(&length, bytes, sizeof length);
    char *header = malloc(length + 1), *data = bytes + sizeof length + length;
    assert_non_null(header);
    memcpy(header, bytes + sizeof length, length);
    header[length] = '\0';
    char *changed =
        find == NULL ? replaced(header, header, replacement) : replaced(header, find, replacement);
    size_t data_size = size - sizeof length - length;
    length = strlen(changed);
    char *result = malloc(sizeof length + length + data_size);
    assert_non_null(result);
    memcpy(result, &length, sizeof length);
    memcpy(result + sizeof length, changed, length);
    memcpy(result + sizeof length + length, data, data_size);
    scratch_dir_write(dir, file, result, sizeof length + length + data_size);
    free(result);
    free(changed);
    free(header);
    free(bytes);
}
