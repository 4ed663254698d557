#include "measure/report.h"

#include "measure/report_csv.h"
#include "measure/report_json.h"
#include "measure/report_table.h"

#include <stb/stb_ds.h>

// Takes the reference. Ten digits say all that a clock can.
static enum status write_json(json_t *json, size_t flags, FILE *file, struct error *error) {
    int result = json ? json_dumpf(json, file, flags | JSON_REAL_PRECISION(10)) : -1;
    json_decref(json);
    fputc('\n', file);
    if (result == 0 || ferror(file)) return STATUS_OK;
    return error_set(error, STATUS_OUT_OF_MEMORY, "no host memory for the report");
}

static enum status write_json_lines(const struct bench_record *record, FILE *file, struct error *error) {
    for (ptrdiff_t i = 0; i < arrlen(record->rows); i++)
        TRY(write_json(report_json_row(record, &record->rows[i]), JSON_COMPACT, file, error));
    return STATUS_OK;
}

enum status report_write(const struct bench_record *record, enum report_format format, FILE *file,
                         struct error *error) {
    switch (format) {
    case REPORT_CSV:
        return report_csv_write(record, file, error);
    case REPORT_JSON:
        return write_json(report_json_document(record), JSON_INDENT(2), file, error);
    case REPORT_JSONL:
        return write_json_lines(record, file, error);
    case REPORT_TABLE:
        report_table_write(record, false, file);
        break;
    case REPORT_MARKDOWN:
        report_table_write(record, true, file);
        break;
    }
    return STATUS_OK;
}
