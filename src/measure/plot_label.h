// Text in pictures: made safe, measured, wrapped; numbers made short.
#ifndef MEASURE_PLOT_LABEL_H
#define MEASURE_PLOT_LABEL_H

#include <stddef.h>
#include <stdio.h>

// Copies at most `most` characters; of a longer text the last is an ellipsis. What is not UTF-8 becomes
// U+FFFD, control characters and what XML does not allow become blanks.
void label_clean(const char *text, int most, char *clean, size_t size);

int label_characters(const char *text, size_t length); // of clean text

// The bytes of `text` that fit a line of `width` characters: up to a line break or the last blank that does,
// or where no blank is, cut.
size_t label_wrap(const char *text, int width);

// Four digits: "950", "1k", "12.5k", "2M".
void label_number(double value, char *label, size_t size);
void label_quantity(double value, const char *unit, char *label, size_t size); // "4.1 TB/s"

// Escapes what has a meaning in XML text and attributes.
void label_write_xml(const char *clean, size_t length, FILE *file);

#endif
