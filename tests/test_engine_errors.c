// Requests that cannot be: refused with a message, and the backend and session stay usable.
#include "support/engine_fixture.h"

#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char *const tiny = "random:L2-C64-H2-V257-T64";

static struct backend *open_tiny(void) {
    fixture_require_device();
    return fixture_backend(tiny, DTYPE_F32);
}

// The session still generates after a refusal.
static void require_usable(struct session *session) {
    struct error error = {0};
    int32_t token[8], prompt[3] = {1, 2, 3};
    int length = 3;
    assert_true(session_spec_of(session)->rows <= 8);
    fixture_prefill(session, 1, &length, prompt);
    assert_int_equal(session_collect(session, token, &error), STATUS_OK);
    assert_in_range(token[0], 0, 256);
    int row = 0;
    assert_int_equal(session_retire(session, &row, 1, &error), STATUS_OK);
}

static void test_out_of_memory_is_an_answer(void **state) {
    (void)state;
    struct backend *backend = open_tiny();
    struct error error = {0};
    struct session *session;
    // 2^31 rows of 64 tokens: at least 64 TiB of cache.
    struct session_spec huge = fixture_spec(INT_MAX, 64, true);
    assert_int_equal(session_open(backend, &huge, &session, &error), STATUS_OUT_OF_MEMORY);
    assert_null(session);
    assert_non_null(strstr(error.message, "KV cache"));
    struct session_spec huge_uncached = fixture_spec(INT_MAX, 64, false);
    assert_int_equal(session_open(backend, &huge_uncached, &session, &error), STATUS_OUT_OF_MEMORY);
    session = fixture_session(backend, fixture_spec(2, 64, true));
    require_usable(session);
    session_close(session);
    backend_close(backend);
}

static void test_session_specs(void **state) {
    (void)state;
    struct backend *backend = open_tiny();
    struct error error = {0};
    struct session *session;
    struct session_spec bad[] = {fixture_spec(0, 64, true), fixture_spec(-3, 64, true),
                                 fixture_spec(1, 65, true), fixture_spec(1, 1, true),
                                 fixture_spec(1, 64, true)};
    bad[4].sampling.temperature = -1;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        error.message[0] = '\0';
        assert_int_equal(session_open(backend, &bad[i], &session, &error), STATUS_USAGE);
        assert_null(session);
        assert_true(error.message[0] != '\0');
    }
    backend_close(backend);
}

static enum status prefill_one(struct session *session, int row, int length, const int32_t *tokens,
                               struct error *error) {
    uint64_t request = 0;
    struct prompt_batch prompt = {1, &row, &length, tokens, &request};
    return session_prefill(session, &prompt, error);
}

static void test_prompts(void **state) {
    (void)state;
    struct backend *backend = open_tiny();
    struct session *session = fixture_session(backend, fixture_spec(2, 64, true));
    struct error error = {0};
    int32_t good[64] = {0}, above[2] = {1, 257}, negative[1] = {-1};
    assert_int_equal(prefill_one(session, 0, 2, above, &error), STATUS_USAGE);
    assert_non_null(strstr(error.message, "257"));
    assert_int_equal(prefill_one(session, 0, 1, negative, &error), STATUS_USAGE);
    assert_int_equal(prefill_one(session, 0, 64, good, &error), STATUS_USAGE); // no room for a token
    assert_int_equal(prefill_one(session, 0, 0, good, &error), STATUS_USAGE);
    assert_int_equal(prefill_one(session, 2, 3, good, &error), STATUS_USAGE);
    assert_int_equal(prefill_one(session, 0, 3, good, &error), STATUS_OK);
    assert_int_equal(prefill_one(session, 0, 3, good, &error), STATUS_USAGE); // not free
    int same_row[2] = {1, 1}, two[2] = {1, 1};
    uint64_t requests[2] = {0, 1};
    struct prompt_batch twice = {2, same_row, two, good, requests};
    assert_int_equal(session_prefill(session, &twice, &error), STATUS_USAGE);
    int row = 0;
    assert_int_equal(session_retire(session, &row, 1, &error), STATUS_OK);
    assert_int_equal(session_retire(session, &row, 1, &error), STATUS_USAGE);
    require_usable(session);
    session_close(session);
    backend_close(backend);
}

static void test_decode_limits(void **state) {
    (void)state;
    struct backend *backend = open_tiny();
    struct session *session = fixture_session(backend, fixture_spec(1, 10, true));
    struct error error = {0};
    int32_t prompt[4] = {1, 2, 3, 4}, tokens[16];
    float logits[257];
    assert_int_equal(session_decode(session, 1, &error), STATUS_USAGE); // nothing live
    assert_int_equal(session_collect(session, tokens, &error), STATUS_USAGE);
    assert_int_equal(prefill_one(session, 0, 4, prompt, &error), STATUS_OK);
    assert_int_equal(session_decode(session, 0, &error), STATUS_USAGE);
    assert_int_equal(session_decode(session, 6, &error), STATUS_USAGE); // 5 + 6 > 10
    assert_int_equal(session_decode(session, 5, &error), STATUS_OK);    // exactly full
    assert_int_equal(session_collect(session, tokens, &error), STATUS_OK);
    assert_int_equal(session_row_length(session, 0), 10);
    assert_int_equal(session_decode(session, 1, &error), STATUS_USAGE);
    assert_int_equal(session_logits(session, 0, logits, &error), STATUS_OK);
    assert_int_equal(session_logits(session, 1, logits, &error), STATUS_USAGE);
    float milliseconds[16];
    assert_int_equal(session_step_times(session, milliseconds, &error), STATUS_USAGE); // not asked for
    session_close(session);
    backend_close(backend);
}

static void test_full_context(void **state) {
    (void)state;
    struct backend *backend = open_tiny();
    for (int kv_cache = 0; kv_cache <= 1; kv_cache++) {
        struct session *session = fixture_session(backend, fixture_spec(1, 64, kv_cache));
        int32_t prompt[63] = {5}, token;
        int length = 63;
        fixture_generate(session, 1, &length, prompt, 1, &token);
        assert_in_range(token, 0, 256);
        session_close(session);
    }
    backend_close(backend);
}

static void test_step_times(void **state) {
    (void)state;
    struct backend *backend = open_tiny();
    for (int kv_cache = 0; kv_cache <= 1; kv_cache++) {
        struct session_spec spec = fixture_spec(2, 64, kv_cache);
        spec.time_steps = true;
        struct session *session = fixture_session(backend, spec);
        int32_t prompt[6] = {5, 6, 7, 8, 9, 10}, tokens[2 * 21];
        int lengths[2] = {2, 4};
        float milliseconds[20];
        struct error error = {0};
        fixture_generate(session, 2, lengths, prompt, 21, tokens);
        assert_int_equal(session_step_times(session, milliseconds, &error), STATUS_OK);
        for (int i = 0; i < 20; i++) assert_true(milliseconds[i] > 0 && milliseconds[i] < 60000);
        session_close(session);
    }
    backend_close(backend);
}

static void test_score_limits(void **state) {
    (void)state;
    struct backend *backend = open_tiny();
    struct session *session = fixture_session(backend, fixture_spec(1, 32, true));
    struct error error = {0};
    int32_t tokens[64] = {0}, bad_targets[1] = {300};
    float nll[64];
    struct score_request request = {.count = 33, .tokens = tokens, .targets = tokens, .nll = nll};
    assert_int_equal(session_score(session, &request, &error), STATUS_USAGE);
    request.count = 1;
    request.targets = bad_targets;
    assert_int_equal(session_score(session, &request, &error), STATUS_USAGE);
    request.count = 32;
    request.targets = tokens;
    assert_int_equal(session_score(session, &request, &error), STATUS_OK);
    for (int i = 0; i < 32; i++) assert_true(nll[i] > 0 && nll[i] < 50);
    session_close(session);
    backend_close(backend);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_out_of_memory_is_an_answer),
        cmocka_unit_test(test_session_specs),
        cmocka_unit_test(test_prompts),
        cmocka_unit_test(test_decode_limits),
        cmocka_unit_test(test_full_context),
        cmocka_unit_test(test_step_times),
        cmocka_unit_test(test_score_limits),
    };
    fixture_use_device("cpu");
    int failed = cmocka_run_group_tests_name("errors, cpu", tests, NULL, NULL);
    fixture_use_device("cuda");
    return failed + cmocka_run_group_tests_name("errors, cuda", tests, NULL, NULL);
}
