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

static struct ratio ratio_of(const double *a, int a_count, const double *b, int b_count) {
    const struct summary old = stats_summarize(a, a_count), new = stats_summarize(b, b_count);
    return stats_ratio(&old, &new);
}

static void test_ratio_of_means(void **state) {
    (void)state;
    // Both have sd / mean = 0.1: v = 0.01 / 3 each, nu = 4, half width 2.776 sqrt(0.02 / 3) = 0.226659
    const double a[] = {9, 10, 11}, b[] = {18, 20, 22};
    struct ratio ratio = ratio_of(a, 3, b, 3);
    assert_close(ratio.value, 2, 1e-12);
    assert_close(ratio.low, 2 / 1.254403, 1e-5);
    assert_close(ratio.high, 2 * 1.254403, 1e-5);
    // v = 2.5 / 100^2 / 5 and 2 / 111^2 / 2, nu = 2.385 is taken as 2: t = 4.303
    const double c[] = {100, 102, 98, 101, 99}, d[] = {110, 112};
    ratio = ratio_of(c, 5, d, 2);
    assert_close(ratio.value, 1.11, 1e-12);
    assert_close(ratio.low, 1.056625, 1e-6);
    assert_close(ratio.high, 1.166072, 1e-6);
}

static void test_ratio_without_spread(void **state) {
    (void)state;
    const double one[] = {10}, many[] = {20, 20, 20}, other[] = {1e-200, 1.0000001e-200};
    struct ratio ratio = ratio_of(one, 1, many, 3);
    assert_close(ratio.value, 2, 0);
    assert_close(ratio.low, 0, 0); // not known
    ratio = ratio_of(many, 3, many, 3);
    assert_close(ratio.low, 1, 0);
    assert_close(ratio.high, 1, 0);
    assert_true(isfinite(ratio_of(many, 3, other, 2).low));
    const double huge[] = {1e308, 1.7e308}; // their sum is no number
    ratio = ratio_of(many, 3, huge, 2);
    assert_close(ratio.low, 0, 0);
}

// Sum of 12 uniform numbers less 6: near enough to normal. xorshift64 (Marsaglia 2003).
static double draw_normal(uint64_t *random) {
    double sum = -6;
    for (int i = 0; i < 12; i++) {
        *random ^= *random << 13;
        *random ^= *random >> 7;
        *random ^= *random << 17;
        sum += (double)(*random >> 11) / 9007199254740992.0;
    }
    return sum;
}

static void test_ratio_interval_holds_the_truth_19_times_in_20(void **state) {
    (void)state;
    uint64_t random = 42;
    const int trials = 20000;
    int held = 0;
    for (int trial = 0; trial < trials; trial++) {
        double a[5], b[8]; // true means 100 and 120, spreads of 4 % and 1 %
        for (int i = 0; i < 5; i++) a[i] = 100 + 4 * draw_normal(&random);
        for (int i = 0; i < 8; i++) b[i] = 120 + 1.2 * draw_normal(&random);
        const struct ratio ratio = ratio_of(a, 5, b, 8);
        held += ratio.low <= 1.2 && 1.2 <= ratio.high;
    }
    // Four standard errors of 20000 trials are 0.6 %; rounding the degrees of freedom down makes it a little
    // wider than it needs to be.
    assert_in_range(held, 0.944 * trials, 0.966 * trials);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_summary_of_known_samples),
        cmocka_unit_test(test_one_sample_has_no_spread),
        cmocka_unit_test(test_no_samples_are_all_zero),
        cmocka_unit_test(test_large_offset_keeps_its_spread),
        cmocka_unit_test(test_percentiles_interpolate),
        cmocka_unit_test(test_student_quantiles),
        cmocka_unit_test(test_ratio_of_means),
        cmocka_unit_test(test_ratio_without_spread),
        cmocka_unit_test(test_ratio_interval_holds_the_truth_19_times_in_20),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
