// A bench record for a person: what was measured, the rows, and footnotes to them.
#ifndef MEASURE_REPORT_TABLE_H
#define MEASURE_REPORT_TABLE_H

#include "measure/record.h"

#include <stdbool.h>
#include <stdio.h>

void report_table_write(const struct bench_record *record, bool markdown, FILE *file);

#endif
