// What must not change a row's tokens or logits: the cache, the other rows, the place in the batch, the way
// decode calls are cut, a row's earlier use. On every device this machine has, in every dtype it computes in.
#include "support/engine_fixture.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

// Odd sizes: 3 heads of 32, a vocabulary that is a multiple of nothing; and sizes that a GPU's own decode
// kernels take: heads of 64, channels that are a multiple of 64. Ragged prompts.
static const char *const models_under_test[] = {"random:L3-C96-H3-V1031-T96", "random:L3-C128-H2-V1031-T96"};
enum { B = 5, new_tokens = 24, max_tokens = 96 };
static const int lengths[B] = {1, 17, 64, 65, 30};
enum { prompt_tokens = 1 + 17 + 64 + 65 + 30 };

static double tolerance_of(const char *name, enum dtype dtype) {
    if (dtype == DTYPE_F32) return 1e-4;
    struct model *model = fixture_model(name);
    double tolerance = fixture_logits_tolerance(model, dtype);
    model_close(model);
    return tolerance;
}

static struct fixture_run run_by_path(struct backend *backend, bool kv_cache, enum decode_path path, int rows,
                                      const int *row_lengths, const int32_t *prompts) {
    struct session_spec spec = fixture_spec(rows, max_tokens, kv_cache);
    spec.decode_path = path;
    return fixture_run_steps(backend, spec, row_lengths, prompts, new_tokens);
}

static struct fixture_run run_rows(struct backend *backend, bool kv_cache, int rows, const int *row_lengths,
                                   const int32_t *prompts) {
    return run_by_path(backend, kv_cache, DECODE_AUTO, rows, row_lengths, prompts);
}

static void for_each_dtype(void (*check)(struct backend *, double tolerance)) {
    fixture_require_device();
    for (int model = 0; model < 2; model++) {
        for (int dtype = DTYPE_F32; dtype <= DTYPE_BF16; dtype++) {
            if (!fixture_computes((enum dtype)dtype)) continue;
            struct backend *backend = fixture_backend(models_under_test[model], (enum dtype)dtype);
            check(backend, tolerance_of(models_under_test[model], (enum dtype)dtype));
            backend_close(backend);
        }
    }
}

static void make_prompts(int32_t *prompts) {
    fixture_random_tokens(7, 1031, prompt_tokens, prompts);
}

static void check_cache_on_off(struct backend *backend, double tolerance) {
    int32_t prompts[prompt_tokens];
    make_prompts(prompts);
    struct fixture_run on = run_rows(backend, true, B, lengths, prompts);
    struct fixture_run off = run_rows(backend, false, B, lengths, prompts);
    for (int row = 0; row < B; row++) fixture_check_rows("cache on and off", &on, row, &off, row, tolerance);
    fixture_run_free(on);
    fixture_run_free(off);
}

// Whether sessions of so many rows may decode by other kernels than the plain ones.
static bool has_decode_paths(struct backend *backend, int rows) {
    struct session *session = fixture_session(backend, fixture_spec(rows, max_tokens, true));
    const char *path = session_decode_path(session);
    const bool has = strcmp(path, "") != 0 && strcmp(path, "graph") != 0;
    session_close(session);
    return has;
}

// More rows than the fused products take: library products between our own attention and LM head.
static void check_large_batch(struct backend *backend, double tolerance) {
    enum { ROWS = 520 };
    if (!has_decode_paths(backend, ROWS)) return;
    static int row_lengths[ROWS];
    static int32_t prompts[ROWS * 40];
    int total = 0;
    for (int row = 0; row < ROWS; row++) total += row_lengths[row] = 1 + row * 7 % 40;
    fixture_random_tokens(11, 1031, total, prompts);
    struct fixture_run graph = run_by_path(backend, true, DECODE_GRAPH, ROWS, row_lengths, prompts);
    struct fixture_run automatic = run_by_path(backend, true, DECODE_AUTO, ROWS, row_lengths, prompts);
    struct fixture_run fused = run_by_path(backend, true, DECODE_FUSED, ROWS, row_lengths, prompts);
    for (int row = 0; row < ROWS; row++) {
        fixture_check_rows("a large batch", &graph, row, &automatic, row, tolerance);
        fixture_check_rows("a large fused batch", &graph, row, &fused, row, tolerance);
    }
    fixture_run_free(graph);
    fixture_run_free(automatic);
    fixture_run_free(fused);
}

// Asking for kernels that do not exist is refused, and the backend stays usable.
static void check_fused_refusal(struct backend *backend, double tolerance) {
    (void)tolerance;
    if (has_decode_paths(backend, B)) return;
    struct session_spec spec = fixture_spec(B, max_tokens, true);
    spec.decode_path = DECODE_FUSED;
    struct session *session = NULL;
    struct error error = {0};
    const enum status status = session_open(backend, &spec, &session, &error);
    if (status == STATUS_OK) {
        assert_string_equal(session_decode_path(session), ""); // one way of decoding: nothing to ask for
        session_close(session);
        return;
    }
    assert_int_equal(status, STATUS_USAGE);
    assert_non_null(strstr(error.message, "fused"));
    session_close(fixture_session(backend, fixture_spec(B, max_tokens, true)));
}

// The fused kernels against the plain ones, on backends that have both.
static void check_decode_paths(struct backend *backend, double tolerance) {
    int32_t prompts[prompt_tokens];
    make_prompts(prompts);
    struct fixture_run graph = run_by_path(backend, true, DECODE_GRAPH, B, lengths, prompts);
    struct fixture_run fused = run_by_path(backend, true, DECODE_AUTO, B, lengths, prompts);
    for (int row = 0; row < B; row++) fixture_check_rows("decode paths", &graph, row, &fused, row, tolerance);
    fixture_run_free(graph);
    fixture_run_free(fused);
}

static void check_alone_or_in_batch(struct backend *backend, double tolerance) {
    int32_t prompts[prompt_tokens];
    make_prompts(prompts);
    for (int kv_cache = 0; kv_cache <= 1; kv_cache++) {
        struct fixture_run batch = run_rows(backend, kv_cache, B, lengths, prompts);
        const int32_t *prompt = prompts;
        for (int row = 0; row < B; prompt += lengths[row], row++) {
            struct fixture_run alone = run_rows(backend, kv_cache, 1, &lengths[row], prompt);
            fixture_check_rows("in the batch and alone", &batch, row, &alone, 0, tolerance);
            fixture_run_free(alone);
        }
        fixture_run_free(batch);
    }
}

// Many steps in one call give the tokens of one step per call, twice: runs repeat bit for bit.
static void check_steps_per_call(struct backend *backend, double tolerance) {
    (void)tolerance;
    int32_t prompts[prompt_tokens], at_once[new_tokens * B], again[new_tokens * B];
    make_prompts(prompts);
    for (int kv_cache = 0; kv_cache <= 1; kv_cache++) {
        struct fixture_run stepwise = run_rows(backend, kv_cache, B, lengths, prompts);
        struct session *session = fixture_session(backend, fixture_spec(B, max_tokens, kv_cache));
        fixture_generate(session, B, lengths, prompts, new_tokens, at_once);
        int rows[B] = {0, 1, 2, 3, 4};
        struct error error = {0};
        fixture_require_ok(session_retire(session, rows, B, &error), &error);
        fixture_generate(session, B, lengths, prompts, new_tokens, again);
        session_close(session);
        assert_memory_equal(at_once, stepwise.tokens, sizeof at_once);
        assert_memory_equal(again, at_once, sizeof again);
        fixture_run_free(stepwise);
    }
}

// Prompts of lengths that a session has prefilled before, with other tokens and into other rows, and of more
// different lengths than one remembers.
static void check_repeated_prefills(struct backend *backend, double tolerance) {
    (void)tolerance;
    enum { SHAPES = 10, ROWS = 2, STEPS = 4, TOKENS = 21 };
    struct session_spec spec = fixture_spec(ROWS, max_tokens, true);
    struct session *session = fixture_session(backend, spec);
    struct error error = {0};
    for (int run = 0; run < 2 * SHAPES; run++) {
        const int row_lengths[ROWS] = {1 + run % SHAPES, TOKENS - 1 - run % SHAPES};
        const int rows[ROWS] = {run / SHAPES, 1 - run / SHAPES};
        const uint64_t requests[ROWS] = {0, 1};
        int32_t prompts[TOKENS], first[ROWS], next[(STEPS - 1) * ROWS];
        fixture_random_tokens((uint64_t)run, 1031, TOKENS, prompts);
        const struct prompt_batch batch = {ROWS, rows, row_lengths, prompts, requests};
        fixture_require_ok(session_prefill(session, &batch, &error), &error);
        fixture_require_ok(session_collect(session, first, &error), &error);
        fixture_require_ok(session_decode(session, STEPS - 1, &error), &error);
        fixture_require_ok(session_collect(session, next, &error), &error);
        fixture_require_ok(session_retire(session, rows, ROWS, &error), &error);
        struct fixture_run fresh = fixture_run_steps(backend, spec, row_lengths, prompts, STEPS);
        for (int i = 0; i < ROWS; i++) {
            assert_int_equal(first[rows[i]], fresh.tokens[i]);
            for (int step = 1; step < STEPS; step++)
                assert_int_equal(next[(step - 1) * ROWS + rows[i]], fresh.tokens[step * ROWS + i]);
        }
        fixture_run_free(fresh);
    }
    session_close(session);
}

// A row retired and refilled while another goes on: neither notices.
static void check_continuous_batching(struct backend *backend, double tolerance) {
    int32_t prompts[prompt_tokens];
    make_prompts(prompts);
    const int32_t *second = prompts + lengths[0], *third = second + lengths[1];
    for (int kv_cache = 0; kv_cache <= 1; kv_cache++) {
        struct fixture_run expected_long = run_rows(backend, kv_cache, 1, &lengths[1], second);
        struct fixture_run expected_late = run_rows(backend, kv_cache, 1, &lengths[2], third);
        struct session *session = fixture_session(backend, fixture_spec(3, max_tokens, kv_cache));
        struct error error = {0};
        int32_t step[3], long_row[new_tokens], late_row[new_tokens];
        fixture_prefill(session, 2, lengths, prompts);
        fixture_require_ok(session_collect(session, step, &error), &error);
        assert_int_equal(step[2], -1); // took no part
        long_row[0] = step[1];
        int first_rows[1] = {0}, late_count = 0, middle = new_tokens / 2;
        for (int i = 1; i < new_tokens; i++) {
            if (i == middle) {
                fixture_require_ok(session_retire(session, first_rows, 1, &error), &error);
                uint64_t request = 2;
                struct prompt_batch late = {1, first_rows, &lengths[2], third, &request};
                fixture_require_ok(session_prefill(session, &late, &error), &error);
                fixture_require_ok(session_collect(session, step, &error), &error);
                assert_int_equal(step[1], -1); // a prefill leaves the other rows alone
                late_row[late_count++] = step[0];
            }
            fixture_require_ok(session_decode(session, 1, &error), &error);
            fixture_require_ok(session_collect(session, step, &error), &error);
            long_row[i] = step[1];
            if (i >= middle) late_row[late_count++] = step[0];
        }
        // Tokens must agree until a near-tie of the run alone.
        const struct fixture_run *expected[2] = {&expected_long, &expected_late};
        const int32_t *found[2] = {long_row, late_row};
        const int counts[2] = {new_tokens, late_count};
        for (int r = 0; r < 2; r++) {
            for (int i = 0; i < counts[r]; i++) {
                int32_t e = expected[r]->tokens[i];
                if (found[r][i] == e) continue;
                const float *logits = expected[r]->logits + (size_t)i * (size_t)expected[r]->vocab;
                assert_true(fabs((double)logits[e] - (double)logits[found[r][i]]) <= 4 * tolerance);
                break;
            }
        }
        session_close(session);
        fixture_run_free(expected_long);
        fixture_run_free(expected_late);
    }
}

// --logits all computes more and changes nothing.
static void check_logits_all(struct backend *backend, double tolerance) {
    (void)tolerance;
    int32_t prompts[prompt_tokens], last[new_tokens * B], all[new_tokens * B];
    make_prompts(prompts);
    for (int kv_cache = 0; kv_cache <= 1; kv_cache++) {
        for (int mode = LOGITS_LAST; mode <= LOGITS_ALL; mode++) {
            struct session_spec spec = fixture_spec(B, max_tokens, kv_cache);
            spec.logits = (enum logits_mode)mode;
            spec.keep_logits = false;
            struct session *session = fixture_session(backend, spec);
            fixture_generate(session, B, lengths, prompts, new_tokens, mode == LOGITS_ALL ? all : last);
            session_close(session);
        }
        if (backend_dtype(backend) == DTYPE_F32) assert_memory_equal(all, last, sizeof all);
        for (int row = 0; row < B; row++) assert_int_equal(all[row], last[row]);
    }
}

// A sampled request's text depends on its id and the seed, not on its row or neighbours.
static void check_sampling_keyed_by_request(struct backend *backend, double tolerance) {
    (void)tolerance;
    if (backend_dtype(backend) != DTYPE_F32) return; // 16-bit logits may differ by rounding between batches
    int32_t prompts[prompt_tokens], batch[new_tokens * B], alone[new_tokens * 2];
    make_prompts(prompts);
    struct session_spec spec = fixture_spec(B, max_tokens, true);
    spec.sampling = (struct sampling){.temperature = 0.9f, .top_k = 50, .top_p = 0.95f, .seed = 42};
    struct session *session = fixture_session(backend, spec);
    fixture_generate(session, B, lengths, prompts, new_tokens, batch);
    session_close(session);
    spec.rows = 2;
    session = fixture_session(backend, spec);
    int row = 1, length = lengths[1];
    uint64_t request = 1;
    struct prompt_batch one = {1, &row, &length, prompts + lengths[0], &request};
    struct error error = {0};
    fixture_require_ok(session_prefill(session, &one, &error), &error);
    fixture_require_ok(session_collect(session, alone, &error), &error);
    fixture_require_ok(session_decode(session, new_tokens - 1, &error), &error);
    fixture_require_ok(session_collect(session, alone + 2, &error), &error);
    session_close(session);
    int changes = 0;
    for (int i = 0; i < new_tokens; i++) {
        assert_int_equal(alone[i * 2], -1);
        assert_int_equal(alone[i * 2 + 1], batch[i * B + 1]);
        changes += i > 0 && alone[i * 2 + 1] != alone[i * 2 - 1];
    }
    assert_true(changes > new_tokens / 2); // it really sampled
}

#define ENGINE_TEST(name)                                                                                    \
    static void test_##name(void **state) {                                                                  \
        (void)state;                                                                                         \
        for_each_dtype(check_##name);                                                                        \
    }
ENGINE_TEST(cache_on_off)
ENGINE_TEST(decode_paths)
ENGINE_TEST(large_batch)
ENGINE_TEST(fused_refusal)
ENGINE_TEST(alone_or_in_batch)
ENGINE_TEST(steps_per_call)
ENGINE_TEST(repeated_prefills)
ENGINE_TEST(continuous_batching)
ENGINE_TEST(logits_all)
ENGINE_TEST(sampling_keyed_by_request)

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cache_on_off),      cmocka_unit_test(test_decode_paths),
        cmocka_unit_test(test_large_batch),       cmocka_unit_test(test_fused_refusal),
        cmocka_unit_test(test_alone_or_in_batch), cmocka_unit_test(test_steps_per_call),
        cmocka_unit_test(test_repeated_prefills), cmocka_unit_test(test_continuous_batching),
        cmocka_unit_test(test_logits_all),        cmocka_unit_test(test_sampling_keyed_by_request),
    };
    fixture_use_device("cpu");
    int failed = cmocka_run_group_tests_name("invariances, cpu", tests, NULL, NULL);
    fixture_use_device("cuda");
    return failed + cmocka_run_group_tests_name("invariances, cuda", tests, NULL, NULL);
}
