// What the model of time predicted for each row, beside what was measured.
#ifndef MEASURE_REPORT_PREDICTION_H
#define MEASURE_REPORT_PREDICTION_H

#include "measure/record.h"

#include <stdbool.h>
#include <stdio.h>

// Writes nothing when nothing is predicted.
void report_prediction_write(const struct bench_record *record, bool markdown, FILE *file);

#endif
