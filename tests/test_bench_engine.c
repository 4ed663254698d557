// The measuring procedure on the real devices of this machine.
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include "measure/bench.h"
#include "tests/support/assert_close.h"
#include "tests/support/engine_fixture.h"

#include <stb/stb_ds.h>
#include <string.h>

static const int batches[] = {1, 5};

static struct bench_options small_options(void) {
    return (struct bench_options){.batches = batches,
                                  .batch_count = 2,
                                  .kvcache = BENCH_KVCACHE_BOTH,
                                  .prompt_len = 9,
                                  .gen_len = 8,
                                  .reps = 1,
                                  .warmup = 1,
                                  .seed = 7};
}

static void check_row(const struct bench_row *row) {
    assert_int_equal(row->status, ROW_OK);
    assert_int_equal(row->reps, 1);
    assert_true(row->tok_s.median > 0);
    assert_true(row->prefill_ms > 0);
    assert_true(row->ms_per_step > 0);
    // The three times are of the same run.
    double seconds = row->batch * 8 / row->tok_s.mean;
    assert_close((row->prefill_ms + 7 * row->ms_per_step) / 1e3 / seconds, 1, 1e-9);
}

static void bench_in(enum dtype dtype) {
    fixture_require_device();
    if (!fixture_computes(dtype)) skip();
    struct backend *backend = fixture_backend("random:L2-C64-H2-V257-T64", dtype);
    struct bench_options options = small_options();
    struct bench_record record = {0};
    struct error error;
    if (bench_run(backend, &options, &record, &error) != STATUS_OK) fail_msg("%s", error.message);
    assert_int_equal(arrlen(record.rows), 4);
    for (int i = 0; i < 4; i++) check_row(&record.rows[i]);
    for (int i = 0; i < 4; i += 2) {
        const struct bench_row *cached = &record.rows[i], *uncached = &record.rows[i + 1];
        assert_int_equal(cached->batch, batches[i / 2]);
        assert_true(cached->kv_cache && !uncached->kv_cache);
        assert_true(cached->memory.weights > 0);
        assert_true(cached->agreement.verdict == AGREEMENT_SAME ||
                    cached->agreement.verdict == AGREEMENT_NEAR_TIE);
        assert_int_equal(cached->agreement.verdict == AGREEMENT_SAME,
                         strcmp(cached->token_hash, uncached->token_hash) == 0);
        assert_close(cached->speedup, cached->tok_s.median / uncached->tok_s.median, 1e-9);
    }
    record_clear(&record);
    backend_close(backend);
}

static void test_bench_f32(void **state) {
    (void)state;
    bench_in(DTYPE_F32);
}

static void test_bench_bf16(void **state) {
    (void)state;
    bench_in(DTYPE_BF16);
}

static void test_bench_f16(void **state) {
    (void)state;
    bench_in(DTYPE_F16);
}

static void test_absurd_batch_is_out_of_memory_and_the_backend_survives(void **state) {
    (void)state;
    fixture_require_device();
    static const int absurd[] = {2000000000, 3};
    struct backend *backend = fixture_backend("random:L2-C64-H2-V257-T64", DTYPE_F32);
    struct bench_options options = small_options();
    struct bench_record record = {0};
    struct error error;
    options.batches = absurd;
    if (bench_run(backend, &options, &record, &error) != STATUS_OK) fail_msg("%s", error.message);
    assert_int_equal(record.rows[0].status, ROW_OUT_OF_MEMORY);
    assert_int_equal(record.rows[1].status, ROW_OUT_OF_MEMORY);
    assert_true(strlen(record.rows[0].reason) > 0);
    assert_int_equal(record.rows[2].status, ROW_OK);
    assert_int_equal(record.rows[3].status, ROW_OK);
    record_clear(&record);
    options.batch_count = 1;
    assert_int_equal(bench_run(backend, &options, &record, &error), STATUS_OUT_OF_MEMORY);
    record_clear(&record);
    backend_close(backend);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bench_f32),
        cmocka_unit_test(test_bench_bf16),
        cmocka_unit_test(test_bench_f16),
        cmocka_unit_test(test_absurd_batch_is_out_of_memory_and_the_backend_survives),
    };
    static const char *const devices[] = {"cpu", "cuda"};
    int failed = 0;
    for (int i = 0; i < 2; i++) {
        fixture_use_device(devices[i]);
        failed += cmocka_run_group_tests_name(devices[i], tests, NULL, NULL);
    }
    return failed;
}
