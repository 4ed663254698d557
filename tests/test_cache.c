// The cache of findings: what is stored is found, anything else in its place is refused by name.
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include "measure/cache.h"
#include "measure/ceilings.h"
#include "tests/support/assert_close.h"
#include "tests/support/fake_backend.h"
#include "tests/support/scratch_dir.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct scratch_dir scratch;
static struct fake_backend fake;
static char inside[512]; // the directory the cache makes in the scratch directory

static int set_up(void **state) {
    (void)state;
    scratch_dir_make(&scratch);
    snprintf(inside, sizeof inside, "%s/gpt2infer", scratch.path);
    setenv("XDG_CACHE_HOME", scratch.path, 1);
    fake_backend_init(&fake);
    return 0;
}

// The path of the only file in the cache.
static void only_file(char path[1024]) {
    int files = 0;
    DIR *entries = opendir(inside);
    assert_non_null(entries);
    for (struct dirent *entry; (entry = readdir(entries));) {
        if (entry->d_name[0] == '.') continue;
        snprintf(path, 1024, "%s/%s", inside, entry->d_name);
        files++;
    }
    closedir(entries);
    assert_int_equal(files, 1);
}

static int tear_down(void **state) {
    (void)state;
    struct scratch_dir made;
    if (access(inside, F_OK) == 0) {
        snprintf(made.path, sizeof made.path, "%.200s/gpt2infer", scratch.path);
        scratch_dir_remove(&made);
    }
    scratch_dir_remove(&scratch);
    return 0;
}

static void write_file(const char *path, const char *text) {
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void test_what_is_stored_is_found_again(void **state) {
    (void)state;
    struct error error;
    json_t *key = json_pack("{s:s, s:i}", "device", "a", "n", 1), *other = json_pack("{s:i}", "n", 2);
    json_t *value = json_pack("{s:f}", "x", 0.1), *found;
    assert_int_equal(cache_read("kind", key, &found, &error), STATUS_OK);
    assert_null(found);
    assert_int_equal(cache_write("kind", key, value, &error), STATUS_OK);
    assert_int_equal(cache_read("kind", key, &found, &error), STATUS_OK);
    assert_true(json_equal(found, value));
    json_decref(found);
    assert_int_equal(cache_read("kind", other, &found, &error), STATUS_OK);
    assert_null(found);
    assert_int_equal(cache_read("other", key, &found, &error), STATUS_OK);
    assert_null(found);
    json_decref(key);
    json_decref(other);
    json_decref(value);
}

static void test_other_files_are_refused_by_name(void **state) {
    (void)state;
    static const char *const bad[] = {
        "",
        "{",
        "[]",
        "{\"schema\": \"gpt2infer.cache/0\", \"key\": 1, \"value\": 2}",
        "{\"schema\": \"gpt2infer.cache/1\", \"key\": {\"n\": 2}, \"value\": 2}",
        "{\"schema\": \"gpt2infer.cache/1\", \"key\": {\"n\": 1}}"};
    struct error error;
    char path[1024];
    json_t *key = json_pack("{s:i}", "n", 1), *found;
    assert_int_equal(cache_write("kind", key, key, &error), STATUS_OK);
    only_file(path);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        write_file(path, bad[i]);
        assert_int_equal(cache_read("kind", key, &found, &error), STATUS_FAILED);
        assert_null(found);
        assert_non_null(strstr(error.message, path));
    }
    assert_int_equal(cache_write("kind", key, key, &error), STATUS_OK); // and replaced
    assert_int_equal(cache_read("kind", key, &found, &error), STATUS_OK);
    json_decref(found);
    json_decref(key);
}

static void test_no_directory_to_write_to(void **state) {
    (void)state;
    struct error error;
    json_t *key = json_pack("{s:i}", "n", 1), *found;
    setenv("XDG_CACHE_HOME", "/dev/null/x", 1);
    assert_int_equal(cache_read("kind", key, &found, &error), STATUS_OK);
    assert_null(found);
    assert_int_equal(cache_write("kind", key, key, &error), STATUS_FAILED);
    assert_non_null(strstr(error.message, "/dev/null"));
    json_decref(key);
}

static double get_bandwidth(bool refresh, struct error *note) {
    struct ceilings ceilings;
    struct error error;
    assert_int_equal(ceilings_get(&fake.base, refresh, &ceilings, note, &error), STATUS_OK);
    assert_true(ceilings.matmul_rate > 0 && ceilings.launch > 0);
    return ceilings.bandwidth;
}

static void test_ceilings_are_measured_once(void **state) {
    (void)state;
    struct error note;
    char path[1024];
    assert_close(get_bandwidth(false, &note) / 1e9, 1, 1e-9);
    fake.bandwidth = 2e9;
    assert_close(get_bandwidth(false, &note) / 1e9, 1, 1e-9); // remembered
    assert_string_equal(note.message, "");
    assert_close(get_bandwidth(true, &note) / 1e9, 2, 1e-9);
    fake.bandwidth = 3e9;
    assert_close(get_bandwidth(false, &note) / 1e9, 2, 1e-9);
    only_file(path);
    write_file(path, "broken");
    assert_close(get_bandwidth(false, &note) / 1e9, 3, 1e-9); // measured again, and it says why
    assert_non_null(strstr(note.message, path));
    assert_close(get_bandwidth(false, &note) / 1e9, 3, 1e-9);
    assert_string_equal(note.message, "");
    fake.base.options.dtype = DTYPE_BF16; // another key
    fake.bandwidth = 4e9;
    assert_close(get_bandwidth(false, &note) / 1e9, 4, 1e-9);
}

static void test_ceilings_without_a_cache(void **state) {
    (void)state;
    struct error note;
    setenv("XDG_CACHE_HOME", "/dev/null/x", 1);
    assert_close(get_bandwidth(false, &note) / 1e9, 1, 1e-9);
    assert_non_null(strstr(note.message, "/dev/null"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_what_is_stored_is_found_again, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_other_files_are_refused_by_name, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_no_directory_to_write_to, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_ceilings_are_measured_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_ceilings_without_a_cache, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
