// Ceilings and the engine's share of them, on a made-up device of known speed.
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include "base/clock.h"
#include "measure/ceilings.h"
#include "measure/measure_device.h"
#include "tests/support/assert_close.h"
#include "tests/support/fake_backend.h"
#include "tests/support/written_text.h"

#include <stdlib.h>
#include <string.h>

static struct fake_backend fake;

// Takes the place of the program's clock.
double clock_seconds(void) {
    return fake.now;
}

static int set_up(void **state) {
    (void)state;
    fake_backend_init(&fake);
    fake.base.config.channels = 64;
    fake.base.config.inner = 256;
    return 0;
}

static void test_ceilings_are_what_the_device_does(void **state) {
    (void)state;
    struct ceilings ceilings;
    struct error error;
    assert_int_equal(ceilings_measure(&fake.base, &ceilings, &error), STATUS_OK);
    assert_close(ceilings.bandwidth / 1e9, 1, 1e-9);
    assert_close(ceilings.matmul_rate / 1e12, 1, 1e-9);
    assert_close(ceilings.launch, 1e-6, 1e-15);
    fake.failing_probe = true;
    assert_int_equal(ceilings_measure(&fake.base, &ceilings, &error), STATUS_FAILED);
}

static void test_shares_of_the_bounds(void **state) {
    (void)state;
    const struct device_measurement_options options = {0};
    struct device_measurement measurement;
    struct error error;
    fake.bandwidth = 1e15; // products are bound by the rate alone, and get half of it
    assert_int_equal(measure_device(&fake.base, &options, &measurement, &error), STATUS_OK);
    for (int s = 0; s < MEASURED_SHAPES; s++)
        for (int i = 0; i < MEASURED_ROWS; i++) assert_close(measurement.shapes[s].share[i], 0.5, 1e-9);
    assert_int_equal(measurement.shapes[0].n, 192);
    assert_int_equal(measurement.shapes[3].k, 256);
    assert_int_equal(measurement.shapes[4].n, 97);
    fake.bandwidth = 1e6; // bound by memory: (97 x 64 + 64 + 97) x 4 bytes over what the product took
    assert_int_equal(measure_device(&fake.base, &options, &measurement, &error), STATUS_OK);
    assert_close(measurement.shapes[4].share[0], (97 * 64 + 64 + 97) * 4 / 1e6 / (4.0 * 97 * 64 / 1e12),
                 1e-3);
    assert_close(measurement.decode_ms_per_step, 1, 1e-9);
    // Weights: 16384 + 32768 matrix, 192 + 64 + 256 + 64 + 256 + 128 vector, 6208 head; f32, 1 ms, 1 MB/s
    assert_close(measurement.decode_share, 4.0 * (49152 + 960 + 6208) / 1e-3 / 1e6, 1e-6);
    assert_int_equal(fake.open_sessions, 0);
}

static void test_a_stop_flag_ends_it(void **state) {
    (void)state;
    fake.interrupt = 1;
    const struct device_measurement_options options = {.interrupt = &fake.interrupt};
    struct device_measurement measurement;
    struct error error;
    assert_int_equal(measure_device(&fake.base, &options, &measurement, &error), STATUS_INTERRUPTED);
}

static void test_reports_tell_the_shares(void **state) {
    (void)state;
    const struct device_measurement_options options = {0};
    struct device_measurement measurement;
    struct error error;
    fake.bandwidth = 1e15;
    assert_int_equal(measure_device(&fake.base, &options, &measurement, &error), STATUS_OK);
    FILE *file = written_text_open();
    device_measurement_write(&measurement, file);
    char *text = written_text_close(file);
    assert_non_null(strstr(text, "lm head"));
    assert_non_null(strstr(text, "M=1024"));
    assert_non_null(strstr(text, "50 %"));
    free(text);
    json_t *json = device_measurement_json(&measurement);
    assert_non_null(json);
    assert_int_equal(json_array_size(json_object_get(json, "products")), MEASURED_SHAPES * MEASURED_ROWS);
    assert_close(json_real_value(json_object_get(json_object_get(json, "decode"), "ms_per_step")), 1, 1e-9);
    json_decref(json);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_ceilings_are_what_the_device_does, set_up),
        cmocka_unit_test_setup(test_shares_of_the_bounds, set_up),
        cmocka_unit_test_setup(test_a_stop_flag_ends_it, set_up),
        cmocka_unit_test_setup(test_reports_tell_the_shares, set_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
