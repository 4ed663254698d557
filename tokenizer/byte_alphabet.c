#include "tokenizer/byte_alphabet.h"

#include "tokenizer/utf8.h"

#include <stb/stb_ds.h>
#include <stdbool.h>
#include <string.h>

// The bytes that are not printable lie in three ranges: 0x00..0x20, 0x7F..0xA0 and 0xAD.
enum { FIRST_RANGE = 0x21, SECOND_RANGE = 0x22, UNPRINTABLE = FIRST_RANGE + SECOND_RANGE + 1 };

static bool is_printable(int byte) {
    return byte > 0x20 && byte < 0x100 && !(byte >= 0x7F && byte <= 0xA0) && byte != 0xAD;
}

static int letter_to_byte(int letter) {
    int index = letter - 0x100;
    if (is_printable(letter)) return letter;
    if (index < 0 || index >= UNPRINTABLE) return -1;
    if (index < FIRST_RANGE) return index;
    if (index < FIRST_RANGE + SECOND_RANGE) return 0x7F + index - FIRST_RANGE;
    return 0xAD;
}

static int byte_to_letter(int byte) {
    if (is_printable(byte)) return byte;
    if (byte <= 0x20) return 0x100 + byte;
    if (byte <= 0xA0) return 0x100 + FIRST_RANGE + byte - 0x7F;
    return 0x100 + FIRST_RANGE + SECOND_RANGE;
}

int byte_alphabet_decode(const char *letters, char **bytes) {
    size_t length = strlen(letters);
    for (size_t i = 0; i < length;) {
        int size = utf8_character(letters + i, length - i);
        int first = (unsigned char)letters[i], letter = -1;
        if (size == 1) letter = first;
        if (size == 2) letter = (first & 0x1F) << 6 | ((unsigned char)letters[i + 1] & 0x3F);
        int byte = letter_to_byte(letter); // no letter takes more than two bytes
        if (byte < 0) return -1;
        arrput(*bytes, (char)byte);
        i += (size_t)size;
    }
    return 0;
}

void byte_alphabet_encode(const char *bytes, size_t length, char *letters) {
    for (size_t i = 0; i < length; i++) {
        int letter = byte_to_letter((unsigned char)bytes[i]);
        if (letter >= 0x80) *letters++ = (char)(0xC0 | letter >> 6);
        *letters++ = (char)(letter < 0x80 ? letter : 0x80 | (letter & 0x3F));
    }
    *letters = '\0';
}
