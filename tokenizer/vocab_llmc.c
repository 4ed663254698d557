// Reads llm.c's gpt2_tokenizer.bin: 256 int32 of header, then per token one byte of length and its bytes. The
// file has no merges, but its ids are their order: two neighbours join when the vocabulary has what they
// spell, the lowest id first.
#include "base/mapped_file.h"
#include "tokenizer/byte_alphabet.h"
#include "tokenizer/vocab.h"

#include <stb/stb_ds.h>
#include <string.h>

enum { HEADER_BYTES = 1024, MAGIC = 20240328, CHECKPOINT_MAGIC = 20240326, GPT2_END_OF_TEXT = 50256 };

struct name {
    char *key; // a token in the byte alphabet, which has no NUL
    int32_t value;
};

static int32_t header_field(const struct mapped_file *file, int index) {
    const unsigned char *bytes = file->data + 4 * index;
    return (int32_t)((uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 |
                     (uint32_t)bytes[3] << 24);
}

static enum status check_header(const struct mapped_file *file, struct error *error) {
    if (file->size > VOCAB_MAX_FILE_BYTES) {
        return error_set(error, STATUS_FAILED, "%zu bytes are no vocabulary file: expected at most %d",
                         file->size, VOCAB_MAX_FILE_BYTES);
    }
    int32_t magic = file->size < 4 ? 0 : header_field(file, 0);
    if (magic != MAGIC) {
        const char *hint = magic == CHECKPOINT_MAGIC ? " (this is a model checkpoint)"
                           : file->data[0] == '{' ? " (for vocab.json and merges.txt, name their directory)"
                                                  : "";
        return error_set(error, STATUS_FAILED, "not an llm.c tokenizer: magic number %d, expected %d%s",
                         magic, MAGIC, hint);
    }
    if (file->size < HEADER_BYTES) {
        return error_set(error, STATUS_FAILED, "cut off: %zu bytes, but the header has %d", file->size,
                         HEADER_BYTES);
    }
    int32_t version = header_field(file, 1), count = header_field(file, 2);
    if (version != 1 && version != 2)
        return error_set(error, STATUS_FAILED, "tokenizer version %d, expected 1 or 2", version);
    if (count < 1 || count > VOCAB_MAX_TOKENS)
        return error_set(error, STATUS_FAILED, "%d tokens, expected 1 to %d", count, VOCAB_MAX_TOKENS);
    int32_t end_of_text = version == 1 ? GPT2_END_OF_TEXT : header_field(file, 3);
    if (end_of_text < 0 || end_of_text >= count) {
        return error_set(error, STATUS_FAILED,
                         "end-of-text is token %d of version %d, but there are %d tokens", end_of_text,
                         version, count);
    }
    return STATUS_OK;
}

static enum status add_tokens(struct vocab *vocab, const struct mapped_file *file, struct error *error) {
    int32_t count = header_field(file, 2);
    const unsigned char *next = file->data + HEADER_BYTES, *end = file->data + file->size;
    for (int32_t id = 0; id < count; id++) {
        if (next == end || end - next - 1 < *next)
            return error_set(error, STATUS_FAILED, "cut off in token %d of %d", id, count);
        TRY(vocab_add_token(vocab, id, (const char *)next + 1, *next, error));
        next += 1 + *next;
    }
    if (next == end) return STATUS_OK;
    return error_set(error, STATUS_FAILED, "%td bytes follow the last of its %d tokens", end - next, count);
}

// Every way to cut the token in two that are tokens themselves is a merge.
static void add_cuts(struct vocab *vocab, struct name *names, int32_t id, const char *letters) {
    char left[2 * UINT8_MAX + 1];
    for (size_t cut = 1; letters[cut]; cut++) {
        if (((unsigned char)letters[cut] & 0xC0) == 0x80) continue; // inside a letter
        memcpy(left, letters, cut);
        left[cut] = '\0';
        ptrdiff_t left_index = shgeti(names, left);
        if (left_index < 0) continue;
        ptrdiff_t right_index = shgeti(names, letters + cut);
        if (right_index < 0) continue;
        uint64_t pair = vocab_pair(names[left_index].value, names[right_index].value);
        hmputs(vocab->merges, ((struct merge){.key = pair, .rank = id, .joined = id}));
    }
}

static enum status add_merges(struct vocab *vocab, struct error *error) {
    struct name *names = NULL;
    sh_new_arena(names);
    char letters[2 * UINT8_MAX + 1];
    int32_t count = (int32_t)arrlen(vocab->tokens);
    for (int32_t id = 0; id < count; id++) {
        struct token token = vocab->tokens[id];
        byte_alphabet_encode(vocab->bytes + token.offset, token.length, letters);
        ptrdiff_t index = shgeti(names, letters);
        if (index >= 0) {
            int32_t first = names[index].value;
            shfree(names);
            return error_set(error, STATUS_FAILED, "tokens %d and %d are the same bytes", first, id);
        }
        shput(names, letters, id);
    }
    for (ptrdiff_t i = 0; i < shlen(names); i++) {
        // No text is joined into end-of-text: it only marks where a document ends.
        if (names[i].value != vocab->end_of_text) add_cuts(vocab, names, names[i].value, names[i].key);
    }
    shfree(names);
    return STATUS_OK;
}

static enum status read_file(struct vocab *vocab, const struct mapped_file *file, struct error *error) {
    TRY(check_header(file, error));
    TRY(add_tokens(vocab, file, error));
    vocab->end_of_text = header_field(file, 1) == 1 ? GPT2_END_OF_TEXT : header_field(file, 3);
    return add_merges(vocab, error);
}

enum status vocab_read_llmc(struct vocab *vocab, const char *path, struct error *error) {
    struct mapped_file file;
    TRY(mapped_file_open(path, &file, error));
    enum status status = read_file(vocab, &file, error);
    if (status != STATUS_OK) error_prefix(error, "%s", path);
    mapped_file_close(&file);
    return status;
}
