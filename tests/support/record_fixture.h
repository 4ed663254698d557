// A bench record with something in every part, for tests of what is written of it and read back.
#ifndef TESTS_SUPPORT_RECORD_FIXTURE_H
#define TESTS_SUPPORT_RECORD_FIXTURE_H

#include "measure/report.h"

// cmocka's: *state is the record (struct bench_record), which a test may change.
int record_fixture_set_up(void **state);
int record_fixture_tear_down(void **state);

// The report as text, to be freed.
char *record_fixture_report(const struct bench_record *record, enum report_format format);

#endif
