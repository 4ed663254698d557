// bench as its users get it wrong: batch sizes, prices, a cache that is damaged or cannot be, full disks.
#include "support/run_program.h"
#include "support/scratch_dir.h"

#include <dirent.h>
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define QUICK                                                                                                \
    "--model", "random:L1-C16-H2-V64-T32", "--prompt-len", "2", "--gen-len", "2", "--reps", "1", "--format", \
        "json"

static void assert_usage_error(const char *const *arguments, const char *option, const char *found) {
    struct program_run run = run_program(arguments, NULL);
    assert_exit(&run, arguments, 2);
    assert_int_equal(run.size, 0);
    if (!strstr(run.errors, option) || !strstr(run.errors, found))
        fail_msg("%s and %s are not in: %s", option, found, run.errors);
    program_run_free(&run);
}

static void test_batch_sizes(void **state) {
    (void)state;
    static const char *const bad[] = {"0",  "-1", "1e9", "auto,4", "4,auto", "1,0",
                                      "4,", ",4", "0x4", "4 ",     "1;2",    "99999999999999999999"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char argument[64];
        snprintf(argument, sizeof argument, "--batch=%s", bad[i]);
        assert_usage_error(ARGS(QUICK, argument), "--batch", "found");
    }
}

static void test_goals(void **state) {
    (void)state;
    static const char *const bad[] = {"latency:-3",  "latency:0", "latency:",  "latency",
                                      "latency:nan", "ttft:x",    "ttft:1e99", "fastest"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_usage_error(ARGS(QUICK, "--batch", "auto", "--goal", bad[i]), "--goal", "expected");
    assert_usage_error(ARGS(QUICK, "--batch", "4", "--goal", "memory"), "--goal", "--batch auto");
    assert_usage_error(ARGS(QUICK, "--batch", "auto", "--reserve-mib", "-1"), "--reserve-mib", "-1");
}

static void test_prices(void **state) {
    (void)state;
    static const char *const bad[] = {"0", "-1", "nan", "inf", "1e400", "", "2,5", "$4"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char price[64], load[64];
        snprintf(price, sizeof price, "--gpu-hour-usd=%s", bad[i]);
        snprintf(load, sizeof load, "--requests-per-day=%s", bad[i]);
        assert_usage_error(ARGS(QUICK, price), "--gpu-hour-usd", "expected a number");
        assert_usage_error(ARGS(QUICK, load), "--requests-per-day", "expected a number");
    }
}

// Runs bench, which uses the cache for the batch size and for the ceilings, succeeds and writes a whole
// record; returns what it said beside.
static char *notes_of_bench(void) {
    const char *const *arguments = ARGS(QUICK, "--batch", "auto");
    struct program_run run = run_program(arguments, NULL);
    assert_exit(&run, arguments, 0);
    json_t *record = json_loads(run.output, 0, NULL), *ceilings;
    assert_int_equal(json_unpack(record, "{s:{s:o}}", "device", "ceilings", &ceilings), 0);
    assert_true(json_number_value(json_object_get(ceilings, "read_bytes_per_s")) > 0);
    json_decref(record);
    char *notes = strdup(run.errors);
    program_run_free(&run);
    return notes;
}

// Fills `cache` with a file of `content` for each that the shared cache has.
static void spoil_cache(const struct scratch_dir *cache, const char *content) {
    struct scratch_dir inner;
    snprintf(inner.path, sizeof inner.path, "%.200s/gpt2infer", cache->path);
    mkdir(inner.path, 0700);
    DIR *entries = opendir(PROGRAM_CACHE "/gpt2infer");
    assert_non_null(entries);
    for (struct dirent *entry; (entry = readdir(entries));) {
        if (strstr(entry->d_name, ".json"))
            scratch_dir_write(&inner, entry->d_name, content, strlen(content));
    }
    closedir(entries);
}

static void remove_cache(struct scratch_dir *cache) {
    struct scratch_dir inner;
    snprintf(inner.path, sizeof inner.path, "%.200s/gpt2infer", cache->path);
    scratch_dir_remove(&inner);
    scratch_dir_remove(cache);
}

// Each costs a new measurement of the device's ceilings, so the two faults of a cache are tried once each.
static void test_a_spoilt_cache_is_told_and_mended(void **state) {
    (void)state;
    struct scratch_dir cache;
    free(notes_of_bench()); // the shared cache has its files now
    scratch_dir_make(&cache);
    spoil_cache(&cache, "{\"schema\": \"gpt2infer.cache/0\", \"value\": {}}");
    set_program_cache(cache.path);
    char *first = notes_of_bench(), *second = notes_of_bench();
    set_program_cache(NULL);
    if (!strstr(first, "note: ") || !strstr(first, "gpt2infer.cache/1"))
        fail_msg("no note on the schema of the cache: %s", first);
    if (!strstr(first, "/batch-") || !strstr(first, "/ceilings-"))
        fail_msg("not every spoilt file is named: %s", first);
    assert_null(strstr(second, "note: "));
    free(first);
    free(second);
    remove_cache(&cache);
}

static void test_a_cache_that_cannot_be_written_is_no_failure(void **state) {
    (void)state;
    set_program_cache("/dev/null/cache");
    char *notes = notes_of_bench();
    set_program_cache(NULL);
    if (!strstr(notes, "note: ") || !strstr(notes, "/dev/null/cache")) fail_msg("no note: %s", notes);
    free(notes);
}

static void test_full_disks(void **state) {
    (void)state;
    struct scratch_dir dir;
    scratch_dir_make(&dir);
    char errors[300];
    snprintf(errors, sizeof errors, "%s/errors", dir.path);
    assert_int_equal(wait_program(start_program(ARGS(QUICK), "/dev/null", "/dev/full", errors)), 1);
    char *message = read_whole_file(errors, NULL);
    assert_non_null(strstr(message, "standard output"));
    free(message);
    struct program_run run = run_program(ARGS(QUICK, "--output-file", "/dev/full"), NULL);
    assert_int_equal(run.exit_code, 1);
    assert_non_null(strstr(run.errors, "/dev/full: "));
    program_run_free(&run);
    scratch_dir_remove(&dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_batch_sizes),
        cmocka_unit_test(test_goals),
        cmocka_unit_test(test_prices),
        cmocka_unit_test(test_a_spoilt_cache_is_told_and_mended),
        cmocka_unit_test(test_a_cache_that_cannot_be_written_is_no_failure),
        cmocka_unit_test(test_full_disks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
