// A record's rows beside published ones, for a person.
#ifndef MEASURE_REPORT_REFERENCE_H
#define MEASURE_REPORT_REFERENCE_H

#include "measure/record.h"
#include "measure/reference.h"

#include <stdbool.h>
#include <stdio.h>

// A table of the batch sizes that both have, and how the published experiment differed.
void report_reference_write(const struct bench_record *record, const struct reference *reference,
                            bool markdown, FILE *file);

#endif
