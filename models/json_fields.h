// JSON that a stranger wrote: parsing with limits, and typed fields with clear refusals.
#ifndef MODELS_JSON_FIELDS_H
#define MODELS_JSON_FIELDS_H

#include "base/status.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

// Parses one object; anything else, a key given twice and trailing text are refused. The caller releases
// *object with json_decref. Messages begin with `what`, a file's name.
CHECKED enum status json_parse_object(const char *what, const void *text, size_t size, json_t **object,
                                      struct error *error);
// The same for a whole file of at most `limit` bytes.
CHECKED enum status json_read_object(const char *path, size_t limit, json_t **object, struct error *error);

// A value as JSON for a message: control characters escaped, long ones cut. NULL is shown as "nothing".
struct json_text {
    char text[96];
};
struct json_text json_show(const json_t *value);

// A field that is missing or null leaves *value alone.
CHECKED enum status json_get_bool(const json_t *object, const char *key, bool *value, struct error *error);
// Whole numbers from minimum to maximum; a required one must be there.
CHECKED enum status json_get_int(const json_t *object, const char *key, bool required, int minimum,
                                 int maximum, int *value, struct error *error);

#endif
