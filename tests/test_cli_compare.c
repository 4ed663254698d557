// compare as a user runs it: records of real runs, verdicts as exit codes, files that are none.
#include "support/run_program.h"
#include "support/scratch_dir.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define TINY "--model", "random:L1-C16-H2-V64-T32"

struct fixture {
    struct scratch_dir dir;
    char record[300];  // of a real run
    char changed[300]; // for variants of it
};
static struct fixture fixture;

static int set_up(void **state) {
    (void)state;
    scratch_dir_make(&fixture.dir);
    snprintf(fixture.record, sizeof fixture.record, "%s/old.json", fixture.dir.path);
    snprintf(fixture.changed, sizeof fixture.changed, "%s/new.json", fixture.dir.path);
    struct program_run run =
        run_program(ARGS(TINY, "--batch", "1,2", "--kvcache", "both", "--prompt-len", "4", "--gen-len", "4",
                         "--reps", "3", "--quiet", "--format", "json", "--output-file", fixture.record),
                    NULL);
    int exit_code = run.exit_code;
    if (exit_code != 0) fprintf(stderr, "%s", run.errors);
    program_run_free(&run);
    return exit_code;
}

static int tear_down(void **state) {
    (void)state;
    scratch_dir_remove(&fixture.dir);
    return 0;
}

// Writes the record, with every sample `factor` times as large, to fixture.changed.
static void write_scaled(double factor) {
    json_t *record = json_load_file(fixture.record, 0, NULL), *row, *sample;
    size_t i, j;
    assert_non_null(record);
    json_array_foreach(json_object_get(record, "rows"), i, row) {
        json_t *samples = json_object_get(json_object_get(row, "tok_s"), "samples");
        json_array_foreach(samples, j, sample)
            json_array_set_new(samples, j, json_real(factor * (1 + 0.001 * (double)j) * 1e5));
    }
    assert_int_equal(json_dump_file(record, fixture.changed, 0), 0);
    json_decref(record);
}

static void write_changed(const char *text) {
    scratch_dir_write(&fixture.dir, "new.json", text, strlen(text));
}

static void assert_ends(const char *const *arguments, int exit_code, const char *output, const char *errors) {
    struct program_run run = run_program(arguments, NULL);
    assert_exit(&run, arguments, exit_code);
    if (!strstr(run.output, output)) fail_msg("\"%s\" is not in: %s", output, run.output);
    if (!strstr(run.errors, errors)) fail_msg("\"%s\" is not in: %s", errors, run.errors);
    if (!output[0]) assert_int_equal(run.size, 0);
    program_run_free(&run);
}

static void test_verdicts_and_exit_codes(void **state) {
    (void)state;
    char base[300];
    snprintf(base, sizeof base, "%s/base.json", fixture.dir.path);
    write_scaled(1);
    assert_int_equal(rename(fixture.changed, base), 0);
    write_scaled(1);
    assert_ends(ARGS("compare", base, fixture.changed, "--fail-on-regression"), 0, "4 same", "");
    write_scaled(1.5);
    assert_ends(ARGS("compare", base, fixture.changed, "--fail-on-regression"), 0, "4 faster", "");
    write_scaled(0.9);
    assert_ends(ARGS("compare", base, fixture.changed), 0, "4 slower", "");
    assert_ends(ARGS("compare", base, fixture.changed, "--fail-on-regression"), 5, "4 slower",
                "4 rows are slower");
    assert_ends(ARGS("compare", base, fixture.changed, "--fail-on-regression", "--threshold", "20"), 0,
                "4 same", "");
    assert_ends(ARGS("compare", base, fixture.changed, "--format", "csv"), 0, ",slower,", "");
}

static void test_files_that_are_no_records(void **state) {
    (void)state;
    assert_ends(ARGS("compare", fixture.record, "no/such.json"), 1, "", "no/such.json");
    assert_ends(ARGS("compare", "no/such.json", fixture.record), 1, "", "no/such.json");
    assert_ends(ARGS("compare", fixture.record, "tests"), 1, "", "tests");
    write_changed("{\"schema\": \"gpt2infer.compare/1\", \"rows\": []}");
    assert_ends(ARGS("compare", fixture.record, fixture.changed), 1, "",
                "new.json: schema: expected \"gpt2infer.bench/1\", found \"gpt2infer.compare/1\"");
    write_changed("[1, 2]");
    assert_ends(ARGS("compare", fixture.changed, fixture.record), 1, "", "new.json: schema");
    write_changed("");
    assert_ends(ARGS("compare", fixture.record, fixture.changed), 1, "", "new.json");
    // The record cut short anywhere is refused with its name.
    size_t size;
    char *whole = read_whole_file(fixture.record, &size);
    for (int part = 1; part < 8; part++) {
        scratch_dir_write(&fixture.dir, "new.json", whole, size * (size_t)part / 8);
        assert_ends(ARGS("compare", fixture.record, fixture.changed), 1, "", "new.json: line ");
    }
    free(whole);
}

static void test_unlike_records(void **state) {
    (void)state;
    json_t *record = json_load_file(fixture.record, 0, NULL);
    json_object_set_new(json_object_get(record, "workload"), "gen_len", json_integer(8));
    json_object_set_new(json_object_get(json_object_get(record, "model"), "config"), "layers",
                        json_integer(3));
    assert_int_equal(json_dump_file(record, fixture.changed, 0), 0);
    assert_ends(ARGS("compare", fixture.record, fixture.changed), 2, "", "layers: old 1, new 3");
    assert_ends(ARGS("compare", fixture.record, fixture.changed), 2, "", "new tokens per row: old 4, new 8");
    json_decref(record);
    // Other devices are compared, loudly.
    record = json_load_file(fixture.record, 0, NULL);
    json_object_set_new(json_object_get(record, "device"), "name", json_string("Another device"));
    assert_int_equal(json_dump_file(record, fixture.changed, 0), 0);
    assert_ends(ARGS("compare", fixture.record, fixture.changed), 0, "THE DEVICES DIFFER", "Another device");
    json_decref(record);
}

static void test_usage(void **state) {
    (void)state;
    assert_ends(ARGS("compare"), 2, "", "OLD.json NEW.json");
    assert_ends(ARGS("compare", fixture.record), 2, "", "OLD.json NEW.json");
    assert_ends(ARGS("compare", fixture.record, fixture.record, "third"), 2, "", "third");
    assert_ends(ARGS("compare", fixture.record, fixture.record, "--threshold", "-1"), 2, "", "--threshold");
    assert_ends(ARGS("compare", fixture.record, fixture.record, "--threshold", "nan"), 2, "", "--threshold");
    assert_ends(ARGS("compare", fixture.record, fixture.record, "--batch", "1"), 2, "", "--batch");
    assert_ends(ARGS("compare", fixture.record, fixture.record, "--output-file", "/dev/full"), 1, "",
                "/dev/full");
    assert_ends(ARGS("compare", "--help"), 0, "--fail-on-regression", "");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_verdicts_and_exit_codes),
        cmocka_unit_test(test_files_that_are_no_records),
        cmocka_unit_test(test_unlike_records),
        cmocka_unit_test(test_usage),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
