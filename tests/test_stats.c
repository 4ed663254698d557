// Statistics against values worked out by hand and published quantiles.
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include "measure/stats.h"
#include "tests/support/assert_close.h"

#define COUNT(array) ((int)(sizeof(array) / sizeof(array)[0]))

static void test_summary_of_known_samples(void **state) {
    (void)state;
    // sum 40, mean 5; squares 9 1 1 1 0 0 4 16 = 32, sd = sqrt(32 / 7); median (4 + 5) / 2
    const double samples[] = {9, 4, 4, 5, 2, 4, 5, 7};
    struct summary summary = stats_summarize(samples, COUNT(samples));
    assert_int_equal(summary.count, 8);
    assert_close(summary.mean, 5, 1e-12);
    assert_close(summary.median, 4.5, 1e-12);
    assert_close(summary.sd, 2.138089935299395, 1e-12);
    assert_close(summary.cv, 0.427617987059879, 1e-12);
    assert_close(summary.min, 2, 0);
    assert_close(summary.max, 9, 0);
    // 2.365 * sd / sqrt(8) = 2.365 * 0.755928946 = 1.787771957
    assert_close(summary.ci95_low, 5 - 1.787771957, 1e-8);
    assert_close(summary.ci95_high, 5 + 1.787771957, 1e-8);
}

static void test_one_sample_has_no_spread(void **state) {
    (void)state;
    const double sample = 12.5;
    struct summary summary = stats_summarize(&sample, 1);
    assert_close(summary.median, 12.5, 0);
    assert_close(summary.sd, 0, 0);
    assert_close(summary.ci95_low, 12.5, 0);
    assert_close(summary.ci95_high, 12.5, 0);
}

static void test_no_samples_are_all_zero(void **state) {
    (void)state;
    struct summary summary = stats_summarize(NULL, 0);
    assert_int_equal(summary.count, 0);
    assert_close(summary.median, 0, 0);
    assert_close(summary.ci95_high, 0, 0);
}

static void test_large_offset_keeps_its_spread(void **state) {
    (void)state;
    // A one-pass sum of squares loses this spread of 1 entirely.
    const double samples[] = {1e9 + 1, 1e9, 1e9 - 1};
    assert_close(stats_summarize(samples, COUNT(samples)).sd, 1, 1e-9);
}

static void test_percentiles_interpolate(void **state) {
    (void)state;
    const double samples[] = {40, 10, 30, 20}; // ranks 0..3
    assert_close(stats_percentile(samples, 4, 0), 10, 0);
    assert_close(stats_percentile(samples, 4, 25), 17.5, 1e-12); // rank 0.75
    assert_close(stats_percentile(samples, 4, 50), 25, 1e-12);
    assert_close(stats_percentile(samples, 4, 95), 38.5, 1e-12); // rank 2.85
    assert_close(stats_percentile(samples, 4, 100), 40, 0);
    const double equal[] = {7, 7, 7, 7, 1};
    assert_close(stats_percentile(equal, 5, 50), 7, 0);
    assert_close(stats_percentile(equal, 5, 0), 1, 0);
    assert_close(stats_percentile(equal, 1, 99), 7, 0);
}

static void test_student_quantiles(void **state) {
    (void)state;
    assert_close(stats_student_t95(1), 12.706, 5e-4);
    assert_close(stats_student_t95(4), 2.776, 5e-4);
    assert_close(stats_student_t95(30), 2.042, 5e-4);
    assert_close(stats_student_t95(40), 2.0211, 1e-4); // beyond the table
    assert_close(stats_student_t95(60), 2.0003, 1e-4);
    assert_close(stats_student_t95(120), 1.9799, 1e-4);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_summary_of_known_samples), cmocka_unit_test(test_one_sample_has_no_spread),
        cmocka_unit_test(test_no_samples_are_all_zero),  cmocka_unit_test(test_large_offset_keeps_its_spread),
        cmocka_unit_test(test_percentiles_interpolate),  cmocka_unit_test(test_student_quantiles),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
