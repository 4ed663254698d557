// --plot, --reference and the plot command as a user meets them.
#include "support/run_program.h"
#include "support/scratch_dir.h"
#include "support/xml_check.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define TINY                                                                                                 \
    "--model", "random:L1-C16-H2-V64-T32", "--prompt-len", "4", "--gen-len", "4", "--reps", "1", "--quiet"
#define MISSING "/dev/null/picture.svg" // a directory that cannot be

static struct scratch_dir scratch;

static int set_up(void **state) {
    (void)state;
    scratch_dir_make(&scratch);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    scratch_dir_remove(&scratch);
    return 0;
}

static const char *path_of(const char *name) {
    static char paths[4][300];
    static int next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", scratch.path, name);
    return path;
}

static void assert_fails(const char *const *arguments, int exit_code, const char *named) {
    struct program_run run = run_program(arguments, NULL);
    assert_exit(&run, arguments, exit_code);
    assert_int_equal(run.size, 0);
    if (!strstr(run.errors, named)) fail_msg("\"%s\" is not in: %s", named, run.errors);
    program_run_free(&run);
}

static void test_bench_and_plot(void **state) {
    (void)state;
    const char *record = path_of("record.json"), *first = path_of("first.svg"), *again = path_of("again.svg");
    struct program_run run = run_program(ARGS(TINY, "--batch", "1,4", "--kvcache", "both", "--format", "json",
                                              "--output-file", record, "--plot", first),
                                         NULL);
    assert_exit(&run, ARGS("--plot"), 0);
    assert_int_equal(run.size, 0);
    program_run_free(&run);
    run = run_program(ARGS("plot", record, "--plot", again), NULL);
    assert_exit(&run, ARGS("plot"), 0);
    assert_string_equal(run.errors, "");
    program_run_free(&run);
    char *picture = read_whole_file(first, NULL), *same = read_whole_file(again, NULL);
    assert_well_formed(picture);
    assert_non_null(strstr(picture, "random:L1-C16-H2-V64-T32"));
    assert_string_equal(same, picture); // nothing of the picture is lost in the record
    free(picture);
    free(same);
    run = run_program(ARGS("plot", record, "--reference", "published-a100"), NULL);
    assert_exit(&run, ARGS("plot"), 0);
    assert_non_null(strstr(run.output, "published 0.96"));
    program_run_free(&run);
    unlink(record);
    unlink(first);
    unlink(again);
}

static void test_text_follows_table(void **state) {
    (void)state;
    const char *const *arguments = ARGS(TINY, "--batch", "8", "--plot", "-", "--reference", "published-a100");
    struct program_run run = run_program(arguments, NULL);
    assert_exit(&run, arguments, 0);
    const char *table = strstr(run.output, "workload"), *published = strstr(run.output, "12 query and 6 KV"),
               *plot = strstr(run.output, "Tokens per second over batch size");
    assert_non_null(table);
    assert_non_null(published);
    assert_non_null(plot);
    assert_true(table < published && published < plot);
    assert_non_null(strstr(run.output, "770.2"));
    program_run_free(&run);
    arguments = ARGS(TINY, "--batch", "5", "--format", "markdown", "--reference", "published-a100");
    run = run_program(arguments, NULL);
    assert_exit(&run, arguments, 0);
    assert_non_null(strstr(run.output, "None of these batch sizes"));
    program_run_free(&run);
}

static void test_refusals(void **state) {
    (void)state;
    const char *same = path_of("same");
    assert_fails(ARGS(TINY, "--plot", "-", "--format", "json"), 2, "--plot -");
    assert_fails(ARGS(TINY, "--plot", same, "--output-file", same), 2, same);
    assert_int_equal(access(same, F_OK), -1); // nothing is left behind
    assert_fails(ARGS(TINY, "--reference", "published-h100"), 2, "published-a100");
    assert_fails(ARGS(TINY, "--reference", "published-a100", "--format", "csv"), 2, "--reference");
    assert_fails(ARGS("plot"), 2, "RECORD.json");
    assert_fails(ARGS("plot", "a.json", "b.json"), 2, "b.json");
    assert_fails(ARGS("plot", "a.json", "--batch", "1"), 2, "--batch");
    // Refused before the model is opened.
    assert_fails(ARGS("--model", "no/such/model", "--plot", MISSING), 1, MISSING);
}

static void test_bad_records(void **state) {
    (void)state;
    assert_fails(ARGS("plot", "no/such.json"), 1, "no/such.json");
    scratch_dir_write(&scratch, "bad.json", "{\"schema\": \"other/1\"}", 21);
    const char *bad = path_of("bad.json"), *picture = path_of("bad.svg");
    assert_fails(ARGS("plot", bad, "--plot", picture), 1, "gpt2infer.bench/1");
    assert_int_equal(access(picture, F_OK), -1);
    scratch_dir_delete(&scratch, "bad.json");
}

static void test_full_disk(void **state) {
    (void)state;
    const char *report = path_of("report");
    const char *const *arguments = ARGS(TINY, "--plot", "/dev/full", "--output-file", report);
    struct program_run run = run_program(arguments, NULL);
    assert_exit(&run, arguments, 1);
    assert_non_null(strstr(run.errors, "/dev/full"));
    char *table = read_whole_file(report, NULL); // is not lost
    assert_non_null(strstr(table, "tok/s"));
    free(table);
    unlink(report);
    program_run_free(&run);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bench_and_plot), cmocka_unit_test(test_text_follows_table),
        cmocka_unit_test(test_refusals),       cmocka_unit_test(test_bad_records),
        cmocka_unit_test(test_full_disk),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
