#include "measure/report_csv.h"

#include "measure/report_json.h"

#include <stb/stb_ds.h>
#include <stdlib.h>
#include <string.h>

// One line of cells; a comma goes before every cell but the first.
struct line {
    FILE *file;
    bool header; // write the names instead of the values
    bool begun;
};

// RFC 4180: quoted where it holds a comma, a quote or the end of a line; quotes are doubled.
static void write_text(const char *text, FILE *file) {
    if (!strpbrk(text, ",\"\r\n")) {
        fputs(text, file);
        return;
    }
    fputc('"', file);
    for (; *text; text++) {
        if (*text == '"') fputc('"', file);
        fputc(*text, file);
    }
    fputc('"', file);
}

static void write_value(const json_t *value, FILE *file) {
    if (json_is_string(value)) write_text(json_string_value(value), file);
    if (json_is_integer(value)) fprintf(file, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
    if (json_is_real(value)) fprintf(file, "%.10g", json_real_value(value));
    if (json_is_boolean(value)) fputs(json_is_true(value) ? "true" : "false", file);
}

static void write_array(const json_t *array, FILE *file) {
    for (size_t i = 0; i < json_array_size(array); i++) {
        if (i > 0) fputc(';', file);
        write_value(json_array_get(array, i), file);
    }
}

// Objects become their fields, each name with the names around it before it: tok_s_median.
static void write_fields(struct line *line, const char *prefix, json_t *object) {
    const char *key;
    json_t *value;
    json_object_foreach(object, key, value) {
        char name[128];
        snprintf(name, sizeof name, "%s%s%s", prefix, *prefix ? "_" : "", key);
        if (json_is_object(value)) {
            write_fields(line, name, value);
            continue;
        }
        if (line->begun) fputc(',', line->file);
        line->begun = true;
        if (line->header)
            fputs(name, line->file);
        else if (json_is_array(value))
            write_array(value, line->file);
        else
            write_value(value, line->file);
    }
}

enum status report_csv_write(const struct bench_record *record, FILE *file, struct error *error) {
    for (ptrdiff_t i = 0; i < arrlen(record->rows); i++) {
        json_t *row = report_json_row(record, &record->rows[i]);
        if (!row) return error_set(error, STATUS_OUT_OF_MEMORY, "no host memory for the report");
        for (int header = i == 0; header >= 0; header--) {
            struct line line = {.file = file, .header = header};
            write_fields(&line, "", row);
            fputs("\r\n", file);
        }
        json_decref(row);
    }
    return STATUS_OK;
}
