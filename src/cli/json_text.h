// JSON values out of what the engine gives, which may be no JSON: any bytes, not a number, infinity.
#ifndef CLI_JSON_TEXT_H
#define CLI_JSON_TEXT_H

#include "base/status.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

// Bytes as a string, each maximal piece that is no UTF-8 replaced by U+FFFD. All of these give NULL when
// memory runs out; jansson's *_new functions take that for a failure of their own.
json_t *json_text(const char *bytes, size_t length);
json_t *json_number(double value); // null for what is no number
json_t *json_ids(const int32_t *ids, size_t count);
json_t *json_floats(const float *values, size_t count);

// Writes the value, one line when `compact`, and releases it; NULL (memory ran out) is an error. A failed
// write is left in ferror(stream).
CHECKED enum status json_write(json_t *value, bool compact, FILE *stream, struct error *error);

#endif
