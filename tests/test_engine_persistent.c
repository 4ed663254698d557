// The persistent decode kernel against the plain graph, and what must not change its rows: their number, the
// way calls are cut, free rows between them.
#include "support/engine_fixture.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

// Sizes with and without a kernel of their own (GPT-2's; others), fewer and more heads than a GPU has
// clusters of blocks, so many that they take turns (4 rows of 32, 8 of 25), more keys than warps take at once
// (4 rows of 320, 8 with one of 900).
struct shape {
    const char *model;
    int rows, max_tokens, new_tokens, longest_prompt;
};
static const struct shape shapes[] = {
    {"random:L2-C128-H2-V1031-T96", 3, 96, 40, 50},      {"random:L2-C768-H12-V517-T64", 4, 64, 10, 50},
    {"random:L1-C2048-H32-V99-T340", 4, 340, 8, 320},    {"random:L2-C1280-H20-V99-T80", 2, 80, 8, 60},
    {"random:L2-C1024-H16-V1031-T300", 1, 300, 20, 250}, {"random:L2-C1600-H25-V211-T400", 1, 400, 40, 300},
    {"random:L2-C768-H12-V517-T1024", 8, 1024, 12, 900}, {"random:L1-C1600-H25-V99-T96", 8, 96, 8, 60},
    {"random:L2-C256-H4-V99-T96", 6, 96, 20, 50}};
enum { SHAPES = sizeof shapes / sizeof shapes[0], MOST_ROWS = 8, MOST_PROMPTS = MOST_ROWS * 1024 };

static int lengths[MOST_ROWS];
static int32_t prompts[MOST_PROMPTS];

static void make_prompts(const struct shape *shape, int vocab) {
    int total = 0;
    for (int row = 0; row < shape->rows; row++)
        total += lengths[row] = row == 0 ? shape->longest_prompt : 1 + row * 13 % shape->longest_prompt;
    fixture_random_tokens(5, vocab, total, prompts);
}

static struct fixture_run run_rows(struct backend *backend, const struct shape *shape, enum decode_path path,
                                   int first, int rows, float temperature) {
    struct session_spec spec = fixture_spec(rows, shape->max_tokens, true);
    spec.decode_path = path;
    spec.sampling.temperature = temperature;
    const int32_t *prompt = prompts;
    for (int row = 0; row < first; row++) prompt += lengths[row];
    return fixture_run_steps(backend, spec, lengths + first, prompt, shape->new_tokens);
}

// Whether this backend has the kernel for so many rows.
static bool has_kernel(struct backend *backend, const struct shape *shape) {
    struct session_spec spec = fixture_spec(shape->rows, shape->max_tokens, true);
    spec.decode_path = DECODE_PERSISTENT;
    struct session *session = NULL;
    struct error error = {0};
    const enum status status = session_open(backend, &spec, &session, &error);
    const bool has = status == STATUS_OK && strcmp(session_decode_path(session), "persistent") == 0;
    if (status != STATUS_OK) assert_int_equal(status, STATUS_USAGE);
    session_close(session);
    return has;
}

static void for_each_shape(void (*check)(struct backend *, const struct shape *)) {
    fixture_require_device();
    int checked = 0;
    for (int i = 0; i < SHAPES; i++) {
        for (int dtype = DTYPE_F16; dtype <= DTYPE_BF16; dtype++) {
            if (!fixture_computes((enum dtype)dtype)) continue;
            struct backend *backend = fixture_backend(shapes[i].model, (enum dtype)dtype);
            if (has_kernel(backend, &shapes[i])) {
                make_prompts(&shapes[i], backend_config(backend)->vocab);
                check(backend, &shapes[i]);
                checked++;
            }
            backend_close(backend);
        }
    }
    if (checked == 0) skip(); // not this GPU
}

static double tolerance_of(struct backend *backend, const struct shape *shape) {
    struct model *model = fixture_model(shape->model);
    const double tolerance = fixture_logits_tolerance(model, backend_dtype(backend));
    model_close(model);
    return tolerance;
}

// Logits within rounding, tokens equal until a near-tie.
static void check_same_as_graph(struct backend *backend, const struct shape *shape) {
    const double tolerance = tolerance_of(backend, shape);
    struct fixture_run graph = run_rows(backend, shape, DECODE_GRAPH, 0, shape->rows, 0);
    struct fixture_run own = run_rows(backend, shape, DECODE_PERSISTENT, 0, shape->rows, 0);
    for (int row = 0; row < shape->rows; row++)
        fixture_check_rows(shape->model, &graph, row, &own, row, tolerance);
    fixture_run_free(graph);
    fixture_run_free(own);
}

// A row's logits are its own, up to what the prefill in front of them rounds otherwise for other batches.
static void check_alone_is_the_same(struct backend *backend, const struct shape *shape) {
    const size_t V = (size_t)backend_config(backend)->vocab, B = (size_t)shape->rows;
    const double tolerance = tolerance_of(backend, shape);
    struct fixture_run batch = run_rows(backend, shape, DECODE_PERSISTENT, 0, shape->rows, 0);
    for (int row = 0; row < shape->rows; row += 2) {
        struct fixture_run alone = run_rows(backend, shape, DECODE_PERSISTENT, row, 1, 0);
        // The first token is the prefill's, whose products may round differently for other numbers of tokens.
        for (size_t step = 0; step < (size_t)shape->new_tokens; step++) {
            const float *expected = batch.logits + (step * B + (size_t)row) * V,
                        *found = alone.logits + step * V;
            if (batch.tokens[step * B + (size_t)row] != alone.tokens[step]) break;
            if (step == 0) continue;
            double most = 0;
            for (size_t v = 0; v < V; v++) most = fmax(most, fabs((double)expected[v] - (double)found[v]));
            assert_true(most <= tolerance);
        }
        fixture_run_free(alone);
    }
    fixture_run_free(batch);
}

// More steps in one call than a kernel runs, with others behind it; twice: runs repeat bit for bit.
static void check_many_steps_a_call(struct backend *backend, const struct shape *shape) {
    const int B = shape->rows, steps = shape->new_tokens;
    struct fixture_run stepwise = run_rows(backend, shape, DECODE_PERSISTENT, 0, B, 0);
    struct session_spec spec = fixture_spec(B, shape->max_tokens, true);
    spec.decode_path = DECODE_PERSISTENT;
    struct session *session = fixture_session(backend, spec);
    const size_t bytes = (size_t)(B * steps) * sizeof(int32_t);
    int32_t *at_once = malloc(bytes);
    int rows[MOST_ROWS];
    for (int row = 0; row < B; row++) rows[row] = row;
    for (int time = 0; time < 2; time++) {
        struct error error = {0};
        fixture_generate(session, B, lengths, prompts, steps, at_once);
        assert_memory_equal(at_once, stepwise.tokens, bytes);
        fixture_require_ok(session_retire(session, rows, B, &error), &error);
    }
    session_close(session);
    free(at_once);
    fixture_run_free(stepwise);
}

// Row 0 retired: it stays silent, and the others go on as they would have.
static void check_free_rows(struct backend *backend, const struct shape *shape) {
    const int B = shape->rows, half = shape->new_tokens / 2;
    if (B == 1) return;
    struct fixture_run all = run_rows(backend, shape, DECODE_PERSISTENT, 0, B, 0);
    struct session_spec spec = fixture_spec(B, shape->max_tokens, true);
    spec.decode_path = DECODE_PERSISTENT;
    struct session *session = fixture_session(backend, spec);
    struct error error = {0};
    const int row = 0;
    int32_t step[MOST_ROWS];
    fixture_prefill(session, B, lengths, prompts);
    for (int i = 1; i < shape->new_tokens; i++) {
        if (i == half) fixture_require_ok(session_retire(session, &row, 1, &error), &error);
        fixture_require_ok(session_decode(session, 1, &error), &error);
        fixture_require_ok(session_collect(session, step, &error), &error);
        assert_int_equal(step[0], i < half ? all.tokens[i * B] : -1);
        for (int other = 1; other < B; other++) assert_int_equal(step[other], all.tokens[i * B + other]);
    }
    session_close(session);
    fixture_run_free(all);
}

// Drawn tokens repeat, and are not the greedy ones.
static void check_drawing(struct backend *backend, const struct shape *shape) {
    const size_t bytes = (size_t)(shape->rows * shape->new_tokens) * sizeof(int32_t);
    struct fixture_run greedy = run_rows(backend, shape, DECODE_PERSISTENT, 0, shape->rows, 0);
    struct fixture_run drawn = run_rows(backend, shape, DECODE_PERSISTENT, 0, shape->rows, 1);
    struct fixture_run again = run_rows(backend, shape, DECODE_PERSISTENT, 0, shape->rows, 1);
    assert_memory_equal(drawn.tokens, again.tokens, bytes);
    assert_memory_not_equal(drawn.tokens, greedy.tokens, bytes);
    fixture_run_free(greedy);
    fixture_run_free(drawn);
    fixture_run_free(again);
}

// Nine rows are more than the kernel takes: refused by name, and the backend stays usable.
static void too_many_rows_are_refused(void **state) {
    (void)state;
    fixture_require_device();
    struct backend *backend = fixture_backend(shapes[0].model, DTYPE_BF16);
    if (!has_kernel(backend, &shapes[0])) {
        backend_close(backend);
        skip();
    }
    struct session_spec spec = fixture_spec(9, shapes[0].max_tokens, true);
    spec.decode_path = DECODE_PERSISTENT;
    struct session *session = NULL;
    struct error error = {0};
    assert_int_equal(session_open(backend, &spec, &session, &error), STATUS_USAGE);
    assert_non_null(strstr(error.message, "persistent"));
    assert_non_null(strstr(error.message, "9 rows"));
    spec.rows = 8;
    session_close(fixture_session(backend, spec));
    backend_close(backend);
}

#define SHAPE_TEST(name)                                                                                     \
    static void test_##name(void **state) {                                                                  \
        (void)state;                                                                                         \
        for_each_shape(check_##name);                                                                        \
    }
SHAPE_TEST(same_as_graph)
SHAPE_TEST(alone_is_the_same)
SHAPE_TEST(many_steps_a_call)
SHAPE_TEST(free_rows)
SHAPE_TEST(drawing)

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_as_graph),     cmocka_unit_test(test_alone_is_the_same),
        cmocka_unit_test(test_many_steps_a_call), cmocka_unit_test(test_free_rows),
        cmocka_unit_test(test_drawing),           cmocka_unit_test(too_many_rows_are_refused),
    };
    fixture_use_device("cuda");
    return cmocka_run_group_tests_name("persistent decode", tests, NULL, NULL);
}
