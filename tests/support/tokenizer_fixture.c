#include "tests/support/tokenizer_fixture.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>
#include <jansson.h>
#include <stb/stb_ds.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

const char *fixture_gpt2_directory(void) {
    const char *directory = getenv("GPT2_TOKENIZER_DIR");
    if (!directory) directory = "models/gpt2";
    char vocab[512], merges[512];
    snprintf(vocab, sizeof vocab, "%s/vocab.json", directory);
    snprintf(merges, sizeof merges, "%s/merges.txt", directory);
    if (access(vocab, R_OK) != 0 || access(merges, R_OK) != 0) {
        print_message(
            "skipped: no vocab.json and merges.txt in %s; GPT2_TOKENIZER_DIR names their directory\n",
            directory);
        skip();
    }
    return directory;
}

struct tokenizer *fixture_tokenizer(const char *path) {
    struct tokenizer *tokenizer;
    struct error error;
    if (tokenizer_open(path, &tokenizer, &error) != STATUS_OK) fail_msg("%s", error.message);
    return tokenizer;
}

int32_t *fixture_encode(const struct tokenizer *tokenizer, const char *text, size_t length) {
    int32_t *ids = NULL;
    struct error error;
    if (tokenizer_encode(tokenizer, text, length, &ids, &error) != STATUS_OK) fail_msg("%s", error.message);
    return ids;
}

static void assert_decodes_to(const struct tokenizer *tokenizer, const int32_t *ids, size_t count,
                              const char *text, size_t length) {
    char *bytes = NULL;
    struct error error;
    if (tokenizer_decode(tokenizer, ids, count, &bytes, &error) != STATUS_OK) fail_msg("%s", error.message);
    assert_int_equal(arrlenu(bytes), length);
    if (length > 0) assert_memory_equal(bytes, text, length);
    arrfree(bytes);
}

void assert_round_trip(const struct tokenizer *tokenizer, const char *text, size_t length) {
    int32_t *ids = fixture_encode(tokenizer, text, length);
    assert_decodes_to(tokenizer, ids, arrlenu(ids), text, length);
    arrfree(ids);
}

void assert_ids_equal(const int32_t *found, size_t found_count, const int32_t *expected,
                      size_t expected_count) {
    for (size_t i = 0; i < found_count && i < expected_count; i++) {
        if (found[i] != expected[i]) fail_msg("id %zu is %d, expected %d", i, found[i], expected[i]);
    }
    assert_int_equal(found_count, expected_count);
}

static void assert_vector(const struct tokenizer *tokenizer, const json_t *line) {
    const json_t *text = json_object_get(line, "text"), *expected = json_object_get(line, "ids");
    assert_true(json_is_string(text) && json_is_array(expected));
    int32_t *expected_ids = NULL;
    for (size_t i = 0; i < json_array_size(expected); i++)
        arrput(expected_ids, (int32_t)json_integer_value(json_array_get(expected, i)));
    int32_t *ids = fixture_encode(tokenizer, json_string_value(text), json_string_length(text));
    assert_ids_equal(ids, arrlenu(ids), expected_ids, arrlenu(expected_ids));
    assert_decodes_to(tokenizer, expected_ids, arrlenu(expected_ids), json_string_value(text),
                      json_string_length(text));
    arrfree(ids);
    arrfree(expected_ids);
}

int assert_vectors(const struct tokenizer *tokenizer) {
    FILE *file = fopen("tests/data/tokenizer.jsonl", "r");
    if (!file) fail_msg("tests/data/tokenizer.jsonl cannot be read: tests run from the repository root");
    int lines = 0;
    for (;;) {
        json_error_t why;
        json_t *line = json_loadf(file, JSON_DISABLE_EOF_CHECK | JSON_ALLOW_NUL, &why);
        if (!line && feof(file)) break;
        if (!line) fail_msg("line %d: %s", lines + 1, why.text);
        assert_vector(tokenizer, line);
        json_decref(line);
        lines++;
    }
    fclose(file);
    return lines;
}

static void put_int32(char **file, int32_t value) {
    for (int shift = 0; shift < 32; shift += 8) arrput(*file, (char)((uint32_t)value >> shift));
}

char *fixture_llmc_file(const struct tokenizer *tokenizer, int32_t version) {
    char *file = NULL;
    int32_t count = tokenizer_vocab_size(tokenizer);
    const int32_t header[] = {20240328, version, count, tokenizer_end_of_text(tokenizer)};
    for (int i = 0; i < 256; i++) put_int32(&file, i < 4 ? header[i] : 0);
    for (int32_t id = 0; id < count; id++) {
        size_t length;
        const char *token = tokenizer_token(tokenizer, id, &length);
        assert_in_range(length, 1, 255);
        arrput(file, (char)length);
        memcpy(arraddnptr(file, length), token, length);
    }
    return file;
}
