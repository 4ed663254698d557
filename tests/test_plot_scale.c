// Scales, ticks and labels against values worked out by hand.
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include "measure/plot_label.h"
#include "measure/plot_scale.h"

#include <stdlib.h>
#include <string.h>

static void assert_near(double found, double expected) {
    if (!(found > expected - 1e-9 && found < expected + 1e-9))
        fail_msg("found %.12g, expected %g", found, expected);
}

static void assert_ticks(const struct scale *scale, const double *expected, int count) {
    const struct ticks ticks = scale_ticks(scale);
    assert_int_equal(ticks.count, count);
    for (int i = 0; i < count; i++) assert_near(ticks.values[i] / expected[i], 1);
}
#define ASSERT_TICKS(scale, ...)                                                                             \
    assert_ticks(scale, (const double[]){__VA_ARGS__}, sizeof((const double[]){__VA_ARGS__}) / sizeof(double))

static void test_logarithmic(void **state) {
    (void)state;
    struct scale scale = scale_logarithmic(1, 10000, 0, 0);
    scale.from = 100;
    scale.to = 500;
    assert_near(scale_place(&scale, 1), 100);
    assert_near(scale_place(&scale, 100), 300);
    assert_near(scale_place(&scale, 10000), 500);
    assert_near(scale_place(&scale, 1e9), 500); // beyond the ends: at the ends
    assert_near(scale_place(&scale, 0), 100);
    assert_near(scale_place(&scale, -1), 100);
    ASSERT_TICKS(&scale, 1, 10, 100, 1000, 10000);
    scale = scale_logarithmic(1, 100, 0.25, 0); // half a decade beyond both ends
    assert_near(scale.low, -0.5);
    assert_near(scale.high, 2.5);
    ASSERT_TICKS(&scale, 1, 10, 100);
    scale = scale_logarithmic(2, 100, 0, 0);
    ASSERT_TICKS(&scale, 2, 5, 10, 20, 50, 100);
    scale = scale_logarithmic(900, 1100, 0, 0); // below one decade: even steps
    ASSERT_TICKS(&scale, 900, 950, 1000, 1050, 1100);
    scale = scale_logarithmic(1, 1e16, 0, 0); // many decades: every second
    ASSERT_TICKS(&scale, 1, 1e2, 1e4, 1e6, 1e8, 1e10, 1e12, 1e14, 1e16);
    scale = scale_logarithmic(7, 7, 0.1, 0.5); // a single value has room
    assert_near(scale.high - scale.low, 1);
}

static void test_linear(void **state) {
    (void)state;
    struct scale scale = scale_linear(10);
    scale.from = 300; // upwards on paper is down in y
    scale.to = 30;
    assert_near(scale_place(&scale, 0), 300);
    assert_near(scale_place(&scale, 5.4), 165);
    assert_near(scale_place(&scale, 10.8), 30);
    const struct ticks ticks = scale_ticks(&scale);
    assert_int_equal(ticks.count, 6); // 0, 2, 4 .. 10
    for (int i = 0; i < 6; i++) assert_near(ticks.values[i], 2 * i);
    scale = scale_linear(1.2);
    assert_near(scale_ticks(&scale).values[1], 0.5);
}

static void test_thinning(void **state) {
    (void)state;
    const double places[] = {0, 10, 20, 30, 44, 50}, widths[] = {8, 8, 8, 8, 8, 8};
    bool shown[6];
    scale_thin_labels(places, widths, 6, 2, shown);
    const bool expected[] = {true, true, true, true, false, true}; // 44 is too near to the last
    assert_memory_equal(shown, expected, sizeof expected);
    scale_thin_labels(places, widths, 6, 3, shown);
    const bool wider[] = {true, false, true, false, false, true};
    assert_memory_equal(shown, wider, sizeof wider);
    scale_thin_labels(places, widths, 1, 3, shown);
    assert_true(shown[0]);
    scale_thin_labels(places, widths, 0, 3, shown);
}

static void assert_number(double value, const char *expected) {
    char label[32];
    label_number(value, label, sizeof label);
    assert_string_equal(label, expected);
}

static void test_numbers(void **state) {
    (void)state;
    assert_number(0, "0");
    assert_number(0.5, "0.5");
    assert_number(950, "950");
    assert_number(999.96, "1k");
    assert_number(1000, "1k");
    assert_number(12500, "12.5k");
    assert_number(100000, "100k");
    assert_number(2e6, "2M");
    char label[32];
    label_quantity(4.1e12, "B/s", label, sizeof label);
    assert_string_equal(label, "4.1 TB/s");
}

static void assert_clean(const char *text, int most, const char *expected) {
    char clean[64];
    memset(clean, 'x', sizeof clean);
    label_clean(text, most, clean, sizeof clean);
    assert_string_equal(clean, expected);
}

static void test_clean(void **state) {
    (void)state;
    assert_clean("", 5, "");
    assert_clean("plain", 5, "plain");
    assert_clean("longer", 5, "long…");
    assert_clean("größer als", 5, "größ…");
    assert_clean("a\x1b[1m\n\x7f", 10, "a [1m  ");
    assert_clean("\xc2\x85|\xc2\xa0", 10, " |\xc2\xa0"); // a C1 control; a no-break space
    assert_clean("\xff\xed\xa0\x80", 10, "����");
    assert_clean("\xe2\x82", 10, "��"); // cut off
    char clean[8];
    label_clean("ääääääää", 100, clean, sizeof clean); // too small a buffer
    assert_string_equal(clean, "ä…");
}

static void test_wrap(void **state) {
    (void)state;
    assert_int_equal(label_wrap("one two three", 7), 7);
    assert_int_equal(label_wrap("one two three", 8), 7);
    assert_int_equal(label_wrap("one two three", 13), 13);
    assert_int_equal(label_wrap("unbroken", 3), 3);
    assert_int_equal(label_wrap("äöü", 2), 4);
    assert_int_equal(label_wrap("one\ntwo", 7), 3);
    assert_int_equal(label_wrap(" unbroken", 4), 4);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_logarithmic), cmocka_unit_test(test_linear), cmocka_unit_test(test_thinning),
        cmocka_unit_test(test_numbers),     cmocka_unit_test(test_clean),  cmocka_unit_test(test_wrap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
