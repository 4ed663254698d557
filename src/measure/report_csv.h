// A bench record as CSV (RFC 4180): the fields of a jsonl line, one column each, samples joined by ";".
#ifndef MEASURE_REPORT_CSV_H
#define MEASURE_REPORT_CSV_H

#include "measure/record.h"

#include <stdio.h>

CHECKED enum status report_csv_write(const struct bench_record *record, FILE *file, struct error *error);

#endif
