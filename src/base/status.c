#include "base/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

// Messages quote what strangers wrote: no control sequence of theirs may reach a terminal.
static void neutralize_controls(char *text) {
    for (; *text != '\0'; text++)
        if (((unsigned char)*text < 0x20 && *text != '\n') || *text == 0x7F) *text = '?';
}

enum status error_set(struct error *error, enum status status, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error->message, sizeof error->message, format, arguments);
    va_end(arguments);
    neutralize_controls(error->message);
    return status;
}

void error_prefix(struct error *error, const char *format, ...) {
    char original[sizeof error->message];
    memcpy(original, error->message, sizeof original);
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(error->message, sizeof error->message, format, arguments);
    va_end(arguments);
    neutralize_controls(error->message);
    if (length < 0 || (size_t)length + 3 > sizeof error->message) return;
    char *rest = error->message + length;
    size_t room = sizeof error->message - (size_t)length - 3, wanted = strlen(original);
    memcpy(rest, ": ", 2);
    memcpy(rest + 2, original, wanted < room ? wanted : room);
    rest[2 + (wanted < room ? wanted : room)] = '\0';
}
