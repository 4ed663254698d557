// The model of time: by hand for one small case, against figures measured on an H200, and against the curve
// published for an A100.
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "measure/calibrate.h"
#include "measure/device_specs.h"
#include "tests/support/assert_close.h"
#include "tests/support/fake_backend.h"

// The fake device's clock: time passes only as it says.
static struct fake_backend fake;
double clock_seconds(void);
double clock_seconds(void) {
    return fake.now;
}

static const struct gpt2_config small = {
    .context = 32, .vocab = 10, .layers = 2, .heads = 2, .channels = 4, .inner = 16, .tied_lm_head = true};
static const struct gpt2_config gpt2 = {
    .context = 1024, .vocab = 50257, .layers = 12, .heads = 12, .channels = 768, .inner = 3072};

static struct generation_shape gpt2_shape(int batch, bool kv_cache) {
    return (struct generation_shape){.config = &gpt2,
                                     .dtype = DTYPE_BF16,
                                     .kv_cache = kv_cache,
                                     .batch = batch,
                                     .prompt_len = 50,
                                     .gen_len = 200};
}

// The shape of test_roofline.c, whose counts are by hand: a prefill moves 1072 + 240 + 240 = 1552 bytes and
// 480 of the cache and computes 13200 flop. Two rows of numbers follow: step 1 has 6 keys, 1072 + 48 + 240 =
// 1360 bytes, 576 of the cache, 2304 + 576 + 240 = 3120 flop; step 2 has 7 keys, 672 and 3216.
static void test_a_small_case_by_hand(void **state) {
    (void)state;
    const struct generation_shape shape = {
        .config = &small, .dtype = DTYPE_BF16, .kv_cache = true, .batch = 3, .prompt_len = 5, .gen_len = 3};
    const struct machine machine = {.bandwidth = 100,
                                    .rate = 1000,
                                    .cached_step = 2,
                                    .uncached_step = 50,
                                    .prefill = 7,
                                    .cache_bytes = 1e9};
    double prefill = 7 + pow(pow(15.52, 1.5) + pow(13.2, 1.5), 1 / 1.5) + 4.8;
    double first = 2 + pow(pow(13.6, 1.5) + pow(3.12, 1.5), 1 / 1.5) + 5.76;
    double second = 2 + pow(pow(13.6, 1.5) + pow(3.216, 1.5), 1 / 1.5) + 6.72;
    struct prediction found = predict(&machine, &shape);
    assert_close(found.prefill_ms, prefill * 1e3, 1e-9 * prefill * 1e3);
    assert_close(found.ms_per_step, (first + second) / 2 * 1e3, 1e-6);
    assert_close(found.tok_s, 9 / (prefill + first + second), 1e-9);
    // A host slower than any step, but not than the prefill.
    struct machine eager = machine;
    eager.host = 30;
    assert_true(prefill > 30 && second < 30);
    assert_close(predict(&eager, &shape).tok_s, 9 / (prefill + 60), 1e-9);
    // Fused kernels for up to 3 rows.
    struct machine fused = machine;
    fused.fused_step = 0;
    fused.fused_last_step = 1;
    fused.fused_rows = 3;
    assert_close(predict(&fused, &shape).tok_s, 9 / (prefill + first + second - 2), 1e-9);
    // The persistent kernel for up to 5 rows, of which 3 are in the middle of its line.
    struct machine persistent = fused;
    persistent.persistent_step = 0.25;
    persistent.persistent_last_step = 0.75;
    persistent.persistent_rows = 5;
    assert_close(predict(&persistent, &shape).tok_s, 9 / (prefill + first + second - 3), 1e-9);
    // Activations that fill more than half the cache, (3, 16) of 2 bytes: 2 (18 4 + 2 16) 2 bytes per token.
    struct machine uncacheable = machine;
    uncacheable.cache_bytes = 3 * 16 * 2 * 2 - 1;
    double bytes = 3 * 2 * (18 * 4 + 2 * 16) * 2;
    assert_close(predict_step_work(&uncacheable, &shape, 1),
                 pow(pow((1360 + bytes) / 100, 1.5) + pow(3.12, 1.5), 1 / 1.5) + 5.76, 1e-9);
}

static void test_a_single_token_takes_no_step(void **state) {
    (void)state;
    struct generation_shape shape = gpt2_shape(4, true);
    const struct machine machine = {.bandwidth = 1e12, .rate = 1e14, .cached_step = 1};
    shape.gen_len = 1;
    struct prediction found = predict(&machine, &shape);
    assert_close(found.ms_per_step, 0, 0);
    assert_close(found.tok_s, 4 / (found.prefill_ms / 1e3), 1e-6);
}

// Of many steps only some are looked at: their sum is that of all.
static void test_many_steps(void **state) {
    (void)state;
    const struct machine machine = {.bandwidth = 1e12, .rate = 1e14, .cached_step = 1e-4};
    struct generation_shape shape = gpt2_shape(4, true);
    shape.gen_len = 10001;
    double sum = 0;
    for (int step = 1; step <= 10000; step++)
        sum += machine.cached_step + predict_step_work(&machine, &shape, step);
    assert_close(predict(&machine, &shape).ms_per_step / (sum * 1e3 / 10000), 1, 1e-6);
    shape.gen_len = INT32_MAX; // comes to an end
    assert_true(isfinite(predict(&machine, &shape).tok_s));
}

// A better machine is not slower, more rows give no fewer tok/s with the cache and take longer, a longer
// context takes longer, and nothing beats the roofline.
static void test_better_machines_and_more_rows(void **state) {
    (void)state;
    for (size_t i = 0; i < device_spec_count; i++) {
        double before = 0, step_before = 0;
        for (int batch = 1; batch <= 1024; batch *= 2) {
            const struct generation_shape on = gpt2_shape(batch, true), off = gpt2_shape(batch, false);
            struct machine machine = device_spec_machine(&device_specs[i], &gpt2, DTYPE_F16, 0);
            machine.persistent_rows = machine.fused_rows = 0; // where they end, tok/s may fall
            struct prediction cached = predict(&machine, &on);
            assert_true(cached.tok_s > before && cached.ms_per_step > step_before);
            assert_true(predict(&machine, &off).tok_s < cached.tok_s);
            assert_true(predict_step_work(&machine, &on, 199) > predict_step_work(&machine, &on, 1));
            const struct cost cost = roofline_mean_step(&on);
            const struct ceilings ceilings = {.bandwidth = machine.bandwidth, .matmul_rate = machine.rate};
            assert_true(cached.ms_per_step / 1e3 > roofline_floor(&cost, &ceilings).seconds);
            before = cached.tok_s;
            step_before = cached.ms_per_step;
            machine.bandwidth *= 2;
            assert_true(predict(&machine, &on).tok_s > cached.tok_s);
            machine.bandwidth /= 2;
            machine.rate *= 2;
            assert_true(predict(&machine, &on).tok_s > cached.tok_s);
        }
    }
}

// Steps of the graph of library products on an H200 (bf16, 150 tokens of context, 4.5 TB/s read, 650 TFLOP/s
// in these products at 23,000 rows): the step of one row is given, the others are to come out.
static void test_steps_measured_on_an_h200(void **state) {
    (void)state;
    static const struct {
        int batch;
        double us;
    } measured[] = {{4, 376}, {8, 379}, {16, 405}, {32, 454}, {64, 525}, {93, 597}, {256, 863}};
    const struct machine machine = {.bandwidth = 4.5e12, .rate = 650e12, .cache_bytes = 50e6};
    struct generation_shape shape = gpt2_shape(1, true);
    double fixed = 373e-6 - predict_step_work(&machine, &shape, 100);
    for (size_t i = 0; i < sizeof measured / sizeof measured[0]; i++) {
        shape.batch = measured[i].batch;
        double us = (fixed + predict_step_work(&machine, &shape, 100)) * 1e6;
        if (fabs(us / measured[i].us - 1) > 0.15)
            fail_msg("B = %d: %.0f us where %.0f were measured", shape.batch, us, measured[i].us);
    }
}

// The fused kernels there: the steps of 1 and 256 rows are given, those between are to come out.
static void test_fused_steps_measured_on_an_h200(void **state) {
    (void)state;
    static const struct {
        int batch;
        double us;
    } measured[] = {{4, 164}, {8, 170}, {16, 187}, {32, 228}, {64, 302}, {93, 366}};
    struct machine machine = {.bandwidth = 4.5e12, .rate = 650e12, .cache_bytes = 50e6, .fused_rows = 256};
    struct generation_shape shape = gpt2_shape(1, true);
    machine.fused_step = 162e-6 - predict_step_work(&machine, &shape, 100);
    shape.batch = 256;
    machine.fused_last_step = 706e-6 - predict_step_work(&machine, &shape, 100);
    for (size_t i = 0; i < sizeof measured / sizeof measured[0]; i++) {
        shape.batch = measured[i].batch;
        assert_close(predict(&machine, &shape).ms_per_step * 1e3 / measured[i].us, 1, 0.1);
    }
}

// What a step of that many rows takes beside its work, by its prediction.
static double fixed_time(const struct machine *machine, int rows, bool kv_cache) {
    struct generation_shape shape = gpt2_shape(rows, kv_cache);
    shape.gen_len = 2; // one step
    return predict(machine, &shape).ms_per_step / 1e3 - predict_step_work(machine, &shape, 1);
}

// Lines of 1 to 4 rows and of 1 to 9: the second goes on beyond the first as if that were not there.
static void test_each_kernel_has_its_line(void **state) {
    (void)state;
    struct machine machine = {.bandwidth = 1e12,
                              .rate = 1e14,
                              .cached_step = 900e-6,
                              .uncached_step = 950e-6,
                              .persistent_step = 10e-6,
                              .persistent_last_step = 40e-6,
                              .persistent_rows = 4,
                              .fused_step = 100e-6,
                              .fused_last_step = 180e-6,
                              .fused_rows = 9};
    static const struct {
        int rows;
        double us;
    } expected[] = {{1, 10}, {2, 20}, {3, 30}, {4, 40}, {5, 140}, {8, 170}, {9, 180}, {10, 900}};
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++)
        assert_close(fixed_time(&machine, expected[i].rows, true) * 1e6, expected[i].us, 1e-6);
    assert_close(fixed_time(&machine, 1, false) * 1e6, 950, 1e-6);
    machine.persistent_rows = 1; // a line of one point
    assert_close(fixed_time(&machine, 1, true) * 1e6, 10, 1e-6);
    assert_close(fixed_time(&machine, 2, true) * 1e6, 110, 1e-6);
    machine.fused_rows = 0;
    assert_close(fixed_time(&machine, 2, true) * 1e6, 900, 1e-6);
}

static double step_us(const struct machine *machine, const struct gpt2_config *config, int rows) {
    struct generation_shape shape = gpt2_shape(rows, true);
    shape.config = config;
    return predict(machine, &shape).ms_per_step * 1e3;
}

// The persistent kernel there: the steps of 1 and 8 rows of GPT-2 124M are given, those of 2 and 4 rows are
// to come out, and from the vendor's figures those of one row of the larger sizes.
static void test_persistent_steps_measured_on_an_h200(void **state) {
    (void)state;
    static const struct {
        int layers, heads;
        double us;
    } sizes[] = {{12, 12, 102}, {24, 16, 232}, {36, 20, 425}, {48, 25, 867}};
    struct machine machine = {.bandwidth = 4.5e12, .rate = 650e12, .cache_bytes = 50e6, .persistent_rows = 8};
    struct generation_shape shape = gpt2_shape(1, true);
    machine.persistent_step = 102e-6 - predict_step_work(&machine, &shape, 100);
    shape.batch = 8;
    machine.persistent_last_step = 158e-6 - predict_step_work(&machine, &shape, 100);
    assert_close(step_us(&machine, &gpt2, 2) / 110, 1, 0.05);
    assert_close(step_us(&machine, &gpt2, 4) / 132, 1, 0.05);
    const struct device_spec *spec = device_spec_find("h200", strlen("h200"));
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct gpt2_config config = gpt2;
        config.layers = sizes[i].layers;
        config.heads = sizes[i].heads;
        config.channels = 64 * config.heads;
        config.inner = 4 * config.channels;
        machine = device_spec_machine(spec, &config, DTYPE_BF16, 0);
        assert_close(step_us(&machine, &config, 1) / sizes[i].us, 1, 0.15);
    }
}

// sm_90 and 16 bits only; the persistent kernel with more rows of 768 channels.
static void test_specs_know_whose_kernels_run(void **state) {
    (void)state;
    const struct device_spec *h100 = device_spec_find("h100", strlen("h100")),
                             *l4 = device_spec_find("l4", strlen("l4"));
    struct machine machine = device_spec_machine(h100, &gpt2, DTYPE_BF16, 0);
    assert_true(machine.persistent_rows == 8 && machine.fused_rows == 256);
    assert_true(machine.persistent_step < machine.persistent_last_step);
    assert_true(machine.persistent_last_step < machine.fused_step);
    assert_true(device_spec_machine(h100, &gpt2, DTYPE_F16, 0).persistent_rows == 8);
    struct gpt2_config medium = gpt2;
    medium.layers = 24, medium.heads = 16, medium.channels = 1024, medium.inner = 4096;
    machine = device_spec_machine(h100, &medium, DTYPE_BF16, 0);
    assert_true(machine.persistent_rows == 4 && machine.fused_rows == 256);
    machine = device_spec_machine(h100, &gpt2, DTYPE_F32, 0);
    assert_true(machine.persistent_rows == 0 && machine.fused_rows == 0);
    machine = device_spec_machine(l4, &gpt2, DTYPE_BF16, 0);
    assert_true(machine.persistent_rows == 0 && machine.fused_rows == 0);
}

static void test_the_published_a100_curve(void **state) {
    (void)state;
    // tok/s, prompt 50 and 200 new tokens, bf16, logits of every position; 34 of 312 TFLOP/s.
    static const struct {
        int batch;
        double off, on;
    } published[] = {{1, 102.8, 99.3},    {4, 401.9, 386.6},   {8, 718.6, 770.2},  {16, 679.8, 1539.7},
                     {32, 710.7, 3123.8}, {64, 721.6, 6203.5}, {93, 843.8, 9055.8}};
    struct gpt2_config config = gpt2;
    config.vocab = 65536; // as the published model's, whose attention is another
    const struct device_spec *spec = device_spec_find("a100-80gb", strlen("a100-80gb"));
    struct machine machine = device_spec_machine(spec, &config, DTYPE_BF16, 0.11);
    machine.host = 0.01;
    for (size_t i = 0; i < sizeof published / sizeof published[0]; i++) {
        struct generation_shape shape = gpt2_shape(published[i].batch, true);
        shape.config = &config;
        shape.logits = LOGITS_ALL;
        double on = predict(&machine, &shape).tok_s;
        shape.kv_cache = false;
        double off = predict(&machine, &shape).tok_s;
        assert_true(fabs(on / published[i].on - 1) < 0.05);
        assert_true(fabs(off / published[i].off - 1) < 0.20);
        double speedup = published[i].on / published[i].off;
        assert_true(fabs(on / off / speedup - 1) < 0.20);
    }
}

static void test_memory_of_a_generation(void **state) {
    (void)state;
    // 124439808 parameters, 93 rows of 250 tokens of cache, 4096 tokens of activations, 93 f32 logits rows.
    const struct generation_shape shape = gpt2_shape(93, true);
    double expected = 2.0 * 124439808 + 93.0 * 250 * 36864 + 4096.0 * (5 * 768 + 3072) * 2 + 93.0 * 50257 * 4;
    assert_close(predict_memory_bytes(&shape), expected, 0.5);
}

static void test_specs_are_found_by_their_whole_name(void **state) {
    (void)state;
    assert_non_null(device_spec_find("h100,h200", 4));
    assert_null(device_spec_find("h10", 3));
    assert_null(device_spec_find("h1000", 5));
    assert_null(device_spec_find("", 0));
}

// The fake's one-row steps take 1 ms with the cache and 0.1 ms per token without, its own products half of
// 1 TFLOP/s; it reads 1 GB/s, so that a tiny model's work is nothing beside.
static void test_a_device_is_calibrated_by_one_row(void **state) {
    (void)state;
    fake_backend_init(&fake);
    const struct ceilings ceilings = {.bandwidth = 1e9, .matmul_rate = 1e12, .launch = 1e-6};
    struct machine machine;
    struct error error;
    // Too little memory for larger prefills: the rate stays the ceilings'.
    assert_int_equal(calibrate(&fake.base, &ceilings, &machine, &error), STATUS_OK);
    assert_int_equal(fake.open_sessions, 0);
    assert_close(machine.rate / 1e12, 1, 1e-9);
    // Each prefill of this device takes the same time, so that the larger one alone tells.
    fake.capacity = 128 * fake.row_bytes;
    const struct generation_shape large = {
        .config = &fake.base.config,
        .dtype = fake.base.options.dtype,
        .kv_cache = true,
        .batch = 128,
        .prompt_len = fake.base.config.context > 64 ? 64 : fake.base.config.context - 1,
        .gen_len = 1};
    assert_int_equal(calibrate(&fake.base, &ceilings, &machine, &error), STATUS_OK);
    assert_int_equal(fake.open_sessions, 0);
    assert_close(machine.rate / (roofline_prefill(&large).flop / fake.prefill_seconds), 1, 1e-6);
    assert_close(machine.bandwidth / 1e9, 1, 1e-9);
    assert_close(machine.prefill * 1e3, 2, 0.01);
    assert_true(machine.cached_step > 0.9e-3 && machine.persistent_rows == 0 && machine.fused_rows == 0);
    // The model of time then says of one row what was measured.
    fake.failing_rows = 128;
    assert_int_equal(calibrate(&fake.base, &ceilings, &machine, &error), STATUS_FAILED);
    assert_int_equal(fake.open_sessions, 0);
    fake_backend_init(&fake);
    fake.base.config.context = 16; // too short for the runs
    assert_int_equal(calibrate(&fake.base, &ceilings, &machine, &error), STATUS_OK);
    assert_close(machine.cached_step, (7 + 4) * 1e-6, 1e-15);
    assert_int_equal(fake.prefills, 0);
}

// The mean step that the model of time predicts for the calibration's own runs, in milliseconds.
static double predicted_step(const struct machine *machine, int rows) {
    const struct generation_shape shape = {.config = &fake.base.config,
                                           .dtype = fake.base.options.dtype,
                                           .kv_cache = true,
                                           .batch = rows,
                                           .prompt_len = 8,
                                           .gen_len = 9};
    return predict(machine, &shape).ms_per_step;
}

static struct machine calibrate_own_kernels(int persistent_rows, int fused_rows) {
    const struct ceilings ceilings = {.bandwidth = 1e9, .matmul_rate = 1e12, .launch = 1e-6};
    struct machine machine;
    struct error error;
    fake_backend_init(&fake);
    fake.capacity = 16 * fake.row_bytes;
    fake.persistent_rows = persistent_rows;
    fake.fused_rows = fused_rows;
    fake.step_seconds = 5e-3;
    fake.persistent_step_seconds = 1e-3;
    fake.fused_step_seconds = 3e-3;
    fake.row_step_seconds = 0.1e-3;
    assert_int_equal(calibrate(&fake.base, &ceilings, &machine, &error), STATUS_OK);
    assert_int_equal(fake.open_sessions, 0);
    return machine;
}

// What was measured is predicted again, by the kernel that auto chooses, and the fused kernels' line begins
// at one row. The device's eight steps take its seconds each, but timed one by one 1, 2 .. 8 times as many,
// whose median is the fifth: the persistent kernel's are not timed so.
static void test_own_kernels_are_calibrated_each(void **state) {
    (void)state;
    struct machine machine = calibrate_own_kernels(4, 8);
    assert_true(machine.persistent_rows == 4 && machine.fused_rows == 8);
    assert_close(predicted_step(&machine, 1), 1.1, 1e-5);
    assert_close(predicted_step(&machine, 4), 1.4, 1e-5);
    assert_close(predicted_step(&machine, 8), 5 * 3.8, 1e-5);
    machine.persistent_rows = 0;
    assert_close(predicted_step(&machine, 1), 5 * 3.1, 1e-5);
    machine.fused_rows = 0;
    assert_close(predicted_step(&machine, 1), 5 * 5.1, 1e-5);
    machine = calibrate_own_kernels(1, 8);
    assert_true(machine.persistent_rows == 1 && machine.fused_rows == 8);
    machine = calibrate_own_kernels(0, 8);
    assert_true(machine.persistent_rows == 0 && machine.fused_rows == 8);
    assert_close(predicted_step(&machine, 1), 5 * 3.1, 1e-5);
    machine = calibrate_own_kernels(2, 0);
    assert_true(machine.persistent_rows == 2 && machine.fused_rows == 0);
    assert_close(predicted_step(&machine, 2), 1.2, 1e-5);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_small_case_by_hand),
        cmocka_unit_test(test_a_single_token_takes_no_step),
        cmocka_unit_test(test_many_steps),
        cmocka_unit_test(test_better_machines_and_more_rows),
        cmocka_unit_test(test_steps_measured_on_an_h200),
        cmocka_unit_test(test_fused_steps_measured_on_an_h200),
        cmocka_unit_test(test_each_kernel_has_its_line),
        cmocka_unit_test(test_persistent_steps_measured_on_an_h200),
        cmocka_unit_test(test_specs_know_whose_kernels_run),
        cmocka_unit_test(test_the_published_a100_curve),
        cmocka_unit_test(test_memory_of_a_generation),
        cmocka_unit_test(test_specs_are_found_by_their_whole_name),
        cmocka_unit_test(test_a_device_is_calibrated_by_one_row),
        cmocka_unit_test(test_own_kernels_are_calibrated_each),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
