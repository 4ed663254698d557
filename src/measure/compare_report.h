// Writes a comparison, the same facts in each format. JSON has schema "gpt2infer.compare/1".
#ifndef MEASURE_COMPARE_REPORT_H
#define MEASURE_COMPARE_REPORT_H

#include "measure/compare.h"
#include "measure/report.h"

#include <stdio.h>

// Fails when memory runs out. A failed write is left in ferror(file) for whoever owns the file.
CHECKED enum status compare_write(const struct comparison *comparison, enum report_format format, FILE *file,
                                  struct error *error);

#endif
