// Writes a bench record, the same facts in each format.
#ifndef MEASURE_REPORT_H
#define MEASURE_REPORT_H

#include "measure/record.h"

#include <stdio.h>

enum report_format { REPORT_TABLE, REPORT_CSV, REPORT_JSON, REPORT_JSONL, REPORT_MARKDOWN };

// Fails when memory runs out. A failed write is left in ferror(file) for whoever owns the file.
CHECKED enum status report_write(const struct bench_record *record, enum report_format format, FILE *file,
                                 struct error *error);

#endif
