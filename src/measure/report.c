#include "measure/report.h"

#include "measure/report_csv.h"
#include "measure/report_json.h"
#include "measure/report_table.h"
#include "measure/report_values.h"

#include <stb/stb_ds.h>

static enum status write_json_lines(const struct bench_record *record, FILE *file, struct error *error) {
    for (ptrdiff_t i = 0; i < arrlen(record->rows); i++)
        TRY(report_write_json(report_json_row(record, &record->rows[i]), JSON_COMPACT, file, error));
    return STATUS_OK;
}

enum status report_write(const struct bench_record *record, enum report_format format, FILE *file,
                         struct error *error) {
    switch (format) {
    case REPORT_CSV:
        return report_csv_write(record, file, error);
    case REPORT_JSON:
        return report_write_json(report_json_document(record), JSON_INDENT(2), file, error);
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
