#include "measure/report_values.h"

#include <math.h>
#include <string.h>

json_t *report_finite(double value) {
    return isfinite(value) ? json_real(value) : json_null();
}

json_t *report_known(double value, bool is_known) {
    return is_known ? report_finite(value) : json_null();
}

json_t *report_text(const char *text) {
    json_t *string = json_string(text);
    if (string) return string;
    char ascii[sizeof((struct error *)0)->message];
    size_t length = 0;
    for (; text[length] && length + 1 < sizeof ascii; length++)
        ascii[length] = (unsigned char)text[length] < 0x80 ? text[length] : '?';
    return json_stringn(ascii, length);
}

enum status report_write_json(json_t *json, size_t flags, FILE *file, struct error *error) {
    int result = json ? json_dumpf(json, file, flags | JSON_REAL_PRECISION(10)) : -1;
    json_decref(json);
    fputc('\n', file);
    if (result == 0 || ferror(file)) return STATUS_OK;
    return error_set(error, STATUS_OUT_OF_MEMORY, "no host memory for the report");
}

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

void report_write_csv_line(json_t *object, bool names, FILE *file) {
    struct line line = {.file = file, .header = names};
    write_fields(&line, "", object);
    fputs("\r\n", file);
}
