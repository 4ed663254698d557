// Reads vocab.json, {"token": id, ...}, and merges.txt, one "left right" a line in order of rank; tokens are
// written in the byte alphabet.
#include "base/mapped_file.h"
#include "tokenizer/byte_alphabet.h"
#include "tokenizer/vocab.h"

#include <jansson.h>
#include <stb/stb_ds.h>
#include <stdbool.h>
#include <string.h>

static enum status open_bounded(const char *path, struct mapped_file *file, struct error *error) {
    TRY(mapped_file_open(path, file, error));
    if (file->size <= VOCAB_MAX_FILE_BYTES) return STATUS_OK;
    size_t size = file->size;
    mapped_file_close(file);
    return error_set(error, STATUS_FAILED, "%s: %zu bytes are no vocabulary file: expected at most %d", path,
                     size, VOCAB_MAX_FILE_BYTES);
}

static enum status parse_object(const char *path, json_t **object, struct error *error) {
    struct mapped_file file;
    TRY(open_bounded(path, &file, error));
    json_error_t why;
    *object = json_loadb((const char *)file.data, file.size, JSON_REJECT_DUPLICATES, &why);
    mapped_file_close(&file);
    if (!*object) {
        return error_set(error, STATUS_FAILED, "%s: line %d, column %d: %s", path, why.line, why.column,
                         why.text);
    }
    if (json_is_object(*object)) return STATUS_OK;
    json_decref(*object);
    *object = NULL;
    return error_set(error, STATUS_FAILED, "%s: expected one JSON object {\"token\": id, ...}", path);
}

static enum status add_entry(struct vocab *vocab, const char *letters, const json_t *id, char **bytes,
                             struct error *error) {
    if (!json_is_integer(id))
        return error_set(error, STATUS_FAILED, "token \"%.80s\": its id is not an integer", letters);
    arrsetlen(*bytes, 0);
    if (byte_alphabet_decode(letters, bytes) != 0) {
        return error_set(error, STATUS_FAILED,
                         "token \"%.80s\" has a character that stands for no byte: "
                         "this is not the vocabulary of a byte-level BPE",
                         letters);
    }
    TRY(vocab_add_token(vocab, json_integer_value(id), *bytes, arrlenu(*bytes), error));
    if (strcmp(letters, "<|endoftext|>") == 0) vocab->end_of_text = (int32_t)json_integer_value(id);
    return STATUS_OK;
}

static enum status add_entries(struct vocab *vocab, json_t *object, struct error *error) {
    enum status status = STATUS_OK;
    char *bytes = NULL;
    const char *letters;
    json_t *id;
    json_object_foreach(object, letters, id) {
        status = add_entry(vocab, letters, id, &bytes, error);
        if (status != STATUS_OK) break;
    }
    arrfree(bytes);
    if (status != STATUS_OK) return status;
    if (!vocab->tokens) return error_set(error, STATUS_FAILED, "no token in it");
    return STATUS_OK;
}

static enum status find_token(const json_t *object, const char *letters, int32_t *id, struct error *error) {
    const json_t *value = json_object_get(object, letters);
    if (!value) return error_set(error, STATUS_FAILED, "token \"%.80s\" is not in vocab.json", letters);
    *id = (int32_t)json_integer_value(value);
    return STATUS_OK;
}

// `line` is "left right"; `letters` is scratch.
static enum status add_merge(struct vocab *vocab, const json_t *object, const char *line, size_t length,
                             char **letters, struct error *error) {
    const char *space = memchr(line, ' ', length);
    size_t left_length = space ? (size_t)(space - line) : 0;
    size_t right_length = length - left_length - (space ? 1 : 0);
    if (!space || left_length == 0 || right_length == 0 || memchr(space + 1, ' ', right_length) ||
        memchr(line, '\0', length))
        return error_set(error, STATUS_FAILED, "expected two tokens with one space between them");

    int32_t left = -1, right = -1, joined = -1;
    arrsetlen(*letters, length); // the joined token and a NUL take the room of left, space and right
    char *text = *letters;
    memcpy(text, line, left_length);
    text[left_length] = '\0';
    TRY(find_token(object, text, &left, error));
    memcpy(text + left_length, space + 1, right_length);
    text[left_length + right_length] = '\0';
    TRY(find_token(object, text + left_length, &right, error));
    TRY(find_token(object, text, &joined, error));
    if (vocab_find_merge(vocab, left, right))
        return error_set(error, STATUS_FAILED, "the same merge stands on an earlier line");
    hmputs(vocab->merges,
           ((struct merge){
               .key = vocab_pair(left, right), .rank = (int32_t)hmlen(vocab->merges), .joined = joined}));
    return STATUS_OK;
}

static enum status add_merges(struct vocab *vocab, const json_t *object, const char *path,
                              const struct mapped_file *file, struct error *error) {
    enum status status = STATUS_OK;
    const char *text = (const char *)file->data, *end = text + file->size;
    char *letters = NULL;
    for (int line = 1; text < end && status == STATUS_OK; line++) {
        const char *newline = memchr(text, '\n', (size_t)(end - text));
        size_t length = (size_t)((newline ? newline : end) - text);
        size_t visible = length > 0 && text[length - 1] == '\r' ? length - 1 : length;
        bool version = line == 1 && visible >= 8 && memcmp(text, "#version", 8) == 0;
        if (visible > 0 && !version) {
            status = add_merge(vocab, object, text, visible, &letters, error);
            if (status != STATUS_OK) error_prefix(error, "%s: line %d", path, line);
        }
        text = newline ? newline + 1 : end;
    }
    arrfree(letters);
    return status;
}

enum status vocab_read_json(struct vocab *vocab, const char *vocab_path, const char *merges_path,
                            struct error *error) {
    json_t *object;
    TRY(parse_object(vocab_path, &object, error));
    enum status status = add_entries(vocab, object, error);
    if (status != STATUS_OK) error_prefix(error, "%s", vocab_path);

    struct mapped_file merges = {0};
    if (status == STATUS_OK) status = open_bounded(merges_path, &merges, error);
    if (status == STATUS_OK) status = add_merges(vocab, object, merges_path, &merges, error);
    mapped_file_close(&merges);
    json_decref(object);
    return status;
}
