// Why the rows are what they are, for a person: their steps against the device, and the measured speed-up
// against the one that counting promises.
#ifndef MEASURE_REPORT_CAUSES_H
#define MEASURE_REPORT_CAUSES_H

#include "measure/record.h"

#include <stdbool.h>
#include <stdio.h>

// Writes nothing of what was not measured.
void report_causes_write(const struct bench_record *record, bool markdown, FILE *file);

#endif
