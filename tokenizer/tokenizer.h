// GPT-2's byte-level BPE tokenizer: text to token ids and back.
#ifndef TOKENIZER_TOKENIZER_H
#define TOKENIZER_TOKENIZER_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tokenizer;

// Opens a directory holding vocab.json and merges.txt (or llm.c's gpt2_tokenizer.bin when those are missing),
// or such a .bin file named directly. On failure *tokenizer is NULL and the message names the file, what was
// expected and what was found.
CHECKED enum status tokenizer_open(const char *path, struct tokenizer **tokenizer, struct error *error);
void tokenizer_close(struct tokenizer *tokenizer); // NULL is allowed

int tokenizer_vocab_size(const struct tokenizer *tokenizer);      // highest id + 1
int32_t tokenizer_end_of_text(const struct tokenizer *tokenizer); // id of <|endoftext|>, -1: none

// Appends the ids of `length` bytes of text (less than 2 GiB) to *ids, an stb_ds array (start with NULL, free
// with arrfree); after a failure *ids holds what it held before. Any bytes are taken, invalid UTF-8 included;
// decoding gives the same bytes back. Every character is ordinary text, as in the published vectors: the
// letters <|endoftext|> become the tokens that spell them. A byte that the vocabulary has no token for is an
// error. Time is O(length log length) whatever the text. Threads may encode and decode with one tokenizer at
// the same time.
CHECKED enum status tokenizer_encode(const struct tokenizer *tokenizer, const char *text, size_t length,
                                     int32_t **ids, struct error *error);

// The same, except that <|endoftext|> becomes that one token where the vocabulary has it: for prompts, which
// may want to name it.
CHECKED enum status tokenizer_encode_special(const struct tokenizer *tokenizer, const char *text,
                                             size_t length, int32_t **ids, struct error *error);

// The bytes of one token, owned by the tokenizer; NULL when the id names no token.
const char *tokenizer_token(const struct tokenizer *tokenizer, int32_t id, size_t *length);

// Appends the bytes of `count` ids to *bytes, an stb_ds array (no final NUL). An unknown id is an error.
CHECKED enum status tokenizer_decode(const struct tokenizer *tokenizer, const int32_t *ids, size_t count,
                                     char **bytes, struct error *error);

// Streaming decode: bytes of a UTF-8 character that is not complete yet are held back until it is, or until
// it turns out that it never will be (then they are given out as they are).
struct utf8_stream {
    char held[4];
    int count;
};
// Appends to *bytes (stb_ds array) what can be shown after `length` more bytes; `last` gives out everything.
void utf8_stream_push(struct utf8_stream *stream, const char *text, size_t length, bool last, char **bytes);

#endif
