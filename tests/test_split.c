// GPT-2's split pattern. Expectations are read off the pattern itself:
//   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
#include "tokenizer/split.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

static struct split_pattern *pattern;
static struct split_walk walk;

static int open_pattern(void **state) {
    (void)state;
    struct error error;
    if (split_pattern_open(&pattern, &error) != STATUS_OK) return -1;
    return split_walk_open(&walk, pattern, &error) == STATUS_OK ? 0 : -1;
}

static int close_pattern(void **state) {
    (void)state;
    split_walk_close(&walk);
    split_pattern_close(pattern);
    return 0;
}

static size_t next(const char **piece) {
    size_t length;
    struct error error;
    if (split_next(&walk, piece, &length, &error) != STATUS_OK) fail_msg("%s", error.message);
    return length;
}

// `pieces` in order, NULL after the last; the text is their concatenation.
static void assert_pieces(const char *const *pieces) {
    char text[256] = "";
    for (int i = 0; pieces[i]; i++) strcat(text, pieces[i]);
    split_walk_start(&walk, text, strlen(text));
    for (int i = 0; pieces[i]; i++) {
        const char *piece;
        size_t length = next(&piece);
        if (length != strlen(pieces[i]) || memcmp(piece, pieces[i], length) != 0)
            fail_msg("\"%s\": piece %d is \"%.*s\", expected \"%s\"", text, i, (int)length, piece, pieces[i]);
    }
    const char *piece;
    assert_int_equal(next(&piece), 0);
    assert_int_equal(next(&piece), 0); // and stays at the end
}
#define PIECES(...) assert_pieces((const char *const[]){__VA_ARGS__, NULL})

static void text_is_split_by_the_pattern(void **state) {
    (void)state;
    PIECES("I", "'m", " you", "'re", " he", "'ll", " we", "'ve", " I", "'d", " it", "'s", " don", "'t");
    PIECES("I", "'", "M", " '", "S", " '", "tis", "'s", "it"); // contractions are lower case, and come first
    PIECES("abc", "123", "abc", " 4", "!?", " %", " ", " x");
    PIECES("end", "  ");
    PIECES("a", "  ", " b", "\n\n\n ", " c"); // the last space before a word goes with it
    PIECES("\n", "\n", "x", "\r\n");          // another kind is a piece of its own
    PIECES("\xC3\xA9t\xC3\xA9", " \xE6\x97\xA5\xE6\x9C\xAC", "\xEF\xBC\x91\xC2\xBD\xE2\x85\xA7"); // L, N
    PIECES("e", "\xCC\x81", "a");                                   // a combining mark is neither
    PIECES("a", "\xC2\xA0", "b", "\xE3\x80\x80\xE3\x80\x80", " c"); // no-break and ideographic spaces
    PIECES("a", "\xE1\xA0\x8E\xE2\x80\x8B", "b");                   // U+180E and U+200B are not spaces
    PIECES(" <|", "endoftext", "|>");
}

static void bytes_outside_utf8_stand_alone(void **state) {
    (void)state;
    PIECES("ab", "\xFF", "cd", "\x80", "\x80", " ", "\xC3", " e");
    PIECES("\xED", "\xA0", "\x80");         // a surrogate
    PIECES("\xE2", "\x82");                 // cut off
    PIECES("   ", "\xF5", "'s");            // text before it ends there
    PIECES("\xE2\x82\xAC", "\xE2", "\x82"); // right after a character that is whole
}

static int count_pieces(const char *text, size_t length) {
    const char *piece;
    int count = 0;
    for (split_walk_start(&walk, text, length); next(&piece) > 0;) count++;
    return count;
}

// White space between letters, between digits and between signs is always a piece of its own.
static bool splits_everything(uint32_t point) {
    static const char NEIGHBOURS[] = "a1!";
    for (int i = 0; i < 3; i++) {
        char text[5] = {NEIGHBOURS[i]};
        size_t length = 1;
        if (point < 0x80) {
            text[length++] = (char)point;
        } else if (point < 0x800) {
            text[length++] = (char)(0xC0 | point >> 6);
            text[length++] = (char)(0x80 | (point & 0x3F));
        } else {
            text[length++] = (char)(0xE0 | point >> 12);
            text[length++] = (char)(0x80 | (point >> 6 & 0x3F));
            text[length++] = (char)(0x80 | (point & 0x3F));
        }
        text[length++] = NEIGHBOURS[i];
        if (count_pieces(text, length) != 3) return false;
    }
    return true;
}

// Unicode's White_Space (PropList.txt), less the space itself, which joins what follows it.
static bool is_white_space(uint32_t point) {
    return (point >= 0x09 && point <= 0x0D) || point == 0x85 || point == 0xA0 || point == 0x1680 ||
           (point >= 0x2000 && point <= 0x200A) || point == 0x2028 || point == 0x2029 || point == 0x202F ||
           point == 0x205F || point == 0x3000;
}

static void white_space_is_unicodes(void **state) {
    (void)state;
    for (uint32_t point = 0; point < 0xD800; point++) {
        if (splits_everything(point) != is_white_space(point)) fail_msg("U+%04X", point);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_is_split_by_the_pattern),
        cmocka_unit_test(bytes_outside_utf8_stand_alone),
        cmocka_unit_test(white_space_is_unicodes),
    };
    return cmocka_run_group_tests_name("split", tests, open_pattern, close_pattern);
}
