// Cost and load against figures worked out by hand.
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include "measure/serving_cost.h"
#include "tests/support/assert_close.h"

static void test_price_of_a_million_tokens(void **state) {
    (void)state;
    // 3.60 USD an hour are 0.001 USD a second; 1e6 tokens at 2000 tok/s take 500 s.
    const struct pricing pricing = {.device_hour_usd = 3.6};
    const struct serving_cost cost = serving_cost(&pricing, 8, 200, 2000);
    assert_close(cost.usd_per_million_tokens, 0.5, 1e-12);
    assert_close(cost.device_hours_per_day, 0, 0);
    assert_close(cost.usd_per_day, 0, 0);
    assert_close(cost.concurrent_requests, 0, 0);
}

static void test_load_of_a_day(void **state) {
    (void)state;
    // A request of 200 tokens takes 0.1 s of the device at 2000 tok/s: 86400 of them take 8640 s = 2.4 h. One
    // arrives each second and stays as long as its batch of 8: 0.8 s.
    const struct pricing pricing = {.requests_per_day = 86400};
    struct serving_cost cost = serving_cost(&pricing, 8, 200, 2000);
    assert_close(cost.usd_per_million_tokens, 0, 0);
    assert_close(cost.device_hours_per_day, 2.4, 1e-12);
    assert_close(cost.usd_per_day, 0, 0);
    assert_close(cost.concurrent_requests, 0.8, 1e-12);
    // Ten times as many need one device all day long, with its batch always full.
    const struct pricing busy = {.device_hour_usd = 3.6, .requests_per_day = 864000};
    cost = serving_cost(&busy, 8, 200, 2000);
    assert_close(cost.device_hours_per_day, 24, 1e-9);
    assert_close(cost.usd_per_day, 86.4, 1e-9);
    assert_close(cost.concurrent_requests, 8, 1e-9);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_price_of_a_million_tokens),
        cmocka_unit_test(test_load_of_a_day),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
