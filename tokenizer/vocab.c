#include "tokenizer/vocab.h"

#include <inttypes.h>
#define typeof __typeof__ // a lookup in stb_ds uses GNU C's word, which -std=c11 takes away
#include <stb/stb_ds.h>
#include <string.h>

void vocab_init(struct vocab *vocab) {
    *vocab = (struct vocab){.end_of_text = -1};
    for (int byte = 0; byte < 256; byte++) vocab->byte_ids[byte] = -1;
}

void vocab_free(struct vocab *vocab) {
    arrfree(vocab->bytes);
    arrfree(vocab->tokens);
    hmfree(vocab->merges);
}

enum status vocab_add_token(struct vocab *vocab, int64_t id, const char *bytes, size_t length,
                            struct error *error) {
    if (id < 0 || id >= VOCAB_MAX_TOKENS) {
        return error_set(error, STATUS_FAILED, "a token has the id %" PRId64 ": expected 0 to %d", id,
                         VOCAB_MAX_TOKENS - 1);
    }
    if (length == 0) return error_set(error, STATUS_FAILED, "token %" PRId64 " is empty", id);
    while ((int64_t)arrlen(vocab->tokens) <= id) arrput(vocab->tokens, (struct token){0});
    struct token *token = &vocab->tokens[id];
    if (token->length != 0) return error_set(error, STATUS_FAILED, "two tokens have the id %" PRId64, id);
    *token = (struct token){.offset = (uint32_t)arrlenu(vocab->bytes), .length = (uint32_t)length};
    memcpy(arraddnptr(vocab->bytes, length), bytes, length);
    if (length == 1) vocab->byte_ids[(unsigned char)bytes[0]] = (int32_t)id;
    return STATUS_OK;
}

const struct merge *vocab_find_merge(const struct vocab *vocab, int32_t left, int32_t right) {
    struct merge *merges = vocab->merges; // stb_ds's lookup assigns to the pointer it is given
    if (!merges) return NULL;
    uint64_t key = vocab_pair(left, right);
    ptrdiff_t scratch, index = hmgeti_ts(merges, key, scratch);
    return index < 0 ? NULL : &merges[index];
}
