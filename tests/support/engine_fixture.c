#include "engine_fixture.h"

#include "base/philox.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct device device;
static struct device_info device_info;
static bool device_found;

void fixture_require_ok(enum status status, const struct error *error) {
    if (status != STATUS_OK) fail_msg("status %d: %s", (int)status, error->message);
}

bool fixture_use_device(const char *name) {
    struct error error = {0};
    device_found = device_find(name, &device, &error) == STATUS_OK &&
                   device_describe(device, &device_info, &error) == STATUS_OK;
    return device_found;
}

void fixture_require_device(void) {
    if (!device_found) skip();
}

bool fixture_computes(enum dtype dtype) {
    return device_info.dtypes & 1u << dtype;
}

struct model *fixture_model(const char *name) {
    struct error error = {0};
    struct model *model;
    fixture_require_ok(model_open(name, &model, &error), &error);
    return model;
}

struct backend *fixture_backend(const char *name, enum dtype dtype) {
    struct error error = {0};
    struct model *model = fixture_model(name);
    struct backend *backend;
    struct backend_options options = {.dtype = dtype};
    enum status status = backend_open(device, model, &options, &backend, &error);
    model_close(model);
    fixture_require_ok(status, &error);
    return backend;
}

struct session_spec fixture_spec(int rows, int max_tokens, bool kv_cache) {
    return (struct session_spec){.rows = rows,
                                 .max_tokens = max_tokens,
                                 .kv_cache = kv_cache,
                                 .keep_logits = true,
                                 .sampling = {.top_p = 1.0f}};
}

struct session *fixture_session(struct backend *backend, struct session_spec spec) {
    struct error error = {0};
    struct session *session;
    fixture_require_ok(session_open(backend, &spec, &session, &error), &error);
    return session;
}

void fixture_prefill(struct session *session, int count, const int *lengths, const int32_t *tokens) {
    struct error error = {0};
    int *rows = calloc((size_t)count, sizeof *rows);
    uint64_t *requests = calloc((size_t)count, sizeof *requests);
    assert_non_null(rows);
    assert_non_null(requests);
    for (int i = 0; i < count; i++) {
        rows[i] = i;
        requests[i] = (uint64_t)i;
    }
    struct prompt_batch prompts = {count, rows, lengths, tokens, requests};
    enum status status = session_prefill(session, &prompts, &error);
    free(rows);
    free(requests);
    fixture_require_ok(status, &error);
}

void fixture_generate(struct session *session, int count, const int *lengths, const int32_t *tokens,
                      int new_tokens, int32_t *generated) {
    struct error error = {0};
    int B = session_spec_of(session)->rows;
    fixture_prefill(session, count, lengths, tokens);
    fixture_require_ok(session_collect(session, generated, &error), &error);
    if (new_tokens == 1) return;
    fixture_require_ok(session_decode(session, new_tokens - 1, &error), &error);
    fixture_require_ok(session_collect(session, generated + B, &error), &error);
}

struct fixture_run fixture_run_steps(struct backend *backend, struct session_spec spec, const int *lengths,
                                     const int32_t *prompts, int steps) {
    const size_t rows = (size_t)spec.rows, V = (size_t)backend_config(backend)->vocab;
    struct fixture_run run = {spec.rows, steps, (int)V, NULL, NULL};
    run.tokens = calloc((size_t)steps * rows, sizeof *run.tokens);
    run.logits = calloc((size_t)steps * rows * V, sizeof *run.logits);
    assert_non_null(run.tokens);
    assert_non_null(run.logits);
    struct error error = {0};
    struct session *session = fixture_session(backend, spec);
    fixture_prefill(session, spec.rows, lengths, prompts);
    for (size_t step = 0; step < (size_t)steps; step++) {
        if (step > 0) fixture_require_ok(session_decode(session, 1, &error), &error);
        fixture_require_ok(session_collect(session, run.tokens + step * rows, &error), &error);
        for (size_t row = 0; row < rows; row++)
            fixture_require_ok(
                session_logits(session, (int)row, run.logits + (step * rows + row) * V, &error), &error);
    }
    session_close(session);
    return run;
}

void fixture_run_free(struct fixture_run run) {
    free(run.tokens);
    free(run.logits);
}

void fixture_check_rows(const char *what, const struct fixture_run *a, int a_row, const struct fixture_run *b,
                        int b_row, double tolerance) {
    for (int step = 0; step < a->steps; step++) {
        const int a_at = step * a->rows + a_row, b_at = step * b->rows + b_row;
        const float *x = a->logits + (size_t)a_at * (size_t)a->vocab;
        const float *y = b->logits + (size_t)b_at * (size_t)b->vocab;
        for (int v = 0; v < a->vocab; v++) {
            if (!(fabs((double)x[v] - (double)y[v]) <= 2 * tolerance))
                fail_msg("%s: row %d step %d logit %d: %g against %g", what, a_row, step, v, (double)x[v],
                         (double)y[v]);
        }
        const int32_t s = a->tokens[a_at], t = b->tokens[b_at];
        if (s == t) continue;
        if (fabs((double)x[s] - (double)x[t]) > 4 * tolerance)
            fail_msg("%s: row %d step %d: token %d against %d", what, a_row, step, s, t);
        return; // a near-tie: what follows it differs for good reason
    }
}

void fixture_random_tokens(uint64_t seed, int vocab, int count, int32_t *tokens) {
    uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    for (int i = 0; i < count; i++) {
        uint32_t counter[4] = {(uint32_t)i, 0, 0, 0}, words[4];
        philox4x32(counter, key, words);
        tokens[i] = (int32_t)(words[0] % (uint32_t)vocab);
    }
}

static double unit_roundoff(enum dtype dtype) {
    switch (dtype) {
    case DTYPE_F16:
        return ldexp(1, -11);
    case DTYPE_BF16:
        return ldexp(1, -8);
    default:
        return ldexp(1, -24);
    }
}

double fixture_logits_tolerance(const struct model *model, enum dtype dtype) {
    const struct gpt2_config *config = model_config(model);
    size_t V = (size_t)config->vocab, C = (size_t)config->channels;
    float *head = calloc(V * C, sizeof *head), *gain = calloc(C, sizeof *gain);
    assert_non_null(head);
    assert_non_null(gain);
    model_read(model, config->tied_lm_head ? GPT2_WTE : GPT2_LMHEAD, 0, head);
    model_read(model, GPT2_LNFW, 0, gain);
    double longest = 0, largest_gain = 0;
    for (size_t v = 0; v < V; v++) {
        double squares = 0;
        for (size_t c = 0; c < C; c++) squares += (double)head[v * C + c] * (double)head[v * C + c];
        longest = fmax(longest, sqrt(squares));
    }
    for (size_t c = 0; c < C; c++) largest_gain = fmax(largest_gain, fabs((double)gain[c]));
    free(head);
    free(gain);
    return 5 * longest * largest_gain * unit_roundoff(dtype) * sqrt(10.0 * config->layers / 3.0);
}
