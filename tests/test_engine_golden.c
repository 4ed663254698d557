// The engine against the reference implementation's float64 outputs, on every device this machine has.
#include "support/engine_fixture.h"
#include "support/golden.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

// The f32 bound the engine promises against float64.
static const double f32_tolerance = 1e-4;

static double tolerance_of(const char *model_path, enum dtype dtype) {
    if (dtype == DTYPE_F32) return f32_tolerance;
    struct model *model = fixture_model(model_path);
    double tolerance = fixture_logits_tolerance(model, dtype);
    model_close(model);
    return tolerance;
}

struct scores {
    float *nll, *last_logits;
    int32_t *argmax;
};

static struct scores score(struct session *session, int vocab, int count, const int32_t *tokens) {
    struct scores out = {calloc((size_t)count, sizeof(float)), calloc((size_t)vocab, sizeof(float)),
                         calloc((size_t)count, sizeof(int32_t))};
    int32_t *targets = calloc((size_t)count, sizeof *targets);
    assert_non_null(targets);
    for (int i = 0; i + 1 < count; i++) targets[i] = tokens[i + 1];
    targets[count - 1] = -1;
    struct score_request request = {count, tokens, targets, out.nll, out.argmax, out.last_logits};
    struct error error = {0};
    if (session_score(session, &request, &error) != STATUS_OK) fail_msg("%s", error.message);
    free(targets);
    return out;
}

static void scores_free(struct scores scores) {
    free(scores.nll);
    free(scores.last_logits);
    free(scores.argmax);
}

// The f32 gap between the two ids at the end of `tokens`: a 16-bit argmax may differ only inside it.
static double gap_between(struct session *f32_session, int vocab, int count, const int32_t *tokens, int32_t a,
                          int32_t b) {
    struct scores exact = score(f32_session, vocab, count, tokens);
    double gap = fabs((double)exact.last_logits[a] - (double)exact.last_logits[b]);
    scores_free(exact);
    return gap;
}

static void check_case(const struct golden_case *c, struct session *session, struct session *f32_session,
                       int vocab, double tolerance) {
    struct scores found = score(session, vocab, c->count, c->tokens);
    for (int v = 0; v < vocab; v++) {
        double difference = fabs((double)found.last_logits[v] - c->last_logits[v]);
        if (!(difference <= tolerance)) {
            fail_msg("%d tokens, logit %d: found %.6f, expected %.6f, tolerance %.2g", c->count, v,
                     (double)found.last_logits[v], c->last_logits[v], tolerance);
        }
    }
    for (int i = 0; i < c->nll_count; i++) {
        // A loss is a logit less a mean of logits: twice the error of one.
        if (!(fabs((double)found.nll[i] - c->nll[i]) <= 2 * tolerance)) {
            fail_msg("%d tokens, nll %d: found %.6f, expected %.6f", c->count, i, (double)found.nll[i],
                     c->nll[i]);
        }
    }
    for (int i = 0; i < c->argmax_count; i++) {
        if (found.argmax[i] == c->argmax[i]) continue;
        double gap = gap_between(f32_session, vocab, i + 1, c->tokens, found.argmax[i], c->argmax[i]);
        if (gap > 2 * tolerance) {
            fail_msg("%d tokens, argmax %d: found %d, expected %d, gap %.6f", c->count, i, found.argmax[i],
                     c->argmax[i], gap);
        }
    }
    scores_free(found);
}

// Greedy tokens equal the reference's up to a step whose own top-2 gap is within rounding.
static void check_greedy(const int32_t *found, int stride, const int32_t *expected, const double *gap,
                         int count, double tolerance) {
    for (int i = 0; i < count; i++) {
        if (found[i * stride] == expected[i]) continue;
        if (!gap || gap[i] > 2 * tolerance)
            fail_msg("step %d: found %d, expected %d, gap %g", i, found[i * stride], expected[i],
                     gap ? gap[i] : -1);
        return;
    }
}

static void check_continuation(const struct golden_case *c, struct backend *backend, bool kv_cache,
                               double tolerance) {
    if (c->greedy_count == 0) return;
    struct session *session = fixture_session(backend, fixture_spec(1, c->count + c->greedy_count, kv_cache));
    int32_t *found = calloc((size_t)c->greedy_count, sizeof *found);
    assert_non_null(found);
    fixture_generate(session, 1, &c->count, c->tokens, c->greedy_count, found);
    check_greedy(found, 1, c->greedy, c->greedy_gap, c->greedy_count, tolerance);
    free(found);
    session_close(session);
}

static void check_model(const char *path) {
    fixture_require_device();
    char expected[256];
    snprintf(expected, sizeof expected, "%s/expected.json", path);
    struct golden golden;
    golden_load(expected, &golden);
    struct backend *f32 = fixture_backend(path, DTYPE_F32);
    int vocab = backend_config(f32)->vocab, context = backend_config(f32)->context;
    struct session *f32_session = fixture_session(f32, fixture_spec(1, context, false));
    for (int dtype = DTYPE_F32; dtype <= DTYPE_BF16; dtype++) {
        if (!fixture_computes((enum dtype)dtype)) continue;
        double tolerance = tolerance_of(path, (enum dtype)dtype);
        struct backend *backend = fixture_backend(path, (enum dtype)dtype);
        struct session *session = fixture_session(backend, fixture_spec(1, context, false));
        for (int i = 0; i < golden.count; i++)
            check_case(&golden.cases[i], session, f32_session, vocab, tolerance);
        session_close(session);
        for (int i = 0; i < golden.count; i++) {
            check_continuation(&golden.cases[i], backend, true, tolerance);
            check_continuation(&golden.cases[i], backend, false, tolerance);
        }
        backend_close(backend);
    }
    session_close(f32_session);
    backend_close(f32);
    golden_free(&golden);
}

static void test_tiny_f32(void **state) {
    (void)state;
    check_model("tests/data/tiny-f32");
}

static void test_tiny_bf16(void **state) {
    (void)state;
    check_model("tests/data/tiny-bf16");
}

static void test_shakespeare_first_window(void **state) {
    (void)state;
    fixture_require_device();
    const char *path = "tests/data/shakespeare/expected.json";
    int token_count, nll_count;
    int32_t *tokens = golden_load_ids(path, "first_window_tokens", &token_count);
    double *nll = golden_load_numbers(path, "first_window_nll", &nll_count);
    assert_int_equal(token_count, nll_count + 1);
    struct backend *backend = fixture_backend("models/shakespeare", DTYPE_F32);
    struct session *session = fixture_session(backend, fixture_spec(1, nll_count, true));
    float *found = calloc((size_t)nll_count, sizeof *found);
    assert_non_null(found);
    struct score_request request = {
        .count = nll_count, .tokens = tokens, .targets = tokens + 1, .nll = found};
    struct error error = {0};
    if (session_score(session, &request, &error) != STATUS_OK) fail_msg("%s", error.message);
    for (int i = 0; i < nll_count; i++) assert_true(fabs((double)found[i] - nll[i]) <= 2 * f32_tolerance);
    free(found);
    free(tokens);
    free(nll);
    session_close(session);
    backend_close(backend);
}

static void test_shakespeare_greedy(void **state) {
    (void)state;
    fixture_require_device();
    const char *path = "tests/data/shakespeare/expected.json";
    int prompt_count, greedy_count;
    int32_t *prompt = golden_load_ids(path, "greedy_prompt_ids", &prompt_count);
    int32_t *greedy = golden_load_ids(path, "greedy_ids", &greedy_count);
    struct backend *backend = fixture_backend("models/shakespeare", DTYPE_F32);
    for (int kv_cache = 0; kv_cache <= 1; kv_cache++) {
        struct session *session =
            fixture_session(backend, fixture_spec(1, prompt_count + greedy_count, kv_cache));
        int32_t *found = calloc((size_t)greedy_count, sizeof *found);
        assert_non_null(found);
        fixture_generate(session, 1, &prompt_count, prompt, greedy_count, found);
        check_greedy(found, 1, greedy, NULL, greedy_count, f32_tolerance);
        free(found);
        session_close(session);
    }
    backend_close(backend);
    free(prompt);
    free(greedy);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tiny_f32),
        cmocka_unit_test(test_tiny_bf16),
        cmocka_unit_test(test_shakespeare_first_window),
        cmocka_unit_test(test_shakespeare_greedy),
    };
    fixture_use_device("cpu");
    int failed = cmocka_run_group_tests_name("golden, cpu", tests, NULL, NULL);
    fixture_use_device("cuda");
    return failed + cmocka_run_group_tests_name("golden, cuda", tests, NULL, NULL);
}
