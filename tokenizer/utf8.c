#include "tokenizer/utf8.h"

// Well-formed byte sequences, The Unicode Standard, table 3-7: only the second byte's range depends on the
// first.
int utf8_character(const char *text, size_t length) {
    const unsigned char *bytes = (const unsigned char *)text;
    unsigned char first = bytes[0];
    if (first < 0x80) return 1;
    if (first < 0xC2 || first > 0xF4) return 0;
    size_t size = first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
    unsigned char low = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;
    unsigned char high = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
    for (size_t i = 1; i < size; i++) {
        if (i == length) return -1;
        if (bytes[i] < low || bytes[i] > high) return 0;
        low = 0x80, high = 0xBF;
    }
    return (int)size;
}
