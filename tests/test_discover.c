// Batch discovery on a made-up device whose best answers are known.
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include "base/clock.h"
#include "measure/discover.h"
#include "tests/support/assert_close.h"
#include "tests/support/fake_backend.h"
#include "tests/support/scratch_dir.h"
#include "tests/support/written_text.h"

#include <stb/stb_ds.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct fake_backend fake;
static struct scratch_dir scratch;

// Takes the place of the program's clock.
double clock_seconds(void) {
    return fake.now;
}

struct fixture {
    struct discover_options options;
    struct discovery discovery;
    struct error note, error;
};

static int set_up(void **state) {
    static struct fixture fixture;
    static const struct record_model model = {.name = "a model"};
    memset(&fixture, 0, sizeof fixture);
    fake_backend_init(&fake);
    fake.capacity = 1000; // 100 rows
    // A step takes 1 ms and 0.1 ms per row: tok/s grow from 0.9 to 9 per ms at 100 rows.
    fake.row_step_seconds = 0.0001;
    fixture.options = (struct discover_options){
        .prompt_len = 5, .gen_len = 101, .kv_cache = true, .model = &model, .interrupt = &fake.interrupt};
    scratch_dir_make(&scratch);
    setenv("XDG_CACHE_HOME", scratch.path, 1);
    *state = &fixture;
    return 0;
}

static int tear_down(void **state) {
    struct fixture *fixture = *state;
    struct scratch_dir made;
    discovery_clear(&fixture->discovery);
    snprintf(made.path, sizeof made.path, "%.200s/gpt2infer", scratch.path);
    if (access(made.path, F_OK) == 0) scratch_dir_remove(&made);
    scratch_dir_remove(&scratch);
    return fake.open_sessions;
}

static enum status discover(struct fixture *fixture, const char *goal) {
    discovery_clear(&fixture->discovery);
    if (discover_goal_parse(goal, &fixture->options.goal, &fixture->error) != STATUS_OK)
        fail_msg("%s", fixture->error.message);
    return discover_batch(&fake.base, &fixture->options, &fixture->discovery, &fixture->note,
                          &fixture->error);
}

static const struct batch_probe *probe_of(const struct fixture *fixture, int batch) {
    for (ptrdiff_t i = 0; i < arrlen(fixture->discovery.trail); i++) {
        if (fixture->discovery.trail[i].batch == batch) return &fixture->discovery.trail[i];
    }
    return NULL;
}

static void test_memory_finds_the_edge(void **state) {
    struct fixture *fixture = *state;
    static const int ledger_bytes[] = {0, 7, 30, 2000}; // true, hopeful, fearful, hopeless
    for (int i = 0; i < 4; i++) {
        fake.ledger_row_bytes = ledger_bytes[i];
        fixture->options.refresh = true;
        assert_int_equal(discover(fixture, "memory"), STATUS_OK);
        assert_int_equal(fixture->discovery.batch, 100);
        assert_true(fixture->discovery.complete);
        assert_true(probe_of(fixture, 100)->fits);
        assert_false(probe_of(fixture, 101)->fits); // proved from both sides
        assert_string_equal(probe_of(fixture, 101)->reason, "101 rows do not fit");
    }
}

static void test_memory_keeps_a_reserve(void **state) {
    struct fixture *fixture = *state;
    fixture->options.reserve_bytes = 250;
    assert_int_equal(discover(fixture, "memory"), STATUS_OK);
    assert_int_equal(fixture->discovery.batch, 75);
    assert_non_null(strstr(probe_of(fixture, 76)->reason, "reserve"));
}

static void test_latency_is_the_largest_within(void **state) {
    struct fixture *fixture = *state;
    fixture->options.gen_len = 2; // one step, of 1 ms and 0.1 ms per row
    assert_int_equal(discover(fixture, "latency:4.35"), STATUS_OK);
    assert_int_equal(fixture->discovery.batch, 33);
    assert_close(probe_of(fixture, 33)->p95_ms, 4.3, 1e-4);
    assert_false(probe_of(fixture, 34)->meets_goal);
    assert_int_equal(discover(fixture, "latency:1000"), STATUS_OK); // memory ends first
    assert_int_equal(fixture->discovery.batch, 100);
}

static void test_a_limit_no_batch_meets(void **state) {
    struct fixture *fixture = *state;
    assert_int_equal(discover(fixture, "ttft:1"), STATUS_FAILED); // prefill takes 2 ms
    assert_non_null(strstr(fixture->error.message, "ttft:1"));
    assert_int_equal(fixture->discovery.batch, 0);
}

static void test_the_knee_is_the_smallest_near_the_best(void **state) {
    struct fixture *fixture = *state;
    assert_int_equal(discover(fixture, "throughput"), STATUS_OK);
    // With n rows 101 n tokens take 2 ms + 100 (1 + n / 10) ms: 9165 tok/s at the edge of 100 rows, and 98 %
    // of that from 82 rows on. The edge and the knee are each found to 1/32.
    const struct batch_probe *answer = probe_of(fixture, fixture->discovery.batch);
    double n = fixture->discovery.batch;
    assert_true(n >= 80 && n <= 85);
    assert_close(answer->tok_s, 101 * n / (0.002 + 0.1 + 0.01 * n), 1e-6);
    // A device that gains nothing from rows: one is enough.
    fake.step_seconds = 0;
    fake.prefill_seconds = 0;
    fake.row_step_seconds = 0.001;
    fixture->options.refresh = true;
    assert_int_equal(discover(fixture, "throughput"), STATUS_OK);
    assert_int_equal(fixture->discovery.batch, 1);
    assert_int_equal(arrlen(fixture->discovery.trail), 3);
}

static void test_nothing_fits(void **state) {
    struct fixture *fixture = *state;
    fake.capacity = 9;
    static const char *const goals[] = {"throughput", "latency:100", "memory"};
    for (int i = 0; i < 3; i++) {
        assert_int_equal(discover(fixture, goals[i]), STATUS_OUT_OF_MEMORY);
        assert_non_null(strstr(fixture->error.message, "not even one row"));
        assert_int_equal(fixture->discovery.batch, 0);
    }
}

static void test_other_failures_are_not_taken_for_memory(void **state) {
    struct fixture *fixture = *state;
    fake.failing_rows = 8;
    assert_int_equal(discover(fixture, "throughput"), STATUS_FAILED);
    assert_string_equal(fixture->error.message, "the device fell over");
}

static void test_answers_are_remembered_and_proved_again(void **state) {
    struct fixture *fixture = *state;
    assert_int_equal(discover(fixture, "memory"), STATUS_OK);
    assert_false(fixture->discovery.from_cache);
    assert_int_equal(discover(fixture, "memory"), STATUS_OK);
    assert_true(fixture->discovery.from_cache);
    assert_int_equal(fixture->discovery.batch, 100);
    assert_int_equal(arrlen(fixture->discovery.trail), 1);
    fake.capacity = 500; // somebody else took memory
    assert_int_equal(discover(fixture, "memory"), STATUS_OK);
    assert_false(fixture->discovery.from_cache);
    assert_int_equal(fixture->discovery.batch, 50);
    assert_non_null(strstr(fixture->note.message, "100"));
    fake.capacity = 1000;
    fixture->options.gen_len = 50; // another workload
    assert_int_equal(discover(fixture, "memory"), STATUS_OK);
    assert_int_equal(fixture->discovery.batch, 100);
    fixture->options.decode_path = DECODE_GRAPH; // other kernels
    assert_int_equal(discover(fixture, "memory"), STATUS_OK);
    assert_false(fixture->discovery.from_cache);
    fake.base.options.deterministic = true; // other products
    assert_int_equal(discover(fixture, "memory"), STATUS_OK);
    assert_false(fixture->discovery.from_cache);
    fixture->options.refresh = true;
    fixture->options.gen_len = 101;
    assert_int_equal(discover(fixture, "memory"), STATUS_OK);
    assert_int_equal(fixture->discovery.batch, 100);
}

static void test_time_bounds_the_search(void **state) {
    struct fixture *fixture = *state;
    fake.step_seconds = 0.01; // a run of 1 s and more
    fixture->options.max_seconds = 20;
    assert_int_equal(discover(fixture, "throughput"), STATUS_OK);
    assert_false(fixture->discovery.complete);
    assert_true(fixture->discovery.batch >= 1 && fixture->discovery.batch <= 16);
    assert_true(fake.now - 1000 <= 20);
    assert_non_null(probe_of(fixture, fixture->discovery.batch));
}

// An answer that no longer holds may have used up the time; one row is tried all the same.
static void test_one_row_is_tried_even_late(void **state) {
    struct fixture *fixture = *state;
    assert_int_equal(discover(fixture, "ttft:5"), STATUS_OK);
    assert_int_equal(fixture->discovery.batch, 100);
    fake.prefill_seconds = 0.006;
    fixture->options.max_seconds = 0.001;
    assert_int_equal(discover(fixture, "ttft:5"), STATUS_FAILED);
    assert_non_null(probe_of(fixture, 1));
    fake.prefill_seconds = 0.002;
    fake.capacity = 500; // 100 rows do not fit
    assert_int_equal(discover(fixture, "ttft:5"), STATUS_OK);
    assert_int_equal(fixture->discovery.batch, 1);
    assert_false(fixture->discovery.complete);
}

static void test_a_stop_flag_ends_it(void **state) {
    struct fixture *fixture = *state;
    fake.stop_at = fake.now + 1;
    assert_int_equal(discover(fixture, "throughput"), STATUS_INTERRUPTED);
    assert_true(fixture->discovery.batch >= 1); // what was proved until then
    assert_true(probe_of(fixture, fixture->discovery.batch)->meets_goal);
    assert_false(fixture->discovery.complete);
    discovery_clear(&fixture->discovery);
    assert_int_equal(discover(fixture, "throughput"), STATUS_INTERRUPTED); // nothing at all
    assert_int_equal(fixture->discovery.batch, 0);
}

// A reserve is others': by the ledger's account it is not touched, even for a moment.
static void test_no_session_takes_from_the_reserve(void **state) {
    struct fixture *fixture = *state;
    fixture->options.reserve_bytes = 600;
    fake.failing_rows = 41;
    assert_int_equal(discover(fixture, "memory"), STATUS_OK);
    assert_int_equal(fixture->discovery.batch, 40);
}

static void test_goals_in_words(void **state) {
    struct fixture *fixture = *state;
    static const char *const good[] = {"throughput", "memory", "latency:12.5", "ttft:200"};
    static const char *const bad[] = {"",          "speed",  "latency",     "latency:", "latency:-3",
                                      "latency:0", "ttft:x", "latency:inf", "memory:3"};
    struct discover_goal goal;
    char text[GOAL_TEXT];
    for (int i = 0; i < 4; i++) {
        assert_int_equal(discover_goal_parse(good[i], &goal, &fixture->error), STATUS_OK);
        discover_goal_format(&goal, text);
        assert_string_equal(text, good[i]);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        if (discover_goal_parse(bad[i], &goal, &fixture->error) != STATUS_USAGE) fail_msg("%s", bad[i]);
        assert_non_null(strstr(fixture->error.message, "--goal"));
    }
}

static void test_workloads_that_cannot_be(void **state) {
    struct fixture *fixture = *state;
    fixture->options.gen_len = 1020;
    assert_int_equal(discover(fixture, "memory"), STATUS_USAGE);
    fixture->options.gen_len = 1;
    assert_int_equal(discover(fixture, "latency:5"), STATUS_USAGE);
    assert_int_equal(fake.prefills, 0);
}

static void test_the_trail_is_told(void **state) {
    struct fixture *fixture = *state;
    assert_int_equal(discover(fixture, "memory"), STATUS_OK);
    FILE *file = written_text_open();
    discovery_write_heading(file);
    for (ptrdiff_t i = 0; i < arrlen(fixture->discovery.trail); i++)
        discovery_write_probe(&fixture->discovery.trail[i], file);
    discovery_write_answer(&fixture->discovery, file);
    char *text = written_text_close(file);
    assert_non_null(strstr(text, "100 for the goal memory, by 3 probes"));
    assert_non_null(strstr(text, "  101 rows do not fit\n"));
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_memory_finds_the_edge, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_memory_keeps_a_reserve, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_latency_is_the_largest_within, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_limit_no_batch_meets, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_the_knee_is_the_smallest_near_the_best, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_nothing_fits, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_other_failures_are_not_taken_for_memory, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_answers_are_remembered_and_proved_again, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_time_bounds_the_search, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_one_row_is_tried_even_late, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_no_session_takes_from_the_reserve, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_stop_flag_ends_it, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_goals_in_words, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_workloads_that_cannot_be, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_the_trail_is_told, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
