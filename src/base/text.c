#include "base/text.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

char *text_format(const char *format, ...) {
    va_list arguments, again;
    va_start(arguments, format);
    va_copy(again, arguments);
    int length = vsnprintf(NULL, 0, format, arguments);
    char *text = length < 0 ? NULL : malloc((size_t)length + 1);
    if (text != NULL) vsnprintf(text, (size_t)length + 1, format, again);
    va_end(again);
    va_end(arguments);
    return text;
}

// strtoll and strtod skip blanks and read "0x10", "inf" and "nan"; only these characters may take part.
static bool consists_of(const char *text, const char *characters) {
    return *text != '\0' && text[strspn(text, characters)] == '\0';
}

enum status text_parse_int64(const char *what, const char *text, int64_t minimum, int64_t maximum,
                             int64_t *value, struct error *error) {
    char *end = NULL;
    errno = 0;
    long long number = consists_of(text, "+-0123456789") ? strtoll(text, &end, 10) : 0;
    if (end == NULL || end == text || *end != '\0' || errno != 0 || number < minimum || number > maximum) {
        return error_set(error, STATUS_USAGE,
                         "%s: expected a whole number from %" PRId64 " to %" PRId64 ", found \"%.100s\"",
                         what, minimum, maximum, text);
    }
    *value = number;
    return STATUS_OK;
}

enum status text_parse_int(const char *what, const char *text, int minimum, int maximum, int *value,
                           struct error *error) {
    int64_t number = 0;
    TRY(text_parse_int64(what, text, minimum, maximum, &number, error));
    *value = (int)number;
    return STATUS_OK;
}

enum status text_parse_double(const char *what, const char *text, double minimum, double maximum,
                              double *value, struct error *error) {
    char *end = NULL;
    double number = consists_of(text, "+-.eE0123456789") ? strtod(text, &end) : 0;
    // An overflow gives infinity, which no range includes; an underflow rounds to zero, which is as meant.
    if (end == NULL || end == text || *end != '\0' || !(number >= minimum && number <= maximum)) {
        return error_set(error, STATUS_USAGE, "%s: expected a number from %g to %g, found \"%.100s\"", what,
                         minimum, maximum, text);
    }
    *value = number;
    return STATUS_OK;
}
