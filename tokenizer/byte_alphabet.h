// The printable characters that GPT-2's vocabulary files write bytes as: printable Latin-1 as itself, the
// other 68 bytes as U+0100 and up, in order. (bytes_to_unicode in GPT-2's published encoder.)
#ifndef TOKENIZER_BYTE_ALPHABET_H
#define TOKENIZER_BYTE_ALPHABET_H

#include <stddef.h>

// Appends the bytes that `letters` (a C string in UTF-8) stand for to *bytes, an stb_ds array. Returns 0, or
// -1 when there is a character that stands for no byte.
int byte_alphabet_decode(const char *letters, char **bytes);

// Writes the letters of `length` bytes and a final NUL: room for 2 length + 1.
void byte_alphabet_encode(const char *bytes, size_t length, char *letters);

#endif
