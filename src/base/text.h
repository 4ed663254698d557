// Text: formatting into memory of its own, and numbers out of what a person wrote (the whole string, in
// range, or a clear refusal).
#ifndef BASE_TEXT_H
#define BASE_TEXT_H

#include "base/status.h"

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// Like sprintf, into memory the caller frees. NULL when there is none.
char *text_format(const char *format, ...) __attribute__((format(printf, 1, 2)));

// `what` names the option or field in the message: "--reps: expected a whole number from 1 to 100, found
// \"x\"". Leading and trailing blanks, hexadecimal, inf and nan are refused. A refusal is STATUS_USAGE and
// leaves *value alone.
CHECKED enum status text_parse_int64(const char *what, const char *text, int64_t minimum, int64_t maximum,
                                     int64_t *value, struct error *error);
CHECKED enum status text_parse_int(const char *what, const char *text, int minimum, int maximum, int *value,
                                   struct error *error);
CHECKED enum status text_parse_double(const char *what, const char *text, double minimum, double maximum,
                                      double *value, struct error *error);

#ifdef __cplusplus
}
#endif
#endif
