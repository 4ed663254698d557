// Vocabulary files: the two formats give the same ids, and malformed ones are refused by name.
#include "support/scratch_dir.h"
#include "support/tokenizer_fixture.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>
#include <stb/stb_ds.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define SHAKESPEARE "models/shakespeare"
#define HELD_OUT "tests/data/shakespeare/heldout.txt"

static struct scratch_dir dir;

static int make_dir(void **state) {
    (void)state;
    scratch_dir_make(&dir);
    return 0;
}

static int remove_dir(void **state) {
    (void)state;
    scratch_dir_remove(&dir);
    return 0;
}

static void in_dir(const char *name, char path[512]) {
    snprintf(path, 512, "%s/%s", dir.path, name);
}

// Opening `path` must fail with a message that contains `expected`.
static void assert_refused(const char *path, const char *expected) {
    struct tokenizer *tokenizer = (struct tokenizer *)&dir;
    struct error error = {0};
    assert_int_not_equal(tokenizer_open(path, &tokenizer, &error), STATUS_OK);
    assert_null(tokenizer);
    if (!strstr(error.message, expected)) fail_msg("\"%s\" does not say \"%s\"", error.message, expected);
}

// ---- vocab.json and merges.txt
// -------------------------------------------------------------------------------

static void write_json(const char *vocab, const char *merges) {
    scratch_dir_write(&dir, "vocab.json", vocab, strlen(vocab));
    scratch_dir_write(&dir, "merges.txt", merges, strlen(merges));
}

static void vocab_json_is_proved(void **state) {
    (void)state;
    static const struct {
        const char *vocab, *expected;
    } CASES[] = {
        {" ", "vocab.json: line 1"},
        {"{\"a\": 0", "vocab.json: line 1"},
        {"{\"a\": 0} x", "vocab.json: line 1"},
        {"{\"a\": 0, \"a\": 1}", "duplicate"},
        {"{\"a\": 99999999999999999999}", "too big"},
        {"{\"\\u0000\": 0}", "vocab.json: line 1"},
        {"{\"\xFF\": 0}", "vocab.json: line 1"}, // not UTF-8
        {"[\"a\", \"b\"]", "expected one JSON object"},
        {"{}", "no token"},
        {"{\"a\": 0, \"b\": 0}", "two tokens have the id 0"},
        {"{\"a\": -1}", "id -1: expected 0 to"},
        {"{\"a\": 1048576}", "id 1048576: expected 0 to 1048575"},
        {"{\"a\": 9223372036854775807}", "id 9223372036854775807"},
        {"{\"a\": \"0\"}", "token \"a\": its id is not an integer"},
        {"{\"a\": 0.0}", "not an integer"},
        {"{\"a\": null}", "not an integer"},
        {"{\"a\": {\"b\": 1}}", "not an integer"},
        {"{\"\": 0}", "token 0 is empty"},
        {"{\"a b\": 0}", "stands for no byte"},      // a space is written otherwise
        {"{\"\xC5\x84\": 0}", "stands for no byte"}, // U+0144, the first beyond the alphabet
        {"{\"\xC2\xAD\": 0}", "stands for no byte"}, // U+00AD, soft hyphen
        {"{\"\xE2\x82\xAC\": 0}", "stands for no byte"},
    };
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        write_json(CASES[i].vocab, "#version: 0.2\n");
        assert_refused(dir.path, CASES[i].expected);
        assert_refused(dir.path, "/vocab.json: ");
    }
    char deep[8000] = "{\"a\":";
    memset(deep + 5, '[', sizeof deep - 6);
    write_json(deep, "#version: 0.2\n");
    assert_refused(dir.path, "/vocab.json: ");
}

static void merges_txt_is_proved(void **state) {
    (void)state;
    static const char VOCAB[] = "{\"a\": 0, \"b\": 1, \"ab\": 2, \"aba\": 3}";
    static const struct {
        const char *merges, *expected;
    } CASES[] = {
        {"#version: 0.2\na b\nab", "line 3: expected two tokens"},
        {"a b c\n", "line 1: expected two tokens"},
        {"a  b\n", "line 1: expected two tokens"},
        {" b\n", "line 1: expected two tokens"},
        {"a \n", "line 1: expected two tokens"},
        {"a\tb\n", "line 1: expected two tokens"},
        {"a b\n#version: 0.2\n", "line 2: token \"#version:\" is not in vocab.json"},
        {"c b\n", "line 1: token \"c\" is not in vocab.json"},
        {"a b\n\na c\n", "line 3: token \"c\" is not in vocab.json"},
        {"b a\n", "line 1: token \"ba\" is not in vocab.json"},
        {"a b\r\nab a\r\na b\r\n", "line 3: the same merge"},
        {"\xEF\xBB\xBF"
         "a b\n",
         "line 1: token \"\xEF\xBB\xBF"
         "a\" is not in"},
        {"\xFF\xFE b\n", "line 1: token"},
    };
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        write_json(VOCAB, CASES[i].merges);
        assert_refused(dir.path, CASES[i].expected);
        assert_refused(dir.path, "/merges.txt: ");
    }
    scratch_dir_write(&dir, "merges.txt", "a\0b b\n", 6);
    assert_refused(dir.path, "/merges.txt: line 1: expected two tokens");
    scratch_dir_write(&dir, "merges.txt", "", 0);
    assert_refused(dir.path, "/merges.txt: ");
}

static void assert_encodes(const struct tokenizer *tokenizer, const char *text, const int32_t *expected,
                           size_t count) {
    int32_t *ids = fixture_encode(tokenizer, text, strlen(text));
    assert_ids_equal(ids, arrlenu(ids), expected, count);
    arrfree(ids);
}

// Line ends, a missing last one, empty lines and a missing version line change nothing.
static void merges_txt_has_variants(void **state) {
    (void)state;
    static const char *const MERGES[] = {"#version: 0.2\na b\nab a\n", "#version: 0.2\r\na b\r\nab a\r\n",
                                         "a b\nab a", "\na b\n\nab a\n\n"};
    for (int i = 0; i < 4; i++) {
        write_json("{\"a\": 0, \"b\": 1, \"ab\": 2, \"aba\": 5}", MERGES[i]);
        struct tokenizer *tokenizer = fixture_tokenizer(dir.path);
        assert_encodes(tokenizer, "abaabb", (const int32_t[]){5, 2, 1}, 3);
        tokenizer_close(tokenizer);
    }
    write_json("{\"a\": 0, \"b\": 1}", "#version: 0.2\n"); // no merge at all
    struct tokenizer *tokenizer = fixture_tokenizer(dir.path);
    assert_encodes(tokenizer, "ab", (const int32_t[]){0, 1}, 2);
    tokenizer_close(tokenizer);
}

// Ids may leave gaps and bytes may be missing: only a text or an id that needs them is refused.
static void gaps_are_refused_when_met(void **state) {
    (void)state;
    write_json("{\"a\": 0, \"b\": 1, \"ab\": 5}", "a b\n");
    struct tokenizer *tokenizer = fixture_tokenizer(dir.path);
    assert_int_equal(tokenizer_vocab_size(tokenizer), 6);
    assert_int_equal(tokenizer_end_of_text(tokenizer), -1);
    struct error error;
    int32_t *ids = NULL;
    arrput(ids, 7);
    assert_int_equal(tokenizer_encode(tokenizer, "ab \n", 4, &ids, &error), STATUS_FAILED);
    assert_non_null(strstr(error.message, "byte 0x20"));
    assert_int_equal(arrlen(ids), 1); // as before
    assert_int_equal(tokenizer_encode_special(tokenizer, "<|endoftext|>", 13, &ids, &error), STATUS_FAILED);
    arrfree(ids);
    char *bytes = NULL;
    assert_int_equal(tokenizer_decode(tokenizer, (const int32_t[]){5, 3}, 2, &bytes, &error), STATUS_USAGE);
    assert_non_null(strstr(error.message, "token id 3 at position 1"));
    arrfree(bytes);
    tokenizer_close(tokenizer);
}

// ---- llm.c's file
// --------------------------------------------------------------------------------------------

static struct tokenizer *through_llmc(const struct tokenizer *tokenizer, int32_t version, const char *open) {
    char *file = fixture_llmc_file(tokenizer, version);
    scratch_dir_write(&dir, "gpt2_tokenizer.bin", file, arrlenu(file));
    arrfree(file);
    struct tokenizer *reopened = fixture_tokenizer(open);
    assert_int_equal(tokenizer_vocab_size(reopened), tokenizer_vocab_size(tokenizer));
    assert_int_equal(tokenizer_end_of_text(reopened), tokenizer_end_of_text(tokenizer));
    return reopened;
}

static void llmc_file_gives_the_vectors(void **state) {
    (void)state;
    struct tokenizer *tokenizer = fixture_tokenizer(fixture_gpt2_directory());
    char path[512];
    in_dir("gpt2_tokenizer.bin", path);
    for (int32_t version = 1; version <= 2; version++) {
        struct tokenizer *reopened = through_llmc(tokenizer, version, path);
        assert_int_equal(assert_vectors(reopened), 489);
        tokenizer_close(reopened);
    }
    tokenizer_close(tokenizer);
}

// Its merges are in the order of their ids too, so the file loses nothing.
static void llmc_file_gives_shakespeare(void **state) {
    (void)state;
    struct tokenizer *tokenizer = fixture_tokenizer(SHAKESPEARE);
    struct tokenizer *reopened = through_llmc(tokenizer, 2, dir.path); // found in its directory
    size_t length;
    char *text = read_whole_file(HELD_OUT, &length);
    int32_t *expected = fixture_encode(tokenizer, text, length),
            *ids = fixture_encode(reopened, text, length);
    assert_ids_equal(ids, arrlenu(ids), expected, arrlenu(expected));
    arrfree(ids);
    arrfree(expected);
    free(text);
    tokenizer_close(reopened);
    tokenizer_close(tokenizer);
}

static void assert_llmc_refused(const char *file, size_t size, const char *expected) {
    char path[512];
    in_dir("gpt2_tokenizer.bin", path);
    scratch_dir_write(&dir, "gpt2_tokenizer.bin", file, size);
    assert_refused(path, expected);
    assert_refused(path, "/gpt2_tokenizer.bin: ");
}

static void set_field(char *file, int field, int32_t value) {
    for (int byte = 0; byte < 4; byte++) file[4 * field + byte] = (char)((uint32_t)value >> 8 * byte);
}

static void assert_field_refused(const char *file, int field, int32_t value, const char *expected) {
    char *changed = NULL;
    memcpy(arraddnptr(changed, arrlenu(file)), file, arrlenu(file));
    set_field(changed, field, value);
    assert_llmc_refused(changed, arrlenu(changed), expected);
    arrfree(changed);
}

// Its letters may be there as other tokens: only the literal text where it is asked for becomes end-of-text.
static void llmc_end_of_text_is_not_joined(void **state) {
    (void)state;
    write_json("{\"a\": 0, \"b\": 1, \"ab\": 2, \"ba\": 3}", "#version: 0.2\n");
    struct tokenizer *tokenizer = fixture_tokenizer(dir.path);
    char *file = fixture_llmc_file(tokenizer, 2), path[512];
    tokenizer_close(tokenizer);
    set_field(file, 3, 2);
    scratch_dir_write(&dir, "gpt2_tokenizer.bin", file, arrlenu(file));
    arrfree(file);

    in_dir("gpt2_tokenizer.bin", path);
    tokenizer = fixture_tokenizer(path);
    assert_encodes(tokenizer, "abba", (const int32_t[]){0, 1, 3}, 3);
    int32_t *ids = NULL;
    struct error error;
    assert_int_equal(tokenizer_encode_special(tokenizer, "abba", 4, &ids, &error), STATUS_OK);
    assert_ids_equal(ids, arrlenu(ids), (const int32_t[]){2, 3}, 2);
    arrfree(ids);
    tokenizer_close(tokenizer);
}

static void llmc_file_is_proved(void **state) {
    (void)state;
    struct tokenizer *tokenizer = fixture_tokenizer(SHAKESPEARE);
    char *file = fixture_llmc_file(tokenizer, 2);
    tokenizer_close(tokenizer);
    assert_field_refused(file, 0, 20240326, "this is a model checkpoint");
    assert_field_refused(file, 0, 12, "magic number 12, expected 20240328");
    assert_field_refused(file, 1, 3, "version 3, expected 1 or 2");
    assert_field_refused(file, 1, 1, "end-of-text is token 50256"); // what version 1 implies
    assert_field_refused(file, 2, 0, "0 tokens, expected");
    assert_field_refused(file, 2, -1, "-1 tokens, expected");
    assert_field_refused(file, 2, INT32_MAX, "tokens, expected 1 to 1048576");
    assert_field_refused(file, 2, 1025, "cut off in token 1024 of 1025");
    assert_field_refused(file, 2, 1023, "bytes follow the last");
    assert_field_refused(file, 3, -1, "end-of-text is token -1");
    assert_field_refused(file, 3, 1024, "end-of-text is token 1024");
    assert_llmc_refused(file, 3, "not an llm.c tokenizer");
    assert_llmc_refused(file, 1023, "cut off: 1023 bytes");
    assert_llmc_refused(file, 1024, "cut off in token 0");
    assert_llmc_refused(file, 1025, "cut off in token 0");
    assert_llmc_refused(file, arrlenu(file) - 1, "cut off in token 1023");
    char *second = file + 1024 + 1 + file[1024]; // "!", one byte
    second[1] = '"';
    assert_llmc_refused(file, arrlenu(file), "tokens 1 and 2 are the same bytes");
    second[0] = 0;
    assert_llmc_refused(file, arrlenu(file), "token 1 is empty");
    arrfree(file);
}

// ---- where a tokenizer is looked for
// -------------------------------------------------------------------------

static void places_without_a_tokenizer(void **state) {
    (void)state;
    char path[512], longer[5000];
    in_dir("nothing", path);
    assert_refused(path, "/nothing: No such file");
    assert_refused(dir.path, "expected vocab.json and merges.txt, or gpt2_tokenizer.bin");
    assert_refused("", ": No such file");
    memset(longer, '/', sizeof longer - 1); // the root directory, by a long name
    longer[4090] = '\0';
    assert_refused(longer, "too long");

    scratch_dir_write(&dir, "vocab.json", "{\"a\": 0}", 8);
    assert_refused(dir.path, "/merges.txt: ");
    in_dir("vocab.json", path);
    assert_refused(path, "name their directory"); // a file of the other format
    scratch_dir_delete(&dir, "vocab.json");
    scratch_dir_write(&dir, "merges.txt", "a b\n", 4);
    assert_refused(dir.path, "/vocab.json: ");
    scratch_dir_delete(&dir, "merges.txt");

    in_dir("gpt2_tokenizer.bin", path);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_refused(path, "/gpt2_tokenizer.bin: "); // and is not waited for
}

static void giant_files_are_not_read(void **state) {
    (void)state;
    char path[512];
    scratch_dir_write(&dir, "merges.txt", "a b\n", 4);
    static const char *const NAMES[] = {"vocab.json", "gpt2_tokenizer.bin"};
    for (int i = 0; i < 2; i++) {
        in_dir(NAMES[i], path);
        FILE *file = fopen(path, "wb");
        assert_non_null(file);
        assert_int_equal(fseek(file, (16 << 20), SEEK_SET), 0); // a hole: no disk is used
        assert_int_equal(fputc('x', file), 'x');
        assert_int_equal(fclose(file), 0);
        assert_refused(i == 0 ? dir.path : path, "16777217 bytes are no vocabulary file");
    }
}

#define in_scratch_dir(test) cmocka_unit_test_setup_teardown(test, make_dir, remove_dir)

int main(void) {
    const struct CMUnitTest tests[] = {
        in_scratch_dir(vocab_json_is_proved),           in_scratch_dir(merges_txt_is_proved),
        in_scratch_dir(merges_txt_has_variants),        in_scratch_dir(gaps_are_refused_when_met),
        in_scratch_dir(llmc_file_gives_the_vectors),    in_scratch_dir(llmc_file_gives_shakespeare),
        in_scratch_dir(llmc_end_of_text_is_not_joined), in_scratch_dir(llmc_file_is_proved),
        in_scratch_dir(places_without_a_tokenizer),     in_scratch_dir(giant_files_are_not_read),
    };
    return cmocka_run_group_tests_name("vocab_files", tests, NULL, NULL);
}
