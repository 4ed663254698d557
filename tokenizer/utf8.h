// Where UTF-8 characters begin and end.
#ifndef TOKENIZER_UTF8_H
#define TOKENIZER_UTF8_H

#include <stddef.h>

// Bytes of the character that `text` starts with: 1 to 4. 0: no character starts with these bytes (a lone
// continuation byte, an overlong form, a surrogate, beyond U+10FFFF). -1: a character may, but `length` (at
// least 1) cuts it off.
int utf8_character(const char *text, size_t length);

#endif
