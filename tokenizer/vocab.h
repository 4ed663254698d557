// What every vocabulary format is read into: the bytes of each token, and which two neighbours join into
// which.
#ifndef TOKENIZER_VOCAB_H
#define TOKENIZER_VOCAB_H

#include "base/status.h"

#include <stddef.h>
#include <stdint.h>

// Far above any published vocabulary; it bounds what a hostile file can make us allocate.
enum { VOCAB_MAX_TOKENS = 1 << 20, VOCAB_MAX_FILE_BYTES = 16 << 20 };

struct token {
    uint32_t offset; // into vocab.bytes
    uint32_t length; // 0: no token has this id
};

struct merge {
    uint64_t key;   // vocab_pair(left, right)
    int32_t rank;   // lower ranks are applied first
    int32_t joined; // the id of the token that left and right become
};

struct vocab {
    char *bytes;           // stb_ds array: all tokens' bytes
    struct token *tokens;  // stb_ds array by id
    struct merge *merges;  // stb_ds hash map
    int32_t byte_ids[256]; // the token that is just this byte, -1: none
    int32_t end_of_text;   // -1: none
};

void vocab_init(struct vocab *vocab);
void vocab_free(struct vocab *vocab);

// Refuses an id out of range or taken, and a token without bytes.
CHECKED enum status vocab_add_token(struct vocab *vocab, int64_t id, const char *bytes, size_t length,
                                    struct error *error);

static inline uint64_t vocab_pair(int32_t left, int32_t right) {
    return (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
}
// The merge of two neighbours, NULL: they do not join. Safe from several threads.
const struct merge *vocab_find_merge(const struct vocab *vocab, int32_t left, int32_t right);

// vocab.json and merges.txt as published with GPT-2.
CHECKED enum status vocab_read_json(struct vocab *vocab, const char *vocab_path, const char *merges_path,
                                    struct error *error);

// llm.c's gpt2_tokenizer.bin.
CHECKED enum status vocab_read_llmc(struct vocab *vocab, const char *path, struct error *error);

#endif
