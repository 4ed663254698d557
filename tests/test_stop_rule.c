// When repetitions are enough.
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include "measure/stop_rule.h"
#include "tests/support/assert_close.h"

static const struct stop_rule automatic = {.noise = 0.01};
static const double steady[] = {100, 100, 100, 100, 100, 100};
static const double noisy[] = {100, 110, 90, 105, 95, 100};

static void test_noise_is_the_relative_half_width(void **state) {
    (void)state;
    // mean 100, sd sqrt(250 / 4), t(4) 2.776: 2.776 sqrt(62.5 / 5) / 100
    assert_close(stop_rule_noise_of(noisy, 5), 2.776 * 3.5355339059327378 / 100, 1e-9);
    assert_close(stop_rule_noise_of(steady, 6), 0, 1e-15);
}

static void test_automatic_repetitions(void **state) {
    (void)state;
    assert_int_equal(stop_rule_wanted(&automatic, steady, 0, 0, -1), 5); // nothing is known yet
    assert_int_equal(stop_rule_wanted(&automatic, steady, 1, 1, 1), 5);
    assert_int_equal(stop_rule_wanted(&automatic, steady, 4, 4, 1), 5);
    assert_int_equal(stop_rule_wanted(&automatic, steady, 5, 5, 1), 5); // steady: enough
    assert_int_equal(stop_rule_wanted(&automatic, noisy, 5, 5, 1), 6);
    assert_int_equal(stop_rule_wanted(&automatic, noisy, 6, 20, 1), 6); // the time is up
    assert_int_equal(stop_rule_wanted(&automatic, noisy, 3, 27, 9), 5); // but not for the first five
}

static void test_a_long_run_is_repeated_once(void **state) {
    (void)state;
    assert_int_equal(stop_rule_wanted(&automatic, steady, 0, 0, 11), 1);
    assert_int_equal(stop_rule_wanted(&automatic, steady, 1, 11, 11), 1);
    assert_int_equal(stop_rule_wanted(&automatic, steady, 1, 9, 9), 5); // the estimate was too high
}

static void test_a_number_or_a_time_that_was_asked_for(void **state) {
    (void)state;
    const struct stop_rule three = {.reps = 3, .noise = 0.01};
    const struct stop_rule brief = {.noise = 0.01, .max_seconds = 2};
    const struct stop_rule patient = {.noise = 0.01, .max_seconds = 60};
    assert_int_equal(stop_rule_wanted(&three, steady, 0, 0, 100), 3);
    assert_int_equal(stop_rule_wanted(&three, steady, 3, 300, 100), 3);
    assert_int_equal(stop_rule_wanted(&brief, noisy, 0, 0, 3), 5); // one repetition is always made
    assert_int_equal(stop_rule_wanted(&brief, noisy, 1, 3, 3), 1);
    assert_int_equal(stop_rule_wanted(&patient, noisy, 6, 30, 5), 7);
}

static void test_there_is_an_end(void **state) {
    (void)state;
    double samples[STOP_RULE_MOST];
    for (int i = 0; i < STOP_RULE_MOST; i++) samples[i] = 1 + i % 2;
    assert_int_equal(stop_rule_wanted(&automatic, samples, STOP_RULE_MOST - 1, 1, 0.01), STOP_RULE_MOST);
    assert_int_equal(stop_rule_wanted(&automatic, samples, STOP_RULE_MOST, 1, 0.01), STOP_RULE_MOST);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_noise_is_the_relative_half_width),
        cmocka_unit_test(test_automatic_repetitions),
        cmocka_unit_test(test_a_long_run_is_repeated_once),
        cmocka_unit_test(test_a_number_or_a_time_that_was_asked_for),
        cmocka_unit_test(test_there_is_an_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
