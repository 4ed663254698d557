// Vocabulary files with random damage: whatever still opens works, everything else is refused with a message.
// What a failure must not be is a crash, which the sanitizers make sure of.
#include "support/scratch_dir.h"
#include "support/tokenizer_fixture.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>
#include <stb/stb_ds.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SHAKESPEARE "models/shakespeare"

static struct scratch_dir dir;

// Changes up to three places: a byte, a stretch cut out, a stretch doubled.
static size_t mutate(char *data, size_t size, size_t room) {
    for (int changes = 1 + rand() % 3; changes > 0 && size > 1; changes--) {
        size_t at = (size_t)rand() % size, length = 1 + (size_t)rand() % 16;
        if (length > size - at) length = size - at;
        int kind = rand() % 3;
        if (kind == 0) data[at] = (char)(rand() % 2 ? rand() % 256 : "0919-\" {}:,\n"[rand() % 12]);
        if (kind == 1) {
            memmove(data + at, data + at + length, size - at - length);
            size -= length;
        }
        if (kind == 2 && size + length <= room) {
            memmove(data + at + length, data + at, size - at);
            size += length;
        }
    }
    return size;
}

// Whatever opens must work: a text comes back or is refused with a message.
static int assert_opens_or_says_why(const char *path) {
    static const char text[] = "To be, or not to be: that's <|endoftext|>\n\xFF\xE2\x82\xAC 1603";
    struct tokenizer *tokenizer;
    struct error error = {0};
    if (tokenizer_open(path, &tokenizer, &error) != STATUS_OK) {
        assert_null(tokenizer);
        assert_true(strlen(error.message) > 0);
        return 0;
    }
    int32_t *ids = NULL;
    char *bytes = NULL;
    if (tokenizer_encode_special(tokenizer, text, sizeof text, &ids, &error) == STATUS_OK) {
        assert_int_equal(tokenizer_decode(tokenizer, ids, arrlenu(ids), &bytes, &error), STATUS_OK);
        assert_int_equal(arrlenu(bytes), sizeof text);
        assert_memory_equal(bytes, text, sizeof text);
    } else {
        assert_true(strlen(error.message) > 0);
    }
    arrfree(bytes);
    arrfree(ids);
    tokenizer_close(tokenizer);
    return 1;
}

static void assert_mutations_are_harmless(const char *name, const char *path, const char *original,
                                          size_t size, int rounds) {
    char *data = malloc(size + 64);
    assert_non_null(data);
    int opened = 0;
    for (int round = 0; round < rounds; round++) {
        memcpy(data, original, size);
        scratch_dir_write(&dir, name, data, mutate(data, size, size + 64));
        opened += assert_opens_or_says_why(path);
    }
    assert_in_range(opened, 1, rounds - 1); // both ways were taken
    scratch_dir_write(&dir, name, original, size);
    free(data);
}

static void mutated_files_are_harmless(void **state) {
    (void)state;
    scratch_dir_make(&dir);
    size_t vocab_size, merges_size;
    char *vocab = read_whole_file(SHAKESPEARE "/vocab.json", &vocab_size);
    char *merges = read_whole_file(SHAKESPEARE "/merges.txt", &merges_size);
    scratch_dir_write(&dir, "vocab.json", vocab, vocab_size);
    scratch_dir_write(&dir, "merges.txt", merges, merges_size);
    struct tokenizer *tokenizer = fixture_tokenizer(dir.path);
    char *file = fixture_llmc_file(tokenizer, 2), path[512];
    tokenizer_close(tokenizer);
    snprintf(path, sizeof path, "%s/gpt2_tokenizer.bin", dir.path);
    srand(5);
    assert_mutations_are_harmless("vocab.json", dir.path, vocab, vocab_size, 400);
    assert_mutations_are_harmless("merges.txt", dir.path, merges, merges_size, 400);
    assert_mutations_are_harmless("gpt2_tokenizer.bin", path, file, arrlenu(file), 400);
    arrfree(file);
    free(merges);
    free(vocab);
    scratch_dir_remove(&dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(mutated_files_are_harmless)};
    return cmocka_run_group_tests_name("vocab_mutations", tests, NULL, NULL);
}
