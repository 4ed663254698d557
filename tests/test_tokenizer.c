// Text to token ids and back: the reference vectors of GPT-2's vocabulary, the bundled vocabulary against its
// expected ids, and every kind of bytes.
#include "support/golden.h"
#include "support/scratch_dir.h"
#include "support/tokenizer_fixture.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>
#include <jansson.h>
#include <omp.h>
#include <stb/stb_ds.h>
#include <stdlib.h>
#include <string.h>

#define SHAKESPEARE "models/shakespeare"
#define EXPECTED "tests/data/shakespeare/expected.json"
#define HELD_OUT "tests/data/shakespeare/heldout.txt"

// ---- GPT-2's vocabulary
// --------------------------------------------------------------------------------------

static void gpt2_vectors(void **state) {
    (void)state;
    struct tokenizer *tokenizer = fixture_tokenizer(fixture_gpt2_directory());
    assert_int_equal(tokenizer_vocab_size(tokenizer), 50257);
    assert_int_equal(tokenizer_end_of_text(tokenizer), 50256);
    assert_int_equal(assert_vectors(tokenizer), 489);
    tokenizer_close(tokenizer);
}

// ---- the bundled vocabulary
// ----------------------------------------------------------------------------------

static char *expected_text(const char *key) {
    json_t *root = json_load_file(EXPECTED, 0, NULL);
    char *text = json_is_string(json_object_get(root, key))
                     ? strdup(json_string_value(json_object_get(root, key)))
                     : NULL;
    json_decref(root);
    assert_non_null(text);
    return text;
}

static void assert_expected(const struct tokenizer *tokenizer, const char *text_key, const char *ids_key) {
    char *text = expected_text(text_key);
    int count;
    int32_t *expected = golden_load_ids(EXPECTED, ids_key, &count);
    int32_t *ids = fixture_encode(tokenizer, text, strlen(text));
    assert_ids_equal(ids, arrlenu(ids), expected, (size_t)count);
    assert_round_trip(tokenizer, text, strlen(text));
    arrfree(ids);
    free(expected);
    free(text);
}

static void shakespeare_expected(void **state) {
    (void)state;
    struct tokenizer *tokenizer = fixture_tokenizer(SHAKESPEARE);
    assert_int_equal(tokenizer_vocab_size(tokenizer), 1024);
    assert_int_equal(tokenizer_end_of_text(tokenizer), 0);
    assert_expected(tokenizer, "greedy_prompt", "greedy_prompt_ids");
    assert_expected(tokenizer, "greedy_text", "greedy_ids");

    size_t length;
    char *text = read_whole_file(HELD_OUT, &length);
    int window;
    int32_t *first_window = golden_load_ids(EXPECTED, "first_window_tokens", &window);
    int32_t *ids = fixture_encode(tokenizer, text, length);
    assert_int_equal(arrlen(ids), 24738); // val_tokens
    assert_ids_equal(ids, (size_t)window, first_window, (size_t)window);
    arrfree(ids);
    free(first_window);
    free(text);
    tokenizer_close(tokenizer);
}

// A word by the definition of byte-pair encoding: each merge of merges.txt in turn, wherever it applies.
// Words of lower-case letters only, which are written as themselves.
static void encode_by_definition(const char *merges, const char *word, char parts[][64], int *count) {
    *count = (int)strlen(word);
    for (int i = 0; i < *count; i++) memcpy(parts[i], (char[]){word[i], '\0'}, 2);
    char left[64], right[64];
    for (const char *line = strchr(merges, '\n'); line && line[1]; line = strchr(line + 1, '\n')) {
        assert_int_equal(sscanf(line + 1, "%63s %63s", left, right), 2);
        for (int i = 0; i + 1 < *count; i++) {
            if (strcmp(parts[i], left) != 0 || strcmp(parts[i + 1], right) != 0) continue;
            strcat(parts[i], right);
            memmove(parts + i + 1, parts + i + 2, (size_t)(*count - i - 2) * sizeof *parts);
            --*count;
        }
    }
}

static void assert_parts(const struct tokenizer *tokenizer, const char *word, char parts[][64], int count) {
    int32_t *ids = fixture_encode(tokenizer, word, strlen(word));
    assert_int_equal(arrlen(ids), count);
    for (int i = 0; i < count; i++) {
        size_t length;
        const char *bytes = tokenizer_token(tokenizer, ids[i], &length);
        assert_int_equal(length, strlen(parts[i]));
        assert_memory_equal(bytes, parts[i], length);
    }
    arrfree(ids);
}

static void merges_follow_the_definition(void **state) {
    (void)state;
    struct tokenizer *tokenizer = fixture_tokenizer(SHAKESPEARE);
    char *merges = read_whole_file(SHAKESPEARE "/merges.txt", NULL);
    static char parts[64][64];
    char word[41] = "";
    srand(7);
    for (int round = 0; round < 300; round++) {
        int length = 1 + rand() % 40, count;
        // Few different letters make long tokens and runs; many make the usual short ones.
        const char *letters = round % 2 ? "theor" : "abcdefghijklmnopqrstuvwxyz";
        for (int i = 0; i < length; i++) word[i] = letters[(size_t)rand() % strlen(letters)];
        word[length] = '\0';
        encode_by_definition(merges, word, parts, &count);
        assert_parts(tokenizer, word, parts, count);
    }
    free(merges);
    tokenizer_close(tokenizer);
}

// ---- <|endoftext|>
// -------------------------------------------------------------------------------------------

static void special_becomes_one_token(void **state) {
    (void)state;
    struct tokenizer *tokenizer = fixture_tokenizer(SHAKESPEARE);
    static const char text[] = "<|endoftext|>a<|endoftext|><|endoftext|> b<|endoftext|<|<|endoftext|>";
    int32_t *expected = NULL, *ids = NULL;
    const char *between[] = {"", "a", "", " b<|endoftext|<|", ""};
    for (int i = 0; i < 5; i++) {
        if (i > 0) arrput(expected, 0);
        int32_t *part = fixture_encode(tokenizer, between[i], strlen(between[i]));
        for (int j = 0; j < arrlen(part); j++) arrput(expected, part[j]);
        arrfree(part);
    }
    struct error error;
    arrput(ids, 5); // appended to, not replaced
    assert_int_equal(tokenizer_encode_special(tokenizer, text, strlen(text), &ids, &error), STATUS_OK);
    assert_int_equal(ids[0], 5);
    assert_ids_equal(ids + 1, arrlenu(ids) - 1, expected, arrlenu(expected));
    arrfree(ids);

    ids = fixture_encode(tokenizer, text, strlen(text));
    for (int i = 0; i < arrlen(ids); i++) assert_int_not_equal(ids[i], 0);
    assert_round_trip(tokenizer, text, strlen(text));
    arrfree(ids);
    arrfree(expected);
    tokenizer_close(tokenizer);
}

// ---- every kind of bytes
// -------------------------------------------------------------------------------------

// Fills `bytes` with one of several mixtures, from plain text to noise with broken UTF-8 in it.
static void random_bytes(int mixture, char *bytes, int length) {
    static const char *const FRAGMENTS[] = {
        "\xC3\xA9",
        "\xE2\x80\xA6",
        "\xF0\x9F\x99\x82", // valid
        "\xC0\xAF",
        "\xE0\x80\x80",
        "\xF0\x80\x80\x80", // overlong
        "\xED\xA0\x80",
        "\xED\xBF\xBF", // surrogates
        "\xF4\x90\x80\x80",
        "\xF5\x80",
        "\xFF", // beyond Unicode
        "\x80",
        "\xBF\xBF", // continuation without a start
        "\xE2\x80",
        "\xF0\x9F\x99",
        "\xC3", // cut off
        " ",
        "\xC2\xA0",
        "\xE3\x80\x80", // spaces
        "'ll",
        "12",
        "<|endoftext|>",
    };
    for (int i = 0; i < length;) {
        const char *fragment = FRAGMENTS[(size_t)rand() % (sizeof FRAGMENTS / sizeof *FRAGMENTS)];
        if (mixture == 0 || (mixture == 2 && rand() % 3 == 0)) {
            bytes[i++] = (char)(rand() % 256);
        } else if (mixture == 1) {
            bytes[i++] = (char)(32 + rand() % 95);
        } else {
            for (; *fragment && i < length; fragment++) bytes[i++] = *fragment;
        }
    }
}

static void assert_all_bytes_round_trip(const struct tokenizer *tokenizer) {
    char bytes[600];
    for (int byte = 0; byte < 256; byte++) {
        bytes[0] = (char)byte;
        assert_round_trip(tokenizer, bytes, 1);
        memset(bytes, byte, 3);
        assert_round_trip(tokenizer, bytes, 3);
    }
    srand(11);
    for (int round = 0; round < 600; round++) {
        int length = rand() % (int)sizeof bytes;
        random_bytes(round % 4, bytes, length);
        assert_round_trip(tokenizer, bytes, (size_t)length);
    }
    assert_round_trip(tokenizer, NULL, 0);
}

static void shakespeare_round_trip(void **state) {
    (void)state;
    struct tokenizer *tokenizer = fixture_tokenizer(SHAKESPEARE);
    assert_all_bytes_round_trip(tokenizer);
    tokenizer_close(tokenizer);
}

static void gpt2_round_trip(void **state) {
    (void)state;
    struct tokenizer *tokenizer = fixture_tokenizer(fixture_gpt2_directory());
    assert_all_bytes_round_trip(tokenizer);
    tokenizer_close(tokenizer);
}

// Each run is one piece, or a piece per byte where it is not UTF-8. Quadratic work would take hours.
static void assert_long_runs_finish(const struct tokenizer *tokenizer) {
    static const char *const UNITS[] = {"a", " ", "\n", "7", "!", "\x80", "\xE3\x81\x82", "ha", "\xC2\xA0"};
    enum { LENGTH = 1 << 20 };
    char *text = malloc(LENGTH);
    assert_non_null(text);
    for (size_t unit = 0; unit < sizeof UNITS / sizeof *UNITS; unit++) {
        size_t period = strlen(UNITS[unit]);
        for (size_t i = 0; i < LENGTH; i++) text[i] = UNITS[unit][i % period];
        assert_round_trip(tokenizer, text, LENGTH);
    }
    free(text);
}

static void shakespeare_long_runs(void **state) {
    (void)state;
    struct tokenizer *tokenizer = fixture_tokenizer(SHAKESPEARE);
    assert_long_runs_finish(tokenizer);
    tokenizer_close(tokenizer);
}

static void gpt2_long_runs(void **state) {
    (void)state;
    struct tokenizer *tokenizer = fixture_tokenizer(fixture_gpt2_directory());
    assert_long_runs_finish(tokenizer);
    tokenizer_close(tokenizer);
}

// ---- threads and refusals
// ------------------------------------------------------------------------------------

static void threads_share_a_tokenizer(void **state) {
    (void)state;
    struct tokenizer *tokenizer = fixture_tokenizer(SHAKESPEARE);
    size_t length;
    char *text = read_whole_file(HELD_OUT, &length);
    int32_t *expected = fixture_encode(tokenizer, text, length);
    int different = 0;
#pragma omp parallel for num_threads(4) reduction(+ : different)
    for (int i = 0; i < 8; i++) {
        int32_t *ids = NULL;
        struct error error;
        enum status status = tokenizer_encode(tokenizer, text, length, &ids, &error);
        different += status != STATUS_OK || arrlen(ids) != arrlen(expected) ||
                     memcmp(ids, expected, arrlenu(ids) * sizeof *ids) != 0;
        arrfree(ids);
    }
    assert_int_equal(different, 0);
    arrfree(expected);
    free(text);
    tokenizer_close(tokenizer);
}

static void unknown_ids_are_refused(void **state) {
    (void)state;
    struct tokenizer *tokenizer = fixture_tokenizer(SHAKESPEARE);
    const int32_t bad[] = {-1, 1024, INT32_MAX, INT32_MIN};
    for (int i = 0; i < 4; i++) {
        struct error error = {0};
        char *bytes = NULL;
        size_t length = 1;
        assert_null(tokenizer_token(tokenizer, bad[i], &length));
        arrput(bytes, 'x');
        int32_t ids[] = {5, bad[i]};
        assert_int_equal(tokenizer_decode(tokenizer, ids, 2, &bytes, &error), STATUS_USAGE);
        assert_int_equal(arrlen(bytes), 1); // as before
        assert_non_null(strstr(error.message, "position 1"));
        arrfree(bytes);
    }
    tokenizer_close(tokenizer);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gpt2_vectors),
        cmocka_unit_test(shakespeare_expected),
        cmocka_unit_test(merges_follow_the_definition),
        cmocka_unit_test(special_becomes_one_token),
        cmocka_unit_test(shakespeare_round_trip),
        cmocka_unit_test(gpt2_round_trip),
        cmocka_unit_test(shakespeare_long_runs),
        cmocka_unit_test(gpt2_long_runs),
        cmocka_unit_test(threads_share_a_tokenizer),
        cmocka_unit_test(unknown_ids_are_refused),
    };
    return cmocka_run_group_tests_name("tokenizer", tests, NULL, NULL);
}
