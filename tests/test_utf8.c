// UTF-8 characters, and a stream that never shows half of one.
#include "tokenizer/tokenizer.h"
#include "tokenizer/utf8.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>
#include <stb/stb_ds.h>
#include <stdlib.h>
#include <string.h>

// The definition: x bits of the code point behind 0, 110, 1110 or 11110, six in each further byte.
static int encode(uint32_t point, char text[4]) {
    int size = point < 0x80 ? 1 : point < 0x800 ? 2 : point < 0x10000 ? 3 : 4;
    static const unsigned char START[] = {0, 0x00, 0xC0, 0xE0, 0xF0};
    for (int i = size - 1; i > 0; i--, point >>= 6) text[i] = (char)(0x80 | (point & 0x3F));
    text[0] = (char)(START[size] | point);
    return size;
}

static void every_character_is_found(void **state) {
    (void)state;
    for (uint32_t point = 0; point <= 0x10FFFF; point++) {
        char text[4];
        int size = encode(point, text), surrogate = point >= 0xD800 && point < 0xE000;
        if (utf8_character(text, 4) != (surrogate ? 0 : size)) fail_msg("U+%04X", point);
        for (size_t cut = 1; cut < (size_t)size && !surrogate; cut++) {
            if (utf8_character(text, cut) != -1) fail_msg("the first %zu bytes of U+%04X", cut, point);
        }
    }
}

// With every character found, nothing else is when their numbers are right.
static void nothing_else_is_a_character(void **state) {
    (void)state;
    int count[5] = {0}, prefixes[4] = {0};
    for (uint32_t bits = 0; bits < 1u << 24; bits++) {
        char text[3] = {(char)(bits >> 16), (char)(bits >> 8), (char)bits};
        if ((bits & 0xFFFF) == 0) count[1] += utf8_character(text, 1) == 1;
        if ((bits & 0xFFFF) == 0) prefixes[1] += utf8_character(text, 1) == -1;
        if ((bits & 0xFF) == 0) count[2] += utf8_character(text, 2) == 2;
        if ((bits & 0xFF) == 0) prefixes[2] += utf8_character(text, 2) == -1;
        count[3] += utf8_character(text, 3) == 3;
        prefixes[3] += utf8_character(text, 3) == -1;
    }
    for (uint32_t bits = 0; bits < 1u << 24; bits++) { // of four bytes, those that continue or just do not
        char text[4] = {(char)(0xF0 | (bits >> 20 & 0xF)), (char)(bits >> 12),
                        (char)(0x70 + (bits >> 6 & 0x3F)), (char)(0x70 + (bits & 0x3F))};
        count[4] += utf8_character(text, 4) == 4;
    }
    assert_int_equal(count[1], 0x80);
    assert_int_equal(count[2], 0x800 - 0x80);
    assert_int_equal(count[3], 0x10000 - 0x800 - 0x800);     // less the surrogates
    assert_int_equal(count[4], 0x100000 / 0x1000 * 48 * 48); // third and fourth byte 0x80 .. 0xAF
    assert_int_equal(prefixes[1], 30 + 16 + 5);
    assert_int_equal(prefixes[2], 0x10000 / 64 - 0x800 / 64 - 0x800 / 64 + 0x100000 / 0x1000);
    assert_int_equal(prefixes[3], 0x100000 / 64);
}

static void push(struct utf8_stream *stream, const char *text, bool last, const char *expected) {
    char *bytes = NULL;
    utf8_stream_push(stream, text, strlen(text), last, &bytes);
    assert_int_equal(arrlenu(bytes), strlen(expected));
    if (*expected) assert_memory_equal(bytes, expected, strlen(expected));
    arrfree(bytes);
}

static void incomplete_characters_wait(void **state) {
    (void)state;
    struct utf8_stream stream = {0};
    push(&stream, "price: \xE2", false, "price: ");
    push(&stream, "\x82", false, "");
    push(&stream,
         "\xAC"
         "5 \xF0\x9F\x99",
         false,
         "\xE2\x82\xAC"
         "5 ");
    push(&stream, "", false, "");
    push(&stream, "\x82\xC3", false, "\xF0\x9F\x99\x82");
    push(&stream, "", true, "\xC3"); // the end: it will never be completed
    push(&stream, "", true, "");
}

static void impossible_characters_do_not_wait(void **state) {
    (void)state;
    struct utf8_stream stream = {0};
    push(&stream, "\x80\xFF\xC0", false, "\x80\xFF\xC0");
    push(&stream, "\xE2\x82", false, "");
    push(&stream, "x", false, "\xE2\x82x");
    push(&stream, "\xE2", false, "");
    push(&stream, "\xE2\x82", false, "\xE2"); // the second begins anew
    push(&stream, "\xAC", false, "\xE2\x82\xAC");
    push(&stream, "\xED", false, "");
    push(&stream, "\xA0", false, "\xED\xA0"); // half a surrogate
    push(&stream, "\xF4\x8F\xBF", false, "");
    push(&stream, "\xBF", true, "\xF4\x8F\xBF\xBF");
}

// Bytes at the end of `text` that may become a character.
static size_t waiting(const char *text, size_t length) {
    for (size_t i = 0; i < length;) {
        int size = utf8_character(text + i, length - i);
        if (size == -1) return length - i;
        i += size > 0 ? (size_t)size : 1;
    }
    return 0;
}

static void any_bytes_in_any_portions(void **state) {
    (void)state;
    static const unsigned char BYTES[] = {'a',  0x00, 0x80, 0x9F, 0xA0, 0xBF, 0xC1, 0xC3, 0xE0,
                                          0xE2, 0xED, 0xEF, 0xF0, 0xF1, 0xF4, 0xF5, 0xFF, 0x82};
    srand(3);
    for (int round = 0; round < 20000; round++) {
        char text[24], *bytes = NULL;
        size_t length = (size_t)(rand() % (int)sizeof text), done = 0;
        for (size_t i = 0; i < length; i++) text[i] = (char)BYTES[(size_t)rand() % sizeof BYTES];
        struct utf8_stream stream = {0};
        while (done < length) {
            size_t portion = 1 + (size_t)rand() % (length - done);
            utf8_stream_push(&stream, text + done, portion, false, &bytes);
            done += portion;
            assert_int_equal(arrlenu(bytes), done - waiting(text, done));
        }
        utf8_stream_push(&stream, NULL, 0, true, &bytes);
        assert_int_equal(arrlenu(bytes), length);
        if (length > 0) assert_memory_equal(bytes, text, length);
        arrfree(bytes);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_character_is_found),   cmocka_unit_test(nothing_else_is_a_character),
        cmocka_unit_test(incomplete_characters_wait), cmocka_unit_test(impossible_characters_do_not_wait),
        cmocka_unit_test(any_bytes_in_any_portions),
    };
    return cmocka_run_group_tests_name("utf8", tests, NULL, NULL);
}
