// Values of any report as JSON, and JSON on paper.
#ifndef MEASURE_REPORT_VALUES_H
#define MEASURE_REPORT_VALUES_H

#include "base/status.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

// New references, NULL when memory runs out.
json_t *report_finite(double value);               // null for infinity and NaN, which JSON has not
json_t *report_known(double value, bool is_known); // null for what is not known
// JSON text is UTF-8; a path or a message need not be, and then shows its ASCII.
json_t *report_text(const char *text);

// One document and the end of its line, with the ten digits that a clock can tell. Takes the reference; NULL
// is a report that found no memory. `flags` are jansson's.
CHECKED enum status report_write_json(json_t *json, size_t flags, FILE *file, struct error *error);

// One line of CSV (RFC 4180) with an object's values, or its names: objects become their fields, each name
// with the names around it before it (tok_s_median), arrays are joined by ";".
void report_write_csv_line(json_t *object, bool names, FILE *file);

#endif
