// A bench record as JSON.
#ifndef MEASURE_REPORT_JSON_H
#define MEASURE_REPORT_JSON_H

#include "measure/record.h"

#include <jansson.h>

// The whole document, and one row with the facts that all rows share beside it (one line of jsonl). The
// caller owns the reference; NULL when memory runs out.
json_t *report_json_document(const struct bench_record *record);
json_t *report_json_row(const struct bench_record *record, const struct bench_row *row);

#endif
