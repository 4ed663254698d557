#include "models/json_fields.h"

#include "base/mapped_file.h"

#include <string.h>

enum status json_parse_object(const char *what, const void *text, size_t size, json_t **object,
                              struct error *error) {
    json_error_t problem;
    *object = json_loadb(text, size, JSON_REJECT_DUPLICATES, &problem);
    if (*object == NULL) {
        if (json_error_code(&problem) == json_error_out_of_memory)
            return error_set(error, STATUS_OUT_OF_MEMORY, "%s: no memory to read its JSON (%zu bytes)", what,
                             size);
        return error_set(error, STATUS_FAILED, "%s: expected a JSON object, found at line %d, column %d: %s",
                         what, problem.line, problem.column, problem.text);
    }
    if (json_is_object(*object)) return STATUS_OK;
    json_decref(*object);
    *object = NULL;
    return error_set(error, STATUS_FAILED, "%s: expected a JSON object, found an array", what);
}

enum status json_read_object(const char *path, size_t limit, json_t **object, struct error *error) {
    *object = NULL;
    struct mapped_file file;
    TRY(mapped_file_open(path, &file, error));
    enum status status = file.size <= limit ? json_parse_object(path, file.data, file.size, object, error)
                                            : error_set(error, STATUS_FAILED,
                                                        "%s: expected at most %zu bytes of JSON, found %zu",
                                                        path, limit, file.size);
    mapped_file_close(&file);
    return status;
}

struct json_text json_show(const json_t *value) {
    struct json_text shown = {"nothing"};
    if (value == NULL) return shown;
    // What does not fit is left out, from the first part of the value on that does not.
    memset(shown.text, 0, sizeof shown.text);
    size_t room = sizeof shown.text - 4;
    size_t needed = json_dumpb(value, shown.text, room, JSON_ENCODE_ANY | JSON_ENSURE_ASCII | JSON_COMPACT);
    if (needed > room) strcat(shown.text, "...");
    return shown;
}

enum status json_get_bool(const json_t *object, const char *key, bool *value, struct error *error) {
    const json_t *field = json_object_get(object, key);
    if (field == NULL || json_is_null(field)) return STATUS_OK;
    if (!json_is_boolean(field))
        return error_set(error, STATUS_FAILED, "%s: expected true or false, found %s", key,
                         json_show(field).text);
    *value = json_is_true(field);
    return STATUS_OK;
}

enum status json_get_int(const json_t *object, const char *key, bool required, int minimum, int maximum,
                         int *value, struct error *error) {
    const json_t *field = json_object_get(object, key);
    if (!required && (field == NULL || json_is_null(field))) return STATUS_OK;
    json_int_t number = json_integer_value(field);
    if (!json_is_integer(field) || number < minimum || number > maximum) {
        return error_set(error, STATUS_FAILED, "%s: expected a whole number from %d to %d, found %s", key,
                         minimum, maximum, json_show(field).text);
    }
    *value = (int)number;
    return STATUS_OK;
}
