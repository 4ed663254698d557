// What the device's sensors said during the rows, for a person.
#ifndef MEASURE_REPORT_SENSORS_H
#define MEASURE_REPORT_SENSORS_H

#include "measure/record.h"

#include <stdbool.h>
#include <stdio.h>

// Writes nothing when no sensor was read.
void report_sensors_write(const struct bench_record *record, bool markdown, FILE *file);

#endif
