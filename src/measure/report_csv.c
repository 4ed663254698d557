#include "measure/report_csv.h"

#include "measure/report_json.h"
#include "measure/report_values.h"

#include <stb/stb_ds.h>

enum status report_csv_write(const struct bench_record *record, FILE *file, struct error *error) {
    for (ptrdiff_t i = 0; i < arrlen(record->rows); i++) {
        json_t *row = report_json_row(record, &record->rows[i]);
        if (!row) return error_set(error, STATUS_OUT_OF_MEMORY, "no host memory for the report");
        json_object_del(json_object_get(row, "discovery"), "probes"); // a table of its own
        if (i == 0) report_write_csv_line(row, true, file);
        report_write_csv_line(row, false, file);
        json_decref(row);
    }
    return STATUS_OK;
}
