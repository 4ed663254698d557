// The small parts between tokens and what a person reads: stop texts, JSON strings, guesses at names.
#include "cli/json_text.h"
#include "cli/options.h"
#include "cli/stop_filter.h"

#include <math.h>
#include <setjmp.h>
#include <stb/stb_ds.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

// Feeds `text` in pieces of `piece` bytes; *stopped says whether a stop text was met. The caller frees.
static char *filtered(const char *const *stops, size_t count, const char *text, size_t piece, bool *stopped) {
    struct stop_filter filter = {.stops = stops, .count = count};
    char *shown = NULL;
    *stopped = false;
    for (size_t at = 0; at < strlen(text) && !*stopped; at += piece) {
        size_t left = strlen(text) - at;
        *stopped = stop_filter_push(&filter, text + at, left < piece ? left : piece, &shown);
    }
    stop_filter_finish(&filter, &shown);
    stop_filter_free(&filter);
    arrput(shown, '\0');
    char *copy = strdup(shown);
    arrfree(shown);
    assert_non_null(copy);
    return copy;
}

static void test_stop_filter(void **state) {
    (void)state;
    static const char *const stops[] = {"aab", "END", "ENDING", "x"};
    static const struct {
        const char *text, *shown;
        bool stopped;
    } cases[] = {
        {"", "", false},
        {"nothing to see", "nothing to see", false},
        {"aaab", "a", true}, // a start that fails may hold the next start
        {"aaaaaa", "aaaaaa", false},
        {"the END.", "the ", true},
        {"the ENDING", "the ", true},
        {"the EN", "the EN", false}, // held back, then given out
        {"aEaEN_aENx", "aEaEN_aEN", true},
        {"x", "", true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        for (size_t piece = 1; piece <= strlen(cases[i].text); piece++) {
            bool stopped;
            char *shown = filtered(stops, 4, cases[i].text, piece, &stopped);
            assert_string_equal(shown, cases[i].shown);
            assert_int_equal(stopped, cases[i].stopped);
            free(shown);
        }
    }
    bool stopped;
    char *shown = filtered(NULL, 0, "no stop texts at all", 3, &stopped);
    assert_string_equal(shown, "no stop texts at all");
    assert_false(stopped);
    free(shown);
}

#define U "\xef\xbf\xbd" // U+FFFD

static void test_json_text(void **state) {
    (void)state;
    // The examples of the Unicode standard, section 3.9 (tables 3-8 to 3-11), and plain ones.
    static const struct {
        const char *bytes, *text;
    } cases[] = {
        {"", ""},
        {"plain \xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80", "plain \xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80"},
        {"\xc0\xaf\xe0\x80\xbf\xf0\x81\x82\x41", U U U U U U U U "A"},
        {"\xed\xa0\x80\xed\xbf\xbf\xed\xaf\x41", U U U U U U U U "A"},
        {"\xf4\x91\x92\x93\xff\x41\x80\xbf\x42", U U U U U "A" U U "B"},
        {"\xe1\x80\xe2\xf0\x91\x92\xf1\xbf\x41", U U U U "A"},
        {"\xe2\x82", U},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        json_t *string = json_text(cases[i].bytes, strlen(cases[i].bytes));
        assert_string_equal(json_string_value(string), cases[i].text);
        json_decref(string);
    }
    json_t *zero = json_text("a\0b", 3);
    assert_int_equal(json_string_length(zero), 3);
    json_decref(zero);
}

static void test_json_number(void **state) {
    (void)state;
    const double odd[] = {(double)NAN, (double)INFINITY, -(double)INFINITY};
    for (size_t i = 0; i < 3; i++) {
        json_t *value = json_number(odd[i]);
        assert_true(json_is_null(value));
        json_decref(value);
    }
    json_t *value = json_number(1.5);
    assert_true(json_real_value(value) == 1.5);
    json_decref(value);
}

static void test_nearest_name(void **state) {
    (void)state;
    static const char *const names[] = {"batch", "prompt", "prompt-file", "temperature", "top-k", "top-p"};
    assert_string_equal(nearest_name("bacth", names, 6), "batch");
    assert_string_equal(nearest_name("temp", names, 6), "temperature");
    assert_string_equal(nearest_name("prompts", names, 6), "prompt");
    assert_string_equal(nearest_name("prompt_file", names, 6), "prompt-file");
    assert_string_equal(nearest_name("topp", names, 6), "top-p");
    assert_null(nearest_name("xyzzy", names, 6));
    assert_null(nearest_name("", names, 6));
    char huge[1000];
    memset(huge, 'p', sizeof huge);
    huge[sizeof huge - 1] = '\0';
    assert_null(nearest_name(huge, names, 6));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stop_filter),
        cmocka_unit_test(test_json_text),
        cmocka_unit_test(test_json_number),
        cmocka_unit_test(test_nearest_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
