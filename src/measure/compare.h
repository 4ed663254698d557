// Two bench records of the same work, row by row: is the new one faster, and can that be told from noise?
#ifndef MEASURE_COMPARE_H
#define MEASURE_COMPARE_H

#include "measure/record.h"

// By the ratio r = new mean tok/s / old mean tok/s, its 95 % interval (stats_ratio) and the smallest
// difference d of interest:
//   same        the whole interval lies within 1 - d .. 1 + d
//   faster      the interval lies above 1, and r above 1 + d
//   slower      the interval lies below 1, and r below 1 - d
//   can't tell  anything else, among it fewer than two repetitions on a side
// A row that no longer runs (oom, failed, mismatch) is slower, one that runs now and did not is faster. The
// interval knows the noise within each run, not what changes from run to run; d is there for that.
enum verdict { VERDICT_SAME, VERDICT_FASTER, VERDICT_SLOWER, VERDICT_CANNOT_TELL };
const char *verdict_name(enum verdict verdict); // "same", "faster", "slower", "can't tell"

struct comparison_row {
    int batch;
    bool kv_cache;
    const struct bench_row *before, *after; // the records'; NULL: there is no such row
    struct ratio ratio;                     // all zero: not known
    enum verdict verdict;
    char note[256]; // why it cannot be told, or what the rows themselves remark; may be empty
};

struct comparison {
    const struct bench_record *before, *after; // the caller's, must outlive the comparison
    const char *before_name, *after_name;      // of the files
    double threshold;                          // d, as a fraction
    bool same_device;
    struct comparison_row *rows; // stb_ds array: the old record's, then those that are only in the new
    int counts[VERDICT_CANNOT_TELL + 1]; // rows by verdict
};

// Fills rows, counts and same_device; the other fields are the caller's before. Records of another model,
// dtype or workload are STATUS_USAGE, and the error names each difference. The caller clears in any case.
CHECKED enum status compare_records(struct comparison *comparison, struct error *error);
void compare_clear(struct comparison *comparison);

#endif
