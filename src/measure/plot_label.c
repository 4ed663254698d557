#include "measure/plot_label.h"

#include "tokenizer/utf8.h"

#include <math.h>
#include <string.h>

// XML 1.0 allows no control characters and not the two noncharacters U+FFFE and U+FFFF; terminals act on
// C0 and C1 controls.
static int is_printable(const unsigned char *character, int bytes) {
    if (bytes == 1) return character[0] >= 0x20 && character[0] != 0x7F;
    if (bytes == 2) return !(character[0] == 0xC2 && character[1] < 0xA0);
    return !(bytes == 3 && character[0] == 0xEF && character[1] == 0xBF && character[2] >= 0xBE);
}

static const char *clean_character(const char *text, int *taken, int *bytes) {
    *taken = *bytes = utf8_character(text, strnlen(text, 4));
    if (*bytes <= 0) {
        *taken = 1;
        *bytes = 3;
        return "\xEF\xBF\xBD"; // U+FFFD
    }
    if (is_printable((const unsigned char *)text, *bytes)) return text;
    *bytes = 1;
    return " ";
}

void label_clean(const char *text, int most, char *clean, size_t size) {
    static const char ellipsis[] = "\xE2\x80\xA6";
    size_t length = 0, before_last = 0;
    int characters = 0;
    for (int taken; *text; text += taken, characters++) {
        int bytes;
        const char *character = clean_character(text, &taken, &bytes);
        if (characters == most || length + (size_t)bytes + sizeof ellipsis > size) {
            if (before_last + sizeof ellipsis <= size) memcpy(clean + before_last, ellipsis, sizeof ellipsis);
            return;
        }
        before_last = length;
        memcpy(clean + length, character, (size_t)bytes);
        length += (size_t)bytes;
    }
    clean[length] = '\0';
}

static int begins_character(char byte) {
    return ((unsigned char)byte & 0xC0) != 0x80;
}

int label_characters(const char *text, size_t length) {
    int characters = 0;
    for (size_t i = 0; i < length; i++) characters += begins_character(text[i]);
    return characters;
}

size_t label_wrap(const char *text, int width) {
    size_t end = 0, blank = 0;
    int characters = 0;
    for (; text[end] && text[end] != '\n'; end++) {
        if (text[end] == ' ') blank = end;
        if (begins_character(text[end]) && characters++ == width) return blank ? blank : end;
    }
    return end;
}

static const char *take_prefix(double *value) {
    static const char *const prefixes[] = {"", "k", "M", "G", "T", "P"};
    size_t step = 0;
    while (fabs(*value) >= 999.95 && step + 1 < sizeof prefixes / sizeof prefixes[0]) {
        *value /= 1000;
        step++;
    }
    return prefixes[step];
}

void label_number(double value, char *label, size_t size) {
    const char *prefix = take_prefix(&value);
    snprintf(label, size, "%.4g%s", value, prefix);
}

void label_quantity(double value, const char *unit, char *label, size_t size) {
    const char *prefix = take_prefix(&value);
    snprintf(label, size, "%.4g %s%s", value, prefix, unit);
}

void label_write_xml(const char *clean, size_t length, FILE *file) {
    for (size_t i = 0; i < length; i++) {
        switch (clean[i]) {
        case '&':
            fputs("&amp;", file);
            break;
        case '<':
            fputs("&lt;", file);
            break;
        case '>':
            fputs("&gt;", file);
            break;
        case '"':
            fputs("&quot;", file);
            break;
        default:
            fputc(clean[i], file);
        }
    }
}
