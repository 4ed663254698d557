// The sensors of a made-up management library, watched by the real thread.
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include "measure/telemetry.h"
#include "tests/support/assert_close.h"

#include <math.h>
#include <stb/stb_ds.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

static atomic_int reads, open_count;
static unsigned processes;
static unsigned long long limits;
static int the_device;

static int fake_init(void) {
    open_count++;
    return NVML_SUCCESS;
}
static int fake_shutdown(void) {
    open_count--;
    return NVML_SUCCESS;
}
static int fake_device(const char *pci_bus_id, void **device) {
    *device = &the_device;
    return strcmp(pci_bus_id, "0000:1b:00.0") == 0 ? NVML_SUCCESS : 6; // not found
}
static int fake_clock(void *device, int type, unsigned *mhz) {
    assert_ptr_equal(device, &the_device);
    reads += type == NVML_CLOCK_SM;
    *mhz = type == NVML_CLOCK_SM ? 1980 : 3201;
    return NVML_SUCCESS;
}
static int fake_power(void *device, unsigned *milliwatts) {
    (void)device;
    *milliwatts = 412500;
    return NVML_SUCCESS;
}
static int fake_temperature(void *device, int sensor, unsigned *celsius) {
    (void)device, (void)sensor;
    *celsius = 12345;
    return 3; // not supported: the value means nothing
}
static int fake_limits(void *device, unsigned long long *found) {
    (void)device;
    *found = limits;
    return NVML_SUCCESS;
}
static int fake_processes(void *device, unsigned *count, struct nvml_process *room) {
    (void)device;
    assert_int_equal(*count, 0);
    assert_null(room);
    *count = processes;
    return processes > 0 ? NVML_ERROR_INSUFFICIENT_SIZE : NVML_SUCCESS;
}

// Without utilization, as if the library were too old.
static const struct nvml library = {.init = fake_init,
                                    .shutdown = fake_shutdown,
                                    .device_by_pci_bus_id = fake_device,
                                    .clock = fake_clock,
                                    .power = fake_power,
                                    .temperature = fake_temperature,
                                    .clock_limits = fake_limits,
                                    .compute_processes = fake_processes};

static int set_up(void **state) {
    (void)state;
    reads = 0;
    processes = 1;
    limits = NVML_LIMIT_POWER_CAP;
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    return open_count;
}

static void pause_ms(int milliseconds) {
    const struct timespec time = {.tv_sec = milliseconds / 1000, .tv_nsec = milliseconds % 1000 * 1000000L};
    nanosleep(&time, NULL);
}

static void test_a_short_stretch_is_read_once_after_it(void **state) {
    (void)state;
    struct sensor_reading *readings = NULL;
    struct telemetry *telemetry = telemetry_open_nvml(&library, "0000:1b:00.0");
    assert_non_null(telemetry);
    telemetry_start(telemetry);
    assert_int_equal(reads, 0);
    telemetry_stop(telemetry, &readings);
    assert_int_equal(arrlen(readings), 1);
    pause_ms(250); // nobody asked for these
    assert_int_equal(reads, 1);
    telemetry_close(telemetry);
    const struct row_sensors sensors = telemetry_summarize(readings, (int)arrlen(readings));
    assert_int_equal(sensors.readings, 1);
    assert_close(sensors.sm_mhz, 1980, 0);
    assert_close(sensors.memory_mhz, 3201, 0);
    assert_close(sensors.power_w, 412.5, 1e-9);
    assert_true(isnan(sensors.temperature_c));
    assert_true(isnan(sensors.resident_percent));
    assert_string_equal(sensors.clock_limits, "power cap");
    assert_false(sensors.throttled);
    assert_int_equal(sensors.other_processes, 0);
    arrfree(readings);
}

static void test_a_long_stretch_is_read_by_the_thread(void **state) {
    (void)state;
    struct sensor_reading *readings = NULL;
    struct telemetry *telemetry = telemetry_open_nvml(&library, "0000:1b:00.0");
    for (int stretch = 0; stretch < 2; stretch++) {
        telemetry_start(telemetry);
        pause_ms(450);
        telemetry_stop(telemetry, &readings);
    }
    telemetry_close(telemetry);
    // Four each; a busy machine may be late, never early.
    assert_in_range(arrlen(readings), 2, 8);
    assert_int_equal(arrlen(readings), reads);
    arrfree(readings);
}

static void test_no_sensors_are_no_error(void **state) {
    (void)state;
    struct sensor_reading *readings = NULL;
    struct device_info device = {.backend = "cpu"};
    assert_null(telemetry_open_nvml(&library, "0000:2b:00.0"));
    assert_null(telemetry_open(&device));
    telemetry_start(NULL);
    telemetry_stop(NULL, &readings);
    telemetry_close(NULL);
    assert_null(readings);
    assert_int_equal(telemetry_summarize(NULL, 0).readings, 0);
}

static struct sensor_reading reading(double sm_mhz, unsigned long long held_by, unsigned present) {
    return (struct sensor_reading){.sm_mhz = sm_mhz,
                                   .memory_mhz = (double)NAN,
                                   .power_w = (double)NAN,
                                   .temperature_c = (double)NAN,
                                   .resident_percent = (double)NAN,
                                   .limits = held_by,
                                   .processes = present};
}

static void test_summary_keeps_the_worst(void **state) {
    (void)state;
    const struct sensor_reading readings[] = {reading(1900, NVML_LIMIT_IDLE, 1), reading((double)NAN, 0, 3),
                                              reading(1000, NVML_LIMIT_SW_THERMAL | NVML_LIMIT_POWER_CAP, 0),
                                              reading(1800, 0, 2)};
    const struct row_sensors sensors = telemetry_summarize(readings, 4);
    assert_int_equal(sensors.readings, 4);
    assert_close(sensors.sm_mhz, 1800, 0);
    assert_true(isnan(sensors.power_w));
    assert_true(sensors.throttled);
    assert_string_equal(sensors.clock_limits, "software thermal, power cap");
    assert_int_equal(sensors.other_processes, 2);
}

static void test_only_faults_mark_a_row(void **state) {
    (void)state;
    for (int bit = 0; bit < 64; bit++) {
        const struct sensor_reading one = reading(1000, 1ull << bit, 1);
        const struct row_sensors sensors = telemetry_summarize(&one, 1);
        // NVML's numbers: hardware slowdown, its two causes, and software thermal slowdown.
        const bool fault = bit == 3 || bit == 5 || bit == 6 || bit == 7;
        assert_int_equal(sensors.throttled, fault);
        assert_int_equal(sensors.clock_limits[0] != '\0', bit >= 1 && bit <= 8);
    }
    const struct sensor_reading all = reading(1000, ~0ull, 1);
    assert_non_null(strstr(telemetry_summarize(&all, 1).clock_limits, "display clocks")); // all names fit
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_short_stretch_is_read_once_after_it, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_long_stretch_is_read_by_the_thread, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_no_sensors_are_no_error, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_summary_keeps_the_worst, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_only_faults_mark_a_row, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
