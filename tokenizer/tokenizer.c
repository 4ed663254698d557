#include "tokenizer/tokenizer.h"

#include "tokenizer/bpe.h"
#include "tokenizer/split.h"
#include "tokenizer/vocab.h"

#include <errno.h>
#include <inttypes.h>
#include <stb/stb_ds.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

struct tokenizer {
    struct vocab vocab;
    struct split_pattern *pattern;
};

// ---- open and close
// ----------------------------------------------------------------------------------------

static bool exists(const char *path) {
    struct stat info;
    return stat(path, &info) == 0;
}

static enum status read_directory(struct vocab *vocab, const char *directory, struct error *error) {
    char json[4096], merges[4096], binary[4096];
    snprintf(json, sizeof json, "%s/vocab.json", directory);
    snprintf(merges, sizeof merges, "%s/merges.txt", directory);
    int length = snprintf(binary, sizeof binary, "%s/gpt2_tokenizer.bin", directory); // the longest
    if (length < 0 || (size_t)length >= sizeof binary)
        return error_set(error, STATUS_FAILED, "%.100s...: the path is too long", directory);
    if (exists(json) || exists(merges)) return vocab_read_json(vocab, json, merges, error);
    if (exists(binary)) return vocab_read_llmc(vocab, binary, error);
    return error_set(error, STATUS_FAILED,
                     "%s: no tokenizer there: expected vocab.json and merges.txt, or gpt2_tokenizer.bin",
                     directory);
}

static enum status read_vocab(struct vocab *vocab, const char *path, struct error *error) {
    struct stat info;
    if (stat(path, &info) != 0) return error_set(error, STATUS_FAILED, "%s: %s", path, strerror(errno));
    if (S_ISDIR(info.st_mode)) return read_directory(vocab, path, error);
    return vocab_read_llmc(vocab, path, error);
}

enum status tokenizer_open(const char *path, struct tokenizer **tokenizer, struct error *error) {
    *tokenizer = NULL;
    struct tokenizer *opened = malloc(sizeof *opened);
    if (!opened) return error_set(error, STATUS_OUT_OF_MEMORY, "no host memory for a tokenizer");
    opened->pattern = NULL;
    vocab_init(&opened->vocab);
    enum status status = read_vocab(&opened->vocab, path, error);
    if (status == STATUS_OK) status = split_pattern_open(&opened->pattern, error);
    if (status == STATUS_OK) {
        *tokenizer = opened;
    } else {
        tokenizer_close(opened);
    }
    return status;
}

void tokenizer_close(struct tokenizer *tokenizer) {
    if (!tokenizer) return;
    split_pattern_close(tokenizer->pattern);
    vocab_free(&tokenizer->vocab);
    free(tokenizer);
}

int tokenizer_vocab_size(const struct tokenizer *tokenizer) {
    return (int)arrlen(tokenizer->vocab.tokens);
}
int32_t tokenizer_end_of_text(const struct tokenizer *tokenizer) {
    return tokenizer->vocab.end_of_text;
}

// ---- encode
// ------------------------------------------------------------------------------------------------

// What one call needs beside the tokenizer, which it shares with other threads.
struct encoder {
    const struct vocab *vocab;
    struct split_walk walk;
    struct bpe bpe;
};

static enum status encode_ordinary(struct encoder *encoder, const char *text, size_t length, int32_t **ids,
                                   struct error *error) {
    split_walk_start(&encoder->walk, text, length);
    for (;;) {
        const char *piece;
        size_t piece_length;
        TRY(split_next(&encoder->walk, &piece, &piece_length, error));
        if (piece_length == 0) return STATUS_OK;
        TRY(bpe_encode(&encoder->bpe, encoder->vocab, piece, piece_length, ids, error));
    }
}

// Where the end-of-text token is spelled out in `text`, or its end.
static const char *find_special(const char *text, const char *end, const char *special,
                                size_t special_length) {
    while (text && (size_t)(end - text) >= special_length) {
        if (memcmp(text, special, special_length) == 0) return text;
        text = memchr(text + 1, special[0], (size_t)(end - text - 1));
    }
    return end;
}

static enum status encode_special(struct encoder *encoder, const char *text, size_t length, int32_t **ids,
                                  struct error *error) {
    int32_t id = encoder->vocab->end_of_text;
    if (id < 0) return encode_ordinary(encoder, text, length, ids, error);
    const char *special = encoder->vocab->bytes + encoder->vocab->tokens[id].offset, *end = text + length;
    size_t special_length = encoder->vocab->tokens[id].length;
    for (;;) {
        const char *found = find_special(text, end, special, special_length);
        TRY(encode_ordinary(encoder, text, (size_t)(found - text), ids, error));
        if (found == end) return STATUS_OK;
        arrput(*ids, id);
        text = found + special_length;
    }
}

typedef enum status encode_function(struct encoder *encoder, const char *text, size_t length, int32_t **ids,
                                    struct error *error);

static enum status encode_with(encode_function *encode, const struct tokenizer *tokenizer, const char *text,
                               size_t length, int32_t **ids, struct error *error) {
    if (length > INT32_MAX) {
        return error_set(error, STATUS_USAGE,
                         "a text of %zu bytes: at most %" PRId32 " can be encoded at once", length,
                         INT32_MAX);
    }
    struct encoder encoder = {.vocab = &tokenizer->vocab};
    TRY(split_walk_open(&encoder.walk, tokenizer->pattern, error));
    size_t before = arrlenu(*ids);
    enum status status = encode(&encoder, text, length, ids, error);
    if (status != STATUS_OK) arrsetlen(*ids, before);
    split_walk_close(&encoder.walk);
    bpe_free(&encoder.bpe);
    return status;
}

enum status tokenizer_encode(const struct tokenizer *tokenizer, const char *text, size_t length,
                             int32_t **ids, struct error *error) {
    return encode_with(encode_ordinary, tokenizer, text, length, ids, error);
}

enum status tokenizer_encode_special(const struct tokenizer *tokenizer, const char *text, size_t length,
                                     int32_t **ids, struct error *error) {
    return encode_with(encode_special, tokenizer, text, length, ids, error);
}

// ---- decode
// ------------------------------------------------------------------------------------------------

const char *tokenizer_token(const struct tokenizer *tokenizer, int32_t id, size_t *length) {
    const struct vocab *vocab = &tokenizer->vocab;
    *length = 0;
    if (id < 0 || id >= arrlen(vocab->tokens) || vocab->tokens[id].length == 0) return NULL;
    *length = vocab->tokens[id].length;
    return vocab->bytes + vocab->tokens[id].offset;
}

enum status tokenizer_decode(const struct tokenizer *tokenizer, const int32_t *ids, size_t count,
                             char **bytes, struct error *error) {
    size_t before = arrlenu(*bytes);
    for (size_t i = 0; i < count; i++) {
        size_t length;
        const char *token = tokenizer_token(tokenizer, ids[i], &length);
        if (!token) {
            arrsetlen(*bytes, before);
            return error_set(error, STATUS_USAGE,
                             "token id %" PRId32 " at position %zu is not in the vocabulary (0 to %d)",
                             ids[i], i, tokenizer_vocab_size(tokenizer) - 1);
        }
        memcpy(arraddnptr(*bytes, length), token, length);
    }
    return STATUS_OK;
}
