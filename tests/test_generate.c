// Continuous batching: what a request gets depends on the request alone, and every request ends once.
#include "engine/generate.h"
#include "support/engine_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { REQUESTS = 11, CONTEXT = 64, NEVER = -1 };

// Everything a run told its receiver.
struct heard {
    int32_t tokens[REQUESTS][CONTEXT];
    int made[REQUESTS];
    int finishes[REQUESTS];
    enum generate_finish finish[REQUESTS];
    int total;
    // What the receiver does of its own, at token or finish number ... (NEVER: not at all)
    int refuse_token_of; // ends that request at its second token
    int interrupt_at;    // raises `flag` after so many tokens
    int end_at;          // wants no more after so many finished requests
    int ended;
    volatile sig_atomic_t flag;
};

static void hear_nothing(struct heard *heard) {
    memset(heard, 0, sizeof *heard);
    heard->refuse_token_of = heard->interrupt_at = heard->end_at = NEVER;
}

static bool take_token(void *context, int request, int32_t token) {
    struct heard *heard = context;
    assert_in_range(request, 0, REQUESTS - 1);
    assert_in_range(heard->made[request], 0, CONTEXT - 1);
    assert_int_equal(heard->finishes[request], 0);
    heard->tokens[request][heard->made[request]++] = token;
    if (++heard->total == heard->interrupt_at) heard->flag = 1;
    return !(request == heard->refuse_token_of && heard->made[request] == 2);
}

static bool take_finish(void *context, int request, enum generate_finish finish) {
    struct heard *heard = context;
    heard->finishes[request]++;
    heard->finish[request] = finish;
    return ++heard->ended != heard->end_at;
}

// Ragged prompts, and more requests than any test has rows.
struct workload {
    int32_t prompts[REQUESTS][CONTEXT];
    struct generate_request requests[REQUESTS];
};

static void make_workload(struct workload *work) {
    for (int i = 0; i < REQUESTS; i++) {
        int length = 1 + (i * 7) % 23, max_new = 1 + (i * 5) % 17;
        fixture_random_tokens((uint64_t)i + 1, 257, length, work->prompts[i]);
        work->requests[i] = (struct generate_request){
            .prompt = work->prompts[i], .length = length, .max_new = max_new, .id = (uint64_t)(1000 + i)};
    }
}

static struct backend *open_tiny(void) {
    fixture_require_device();
    return fixture_backend("random:L2-C64-H2-V257-T64", DTYPE_F32);
}

static enum status run(struct backend *backend, int rows, const struct generate_request *requests, int count,
                       struct generate_options options, struct heard *heard, struct error *error) {
    int max_tokens;
    TRY(generate_plan(requests, count, CONTEXT, &max_tokens, error));
    struct session_spec spec = fixture_spec(rows, max_tokens, true);
    // Hot enough that neighbours' random numbers would show.
    spec.sampling = (struct sampling){.temperature = 1.5f, .top_p = 1.0f, .seed = 7};
    struct session *session = fixture_session(backend, spec);
    struct generate_receiver receiver = {.context = heard, .token = take_token, .finished = take_finish};
    options.interrupt = &heard->flag;
    enum status status = generate_run(session, requests, count, &options, &receiver, error);
    session_close(session);
    return status;
}

static const struct generate_options one_step = {.eos = -1, .steps_per_call = 1};

static void run_all(struct backend *backend, const struct workload *work, int rows,
                    struct generate_options options, struct heard *heard) {
    struct error error = {0};
    hear_nothing(heard);
    enum status status = run(backend, rows, work->requests, REQUESTS, options, heard, &error);
    if (status != STATUS_OK) fail_msg("status %d: %s", (int)status, error.message);
    for (int i = 0; i < REQUESTS; i++) assert_int_equal(heard->finishes[i], 1);
}

static void assert_same_tokens(const struct heard *found, const struct heard *expected) {
    assert_memory_equal(found->made, expected->made, sizeof found->made);
    assert_memory_equal(found->tokens, expected->tokens, sizeof found->tokens);
    assert_memory_equal(found->finish, expected->finish, sizeof found->finish);
}

static void test_alone_as_in_any_batch(void **state) {
    (void)state;
    struct backend *backend = open_tiny();
    struct workload work;
    make_workload(&work);
    struct heard together, other, alone;
    run_all(backend, &work, REQUESTS, one_step, &together);
    for (int i = 0; i < REQUESTS; i++) {
        assert_int_equal(together.made[i], work.requests[i].max_new);
        assert_int_equal(together.finish[i], GENERATE_LENGTH);
    }
    for (int rows = 1; rows <= 4; rows++) {
        run_all(backend, &work, rows, one_step, &other);
        assert_same_tokens(&other, &together);
    }
    for (int i = 0; i < REQUESTS; i++) {
        struct error error = {0};
        hear_nothing(&alone);
        assert_int_equal(run(backend, 1, &work.requests[i], 1, one_step, &alone, &error), STATUS_OK);
        assert_int_equal(alone.made[0], together.made[i]);
        assert_memory_equal(alone.tokens[0], together.tokens[i], sizeof alone.tokens[0]);
    }
    backend_close(backend);
}

static void test_steps_per_call_change_nothing(void **state) {
    (void)state;
    struct backend *backend = open_tiny();
    struct workload work;
    make_workload(&work);
    struct heard single, several;
    struct generate_options options = one_step;
    run_all(backend, &work, 3, options, &single);
    options.eos = single.tokens[2][3]; // ends some requests inside a call
    run_all(backend, &work, 3, options, &single);
    options.steps_per_call = 8;
    run_all(backend, &work, 3, options, &several);
    assert_same_tokens(&several, &single);
    backend_close(backend);
}

static void test_end_of_text_ends_a_request(void **state) {
    (void)state;
    struct backend *backend = open_tiny();
    struct workload work;
    make_workload(&work);
    struct heard all, ended;
    run_all(backend, &work, 4, one_step, &all);
    struct generate_options options = one_step;
    options.eos = all.tokens[2][3]; // request 2 makes it at its fourth token, or earlier
    run_all(backend, &work, 4, options, &ended);
    assert_int_equal(ended.finish[2], GENERATE_STOPPED);
    for (int i = 0; i < REQUESTS; i++) {
        int length = 0;
        while (length < all.made[i] && all.tokens[i][length] != options.eos) length++;
        bool has_eos = length < all.made[i];
        assert_int_equal(ended.made[i], has_eos ? length + 1 : length); // it is the last token received
        assert_int_equal(ended.finish[i], has_eos ? GENERATE_STOPPED : GENERATE_LENGTH);
        assert_memory_equal(ended.tokens[i], all.tokens[i], (size_t)ended.made[i] * sizeof all.tokens[i][0]);
    }
    backend_close(backend);
}

static void test_receiver_ends_a_request(void **state) {
    (void)state;
    struct backend *backend = open_tiny();
    struct workload work;
    make_workload(&work);
    struct error error = {0};
    struct heard all, refused;
    run_all(backend, &work, 2, one_step, &all);
    hear_nothing(&refused);
    refused.refuse_token_of = 3;
    struct generate_options options = {.eos = -1, .steps_per_call = 4};
    assert_int_equal(run(backend, 2, work.requests, REQUESTS, options, &refused, &error), STATUS_OK);
    assert_int_equal(refused.made[3], 2);
    assert_int_equal(refused.finish[3], GENERATE_STOPPED);
    for (int i = 0; i < REQUESTS; i++) {
        assert_int_equal(refused.finishes[i], 1);
        if (i != 3) assert_memory_equal(refused.tokens[i], all.tokens[i], sizeof all.tokens[i]);
    }
    backend_close(backend);
}

static void test_receiver_ends_the_run(void **state) {
    (void)state;
    struct backend *backend = open_tiny();
    struct workload work;
    make_workload(&work);
    struct error error = {0};
    struct heard heard;
    hear_nothing(&heard);
    heard.end_at = 3;
    assert_int_equal(run(backend, 2, work.requests, REQUESTS, one_step, &heard, &error), STATUS_OK);
    assert_int_equal(heard.ended, 3);
    backend_close(backend);
}

static void test_interruption_finishes_every_request_once(void **state) {
    (void)state;
    struct backend *backend = open_tiny();
    struct workload work;
    make_workload(&work);
    struct error error = {0};
    struct heard heard;
    hear_nothing(&heard);
    heard.interrupt_at = 20;
    assert_int_equal(run(backend, 2, work.requests, REQUESTS, one_step, &heard, &error), STATUS_INTERRUPTED);
    assert_true(heard.total >= 20 && heard.total <= 21); // the step was delivered, none followed
    int interrupted = 0;
    for (int i = 0; i < REQUESTS; i++) {
        assert_int_equal(heard.finishes[i], 1);
        interrupted += heard.finish[i] == GENERATE_INTERRUPTED;
        if (heard.finish[i] == GENERATE_LENGTH) assert_int_equal(heard.made[i], work.requests[i].max_new);
    }
    assert_true(interrupted > 0 && interrupted < REQUESTS);
    backend_close(backend);
}

static void test_plan(void **state) {
    (void)state;
    struct error error = {0};
    int32_t prompt[CONTEXT] = {0};
    int max_tokens = 0;
    struct generate_request requests[2] = {{.prompt = prompt, .length = 30, .max_new = 34},
                                           {.prompt = prompt, .length = 5, .max_new = 1}};
    assert_int_equal(generate_plan(requests, 2, CONTEXT, &max_tokens, &error), STATUS_OK);
    assert_int_equal(max_tokens, 64);
    requests[0].max_new = 35;
    assert_int_equal(generate_plan(requests, 2, CONTEXT, &max_tokens, &error), STATUS_USAGE);
    assert_non_null(strstr(error.message, "65"));
    assert_non_null(strstr(error.message, "64"));
    requests[0].max_new = INT32_MAX;
    assert_int_equal(generate_plan(requests, 2, CONTEXT, &max_tokens, &error), STATUS_USAGE);
    requests[0] = (struct generate_request){.prompt = prompt, .length = 0, .max_new = 1};
    assert_int_equal(generate_plan(requests, 2, CONTEXT, &max_tokens, &error), STATUS_USAGE);
    requests[0] = (struct generate_request){.prompt = prompt, .length = 1, .max_new = 0};
    assert_int_equal(generate_plan(requests, 2, CONTEXT, &max_tokens, &error), STATUS_USAGE);
    assert_int_equal(generate_plan(&requests[1], 1, CONTEXT, &max_tokens, &error), STATUS_OK);
    assert_int_equal(max_tokens, 6);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_alone_as_in_any_batch),
        cmocka_unit_test(test_steps_per_call_change_nothing),
        cmocka_unit_test(test_end_of_text_ends_a_request),
        cmocka_unit_test(test_receiver_ends_a_request),
        cmocka_unit_test(test_receiver_ends_the_run),
        cmocka_unit_test(test_interruption_finishes_every_request_once),
        cmocka_unit_test(test_plan),
    };
    fixture_use_device("cpu");
    int failed = cmocka_run_group_tests_name("generate, cpu", tests, NULL, NULL);
    fixture_use_device("cuda");
    return failed + cmocka_run_group_tests_name("generate, cuda", tests, NULL, NULL);
}
