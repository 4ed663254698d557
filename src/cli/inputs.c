#include "cli/inputs.h"

#include <errno.h>
#include <jansson.h>
#include <limits.h>
#include <stb/stb_ds.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_BYTES = 1 << 30 }; // of one file, which may be an endless device

static enum status read_stream(FILE *stream, const char *name, char **bytes, struct error *error) {
    char block[65536];
    size_t count;
    errno = 0;
    while ((count = fread(block, 1, sizeof block, stream)) > 0) {
        if (arrlenu(*bytes) + count > MOST_BYTES)
            return error_set(error, STATUS_USAGE, "%s: longer than the %d MiB that are read", name,
                             MOST_BYTES >> 20);
        memcpy(arraddnptr(*bytes, count), block, count);
    }
    if (!ferror(stream)) return STATUS_OK;
    if (errno == EINTR) return error_set(error, STATUS_INTERRUPTED, "interrupted");
    return error_set(error, STATUS_FAILED, "%s: cannot read: %s", name, strerror(errno));
}

// Appends a whole file, or standard input for "-", to *bytes (stb_ds array).
static enum status read_file(const char *path, char **bytes, struct error *error) {
    if (strcmp(path, "-") == 0) return read_stream(stdin, "standard input", bytes, error);
    FILE *file = fopen(path, "rb");
    if (!file) return error_set(error, STATUS_FAILED, "%s: cannot open: %s", path, strerror(errno));
    enum status status = read_stream(file, path, bytes, error);
    fclose(file);
    return status;
}

static enum status encode(const struct encoding *encoding, const char *text, size_t length, int32_t **ids,
                          struct error *error) {
    if (!encoding->tokenizer) {
        *error = *encoding->no_tokenizer;
        return STATUS_USAGE;
    }
    return encoding->special ? tokenizer_encode_special(encoding->tokenizer, text, length, ids, error)
                             : tokenizer_encode(encoding->tokenizer, text, length, ids, error);
}

static enum status append_id(const struct encoding *encoding, long long id, int32_t **ids,
                             struct error *error) {
    if (id < 0 || id >= encoding->vocab)
        return error_set(error, STATUS_USAGE, "token id %lld: the vocabulary holds 0 to %d", id,
                         encoding->vocab - 1);
    arrput(*ids, (int32_t)id);
    return STATUS_OK;
}

// "15496,995"; blanks around numbers are allowed.
static enum status read_id_list(const struct encoding *encoding, const char *list, int32_t **ids,
                                struct error *error) {
    for (const char *text = list;; text++) {
        char *end;
        errno = 0;
        long long id = strtoll(text, &end, 10);
        if (errno) id = LLONG_MAX;
        if (end != text) end += strspn(end, " ");
        if (end == text || (*end != ',' && *end != '\0'))
            return error_set(error, STATUS_USAGE,
                             "expected token ids between commas, like 15496,995, found \"%.40s\"", text);
        TRY(append_id(encoding, id, ids, error));
        if (*end == '\0') return STATUS_OK;
        text = end;
    }
}

// {"prompt": TEXT}, {"text": TEXT} or {"ids": [...]}
static enum status read_object(const struct encoding *encoding, const json_t *object, int32_t **ids,
                               struct error *error) {
    const json_t *prompt = json_object_get(object, "prompt"), *text = json_object_get(object, "text");
    const json_t *list = json_object_get(object, "ids");
    if ((prompt != NULL) + (text != NULL) + (list != NULL) != 1)
        return error_set(error, STATUS_USAGE,
                         "expected an object with one of \"prompt\", \"text\" and \"ids\"");
    if (!list) {
        const json_t *string = prompt ? prompt : text;
        if (!json_is_string(string))
            return error_set(error, STATUS_USAGE, "\"%s\" is no string", prompt ? "prompt" : "text");
        return encode(encoding, json_string_value(string), json_string_length(string), ids, error);
    }
    if (!json_is_array(list)) return error_set(error, STATUS_USAGE, "\"ids\" is no array");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *id = json_array_get(list, i);
        if (!json_is_integer(id))
            return error_set(error, STATUS_USAGE, "\"ids\" holds something else than whole numbers");
        TRY(append_id(encoding, json_integer_value(id), ids, error));
    }
    return STATUS_OK;
}

static enum status read_line(const struct encoding *encoding, const char *line, size_t length, int32_t **ids,
                             struct error *error) {
    json_error_t json_error;
    json_t *object = json_loadb(line, length, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &json_error);
    if (!object) return error_set(error, STATUS_USAGE, "no JSON object: %s", json_error.text);
    enum status status = read_object(encoding, object, ids, error);
    json_decref(object);
    return status;
}

// Adds an empty sequence and returns where it is.
static int32_t **new_sequence(int32_t ***sequences) {
    arrput(*sequences, NULL);
    return &arrlast(*sequences);
}

static enum status read_lines(const struct encoding *encoding, const char *path, const char *bytes,
                              size_t size, int32_t ***sequences, struct error *error) {
    size_t start = 0, found = 0;
    for (size_t number = 1; start < size; number++) {
        const char *line = bytes + start;
        const char *newline = memchr(line, '\n', size - start);
        size_t length = newline ? (size_t)(newline - line) : size - start;
        start += length + 1;
        bool blank = true;
        for (size_t i = 0; i < length && blank; i++) blank = strchr(" \t\r", line[i]) && line[i];
        if (blank) continue;
        found++;
        enum status status = read_line(encoding, line, length, new_sequence(sequences), error);
        if (status != STATUS_OK) {
            error_prefix(error, "%s:%zu", path, number);
            return status;
        }
    }
    return found ? STATUS_OK : error_set(error, STATUS_USAGE, "%s: holds no line", path);
}

static enum status read_input(const struct input *input, const struct encoding *encoding,
                              int32_t ***sequences, struct error *error) {
    enum status status = STATUS_OK;
    char *bytes = NULL;
    if (input->kind == INPUT_FILE || input->kind == INPUT_JSONL)
        status = read_file(input->value, &bytes, error);
    if (status == STATUS_OK) {
        switch (input->kind) {
        case INPUT_TEXT:
            status = encode(encoding, input->value, strlen(input->value), new_sequence(sequences), error);
            break;
        case INPUT_FILE:
            status = encode(encoding, bytes ? bytes : "", arrlenu(bytes), new_sequence(sequences), error);
            break;
        case INPUT_IDS:
            status = read_id_list(encoding, input->value, new_sequence(sequences), error);
            break;
        case INPUT_JSONL:
            status = read_lines(encoding, input->value, bytes, arrlenu(bytes), sequences, error);
            break;
        }
    }
    arrfree(bytes);
    return status;
}

enum status inputs_read(const struct input *inputs, const struct encoding *encoding, int32_t ***sequences,
                        struct error *error) {
    *sequences = NULL;
    for (size_t i = 0; i < arrlenu(inputs); i++) {
        enum status status = read_input(&inputs[i], encoding, sequences, error);
        if (status != STATUS_OK) {
            if (status != STATUS_INTERRUPTED) error_prefix(error, "--%s", inputs[i].option);
            return status;
        }
    }
    if (arrlenu(*sequences) > INT_MAX) return error_set(error, STATUS_USAGE, "more inputs than fit an int");
    return STATUS_OK;
}

void inputs_free(int32_t **sequences) {
    for (size_t i = 0; i < arrlenu(sequences); i++) arrfree(sequences[i]);
    arrfree(sequences);
}
