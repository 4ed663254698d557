// --batch auto as its users meet it: goals, the remembered answer, a cache that is no good, Ctrl-C.
#include "support/run_program.h"
#include "support/scratch_dir.h"

#include <dirent.h>
#include <jansson.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define AUTO "--model", "random:L1-C64-H2-V64-T64", "--threads", "1", "--reps", "2", "--batch", "auto"
#define CUT_SHORT "--prompt-len", "5", "--gen-len", "8", "--max-time", "0.5"
// Nearly all is prefill, which gains little from more rows: the knee is near.
#define COMPLETE "--prompt-len", "62", "--gen-len", "2"
#define CACHE PROGRAM_CACHE "/gpt2infer"

// The path of the one remembered batch size; false when there is none.
static bool find_answer(char path[512]) {
    DIR *entries = opendir(CACHE);
    bool found = false;
    for (struct dirent *entry; entries && (entry = readdir(entries));) {
        if (strncmp(entry->d_name, "batch-", 6) != 0) continue;
        snprintf(path, 512, "%s/%.200s", CACHE, entry->d_name);
        found = true;
    }
    if (entries) closedir(entries);
    return found;
}

static int forget_answers(void **state) {
    (void)state;
    char path[512];
    set_program_cache(NULL);
    while (find_answer(path)) {
        if (unlink(path) != 0) return -1;
    }
    return 0;
}

// Runs a search whose output is a JSON record; *errors, if not NULL, is to be freed.
static json_t *search(const char *const *arguments, char **errors) {
    struct program_run run = run_program(arguments, NULL);
    assert_exit(&run, arguments, 0);
    json_error_t error;
    json_t *record = json_loadb(run.output, run.size, 0, &error);
    if (!record) fail_msg("%s in: %.200s", error.text, run.output);
    if (errors) *errors = strdup(run.errors);
    program_run_free(&run);
    return record;
}

static const json_t *discovery_of(const json_t *record) {
    return json_object_get(record, "discovery");
}

static bool is_from_cache(const json_t *record) {
    return json_is_true(json_object_get(discovery_of(record), "from_cache"));
}

static int batch_of(const json_t *object) {
    return (int)json_integer_value(json_object_get(object, "batch"));
}

// The probe that proved the answer, which the rows were measured with.
static const json_t *proof(const json_t *record, size_t row_count) {
    const json_t *discovery = discovery_of(record), *rows = json_object_get(record, "rows");
    int batch = batch_of(discovery);
    assert_true(batch >= 1);
    assert_int_equal(json_array_size(rows), row_count);
    for (size_t i = 0; i < row_count; i++) assert_int_equal(batch_of(json_array_get(rows, i)), batch);
    const json_t *probes = json_object_get(discovery, "probes"), *found = NULL;
    for (size_t i = 0; i < json_array_size(probes); i++) {
        const json_t *probe = json_array_get(probes, i);
        if (batch_of(probe) == batch && json_is_true(json_object_get(probe, "meets_goal"))) found = probe;
    }
    if (!found) fail_msg("no probe proved %d", batch);
    return found;
}

static void test_goals(void **state) {
    (void)state;
    static const struct {
        const char *goal, *figure;
        double limit;
    } goals[] = {{"latency:400", "step_p95_ms", 400}, {"ttft:400", "ttft_ms", 400}, {"throughput", NULL, 0}};
    for (size_t i = 0; i < sizeof goals / sizeof goals[0]; i++) {
        char *errors;
        json_t *record = search(ARGS(AUTO, CUT_SHORT, "--goal", goals[i].goal, "--format", "json"), &errors);
        const json_t *probe = proof(record, 1);
        assert_string_equal(json_string_value(json_object_get(discovery_of(record), "goal")), goals[i].goal);
        assert_string_equal(json_string_value(json_object_get(discovery_of(record), "kvcache")), "on");
        assert_false(is_from_cache(record));
        if (goals[i].figure)
            assert_true(json_number_value(json_object_get(probe, goals[i].figure)) <= goals[i].limit);
        assert_non_null(strstr(errors, "prefill ms")); // the probes were told
        assert_non_null(strstr(errors, goals[i].goal));
        free(errors);
        json_decref(record);
    }
}

static void test_the_arms(void **state) {
    (void)state;
    char *errors;
    json_t *record = search(ARGS(AUTO, CUT_SHORT, "--kvcache", "both", "--format", "json"), &errors);
    proof(record, 2);
    assert_non_null(strstr(errors, "KV cache on"));
    free(errors);
    json_decref(record);
    record = search(ARGS(AUTO, CUT_SHORT, "--kvcache", "off", "--quiet", "--format", "json"), &errors);
    proof(record, 1);
    assert_string_equal(json_string_value(json_object_get(discovery_of(record), "kvcache")), "off");
    assert_string_equal(errors, "");
    free(errors);
    json_decref(record);
}

static void test_other_formats(void **state) {
    (void)state;
    struct program_run run = run_program(ARGS(AUTO, CUT_SHORT, "--quiet"), NULL);
    assert_int_equal(run.exit_code, 0);
    assert_non_null(strstr(run.output, "for the goal throughput"));
    program_run_free(&run);
    run = run_program(ARGS(AUTO, CUT_SHORT, "--quiet", "--format", "csv"), NULL);
    assert_int_equal(run.exit_code, 0);
    assert_non_null(strstr(run.output, "discovery_batch"));
    program_run_free(&run);
    run = run_program(ARGS(AUTO, CUT_SHORT, "--quiet", "--format", "jsonl"), NULL);
    json_t *line = json_loads(run.output, 0, NULL);
    assert_int_equal(batch_of(line), batch_of(discovery_of(line)));
    json_decref(line);
    program_run_free(&run);
}

static void write_file(const char *path, const char *text) {
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
}

static void test_the_answer_is_remembered(void **state) {
    (void)state;
    const char *const *arguments = ARGS(AUTO, COMPLETE, "--format", "json");
    json_t *first = search(arguments, NULL), *again = search(arguments, NULL);
    assert_false(is_from_cache(first));
    assert_true(json_is_true(json_object_get(discovery_of(first), "complete")));
    assert_true(is_from_cache(again));
    assert_int_equal(batch_of(discovery_of(again)), batch_of(discovery_of(first)));
    assert_int_equal(json_array_size(json_object_get(discovery_of(again), "probes")), 1);
    proof(again, 1);
    json_decref(again);
    json_decref(first);
    again = search(ARGS(AUTO, COMPLETE, "--format", "json", "--refresh"), NULL);
    assert_false(is_from_cache(again));
    json_decref(again);
    // A file that is no good is named and replaced.
    static const char *const bad[] = {"{", "{\"schema\": \"gpt2infer.cache/0\", \"key\": {}, \"value\": {}}"};
    char path[512];
    assert_true(find_answer(path));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char *errors;
        write_file(path, bad[i]);
        json_t *record = search(arguments, &errors);
        assert_false(is_from_cache(record));
        proof(record, 1);
        assert_non_null(strstr(errors, path));
        free(errors);
        json_decref(record);
    }
    again = search(arguments, NULL);
    assert_true(is_from_cache(again));
    json_decref(again);
}

static void test_no_cache_to_write_to(void **state) {
    (void)state;
    char *errors;
    set_program_cache("/dev/null/x");
    json_t *record = search(ARGS(AUTO, COMPLETE, "--format", "json"), &errors);
    set_program_cache(NULL);
    proof(record, 1);
    assert_non_null(strstr(errors, "note: /dev/null/x"));
    free(errors);
    json_decref(record);
}

static void test_little_time(void **state) {
    (void)state;
    char *errors, path[512];
    json_t *record =
        search(ARGS(AUTO, "--max-time", "0.001", "--prompt-len", "5", "--gen-len", "8", "--format", "json"),
               &errors);
    proof(record, 1);
    assert_int_equal(batch_of(discovery_of(record)), 1);
    assert_true(json_is_false(json_object_get(discovery_of(record), "complete")));
    assert_non_null(strstr(errors, "cut short"));
    assert_false(find_answer(path)); // half an answer is not remembered
    free(errors);
    json_decref(record);
}

// A failure: `named` is in the message, and there is no result.
static void assert_refused(const char *const *arguments, int exit_code, const char *named) {
    struct program_run run = run_program(arguments, NULL);
    assert_exit(&run, arguments, exit_code);
    assert_int_equal(run.size, 0);
    const char *message = strstr(run.errors, "gpt2infer: ");
    if (!message || !strstr(message, named)) fail_msg("\"%s\" is not in: %s", named, run.errors);
    program_run_free(&run);
}

static void test_bad_input(void **state) {
    (void)state;
    assert_refused(ARGS("--batch", "auto,4"), 2, "--batch: auto stands alone");
    assert_refused(ARGS("--batch", "4,auto"), 2, "--batch: auto stands alone");
    assert_refused(ARGS("--batch", "automatic"), 2, "--batch");
    assert_refused(ARGS("--batch", "auto", "--goal", "latency:-3"), 2, "--goal latency");
    assert_refused(ARGS("--batch", "auto", "--goal", "latency:nan"), 2, "--goal latency");
    assert_refused(ARGS("--batch", "auto", "--goal", "ttft:0"), 2, "--goal ttft");
    assert_refused(ARGS("--batch", "auto", "--goal", "speed"), 2, "latency:MS");
    assert_refused(ARGS("--batch", "auto", "--goal", ""), 2, "--goal");
    assert_refused(ARGS("--batch", "auto", "--reserve-mib", "-1"), 2, "--reserve-mib");
    assert_refused(ARGS("--batch", "auto", "--reserve-mib", "nan"), 2, "--reserve-mib");
    assert_refused(ARGS("--batch", "auto", "--reserve-mib", "99999999999999"), 2, "--reserve-mib");
    assert_refused(ARGS("--batch", "4", "--goal", "memory"), 2, "--goal is of no use without --batch auto");
    assert_refused(ARGS("--reserve-mib", "0"), 2, "--reserve-mib is of no use without --batch auto");
    assert_refused(ARGS(AUTO, "--max-time", "nan"), 2, "--max-time");
    assert_refused(ARGS(AUTO, "--prompt-len", "60", "--gen-len", "5"), 2, "--prompt-len");
    assert_refused(ARGS(AUTO, "--prompt-len", "60", "--gen-len", "1", "--goal", "latency:9"), 2, "--gen-len");
    assert_refused(ARGS("info", "--batch", "auto"), 2, "--batch");
}

static void test_no_batch_meets_it(void **state) {
    (void)state;
    assert_refused(ARGS(AUTO, CUT_SHORT, "--goal", "latency:0.00001"), 1, "--goal latency:1e-05");
    assert_refused(ARGS(AUTO, CUT_SHORT, "--goal", "memory", "--reserve-mib", "1000000000"), 4, "reserve");
}

// Waits until the file tells of this, at most 60 s.
static void wait_for_text(pid_t pid, const char *path, const char *text) {
    const struct timespec pause = {.tv_nsec = 20 * 1000 * 1000};
    for (int i = 0; i < 3000; i++) {
        char *all = read_whole_file(path, NULL);
        bool there = strstr(all, text);
        free(all);
        if (there) return;
        nanosleep(&pause, NULL);
    }
    kill(pid, SIGKILL);
    wait_program(pid);
    fail_msg("%s: \"%s\" was not written", path, text);
}

static void test_interrupted(void **state) {
    (void)state;
    struct scratch_dir dir;
    scratch_dir_make(&dir);
    scratch_dir_write(&dir, "errors", "", 0);
    char errors[300], output[300];
    snprintf(errors, sizeof errors, "%s/errors", dir.path);
    snprintf(output, sizeof output, "%s/output", dir.path);
    // A minute of work; a batch of 2 has been tried when its line is there.
    pid_t pid = start_program(ARGS("--model", "random:L12-C768-H12-V1000-T1024", "--batch", "auto",
                                   "--prompt-len", "20", "--gen-len", "20", "--format", "json"),
                              "/dev/null", output, errors);
    wait_for_text(pid, errors, "\n        2 ");
    kill(pid, SIGINT);
    assert_int_equal(wait_program(pid), 130);
    json_t *record = json_load_file(output, 0, NULL);
    assert_non_null(record);
    proof(record, 1);
    assert_true(json_is_false(json_object_get(discovery_of(record), "complete")));
    const json_t *row = json_array_get(json_object_get(record, "rows"), 0);
    assert_string_equal(json_string_value(json_object_get(row, "status")), "skipped");
    char *told = read_whole_file(errors, NULL);
    assert_non_null(strstr(told, "cut short"));
    free(told);
    json_decref(record);
    scratch_dir_remove(&dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_goals, forget_answers),
        cmocka_unit_test_setup(test_the_arms, forget_answers),
        cmocka_unit_test_setup(test_other_formats, forget_answers),
        cmocka_unit_test_setup(test_the_answer_is_remembered, forget_answers),
        cmocka_unit_test_setup(test_no_cache_to_write_to, forget_answers),
        cmocka_unit_test_setup(test_little_time, forget_answers),
        cmocka_unit_test(test_bad_input),
        cmocka_unit_test_setup(test_no_batch_meets_it, forget_answers),
        cmocka_unit_test_setup(test_interrupted, forget_answers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
