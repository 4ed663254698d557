// What the rows cost, for a person: the answers to record->pricing.
#ifndef MEASURE_REPORT_COST_H
#define MEASURE_REPORT_COST_H

#include "measure/record.h"

#include <stdbool.h>
#include <stdio.h>

// Writes nothing when nothing was asked.
void report_cost_write(const struct bench_record *record, bool markdown, FILE *file);

#endif
