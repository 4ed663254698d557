// The ground: messages, numbers out of text, the clock, Philox, mapped files, output files.
#include "base/clock.h"
#include "base/mapped_file.h"
#include "base/output_file.h"
#include "base/philox.h"
#include "base/text.h"
#include "tests/support/assert_close.h"
#include "tests/support/scratch_dir.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

// ---- messages -----------------------------------------------------------------------------------

static void messages_are_formatted_prefixed_and_cut(void **state) {
    (void)state;
    struct error error = {""};
    assert_int_equal(error_set(&error, STATUS_USAGE, "%s %d", "seven", 7), STATUS_USAGE);
    error_prefix(&error, "file %s", "x");
    assert_string_equal(error.message, "file x: seven 7");

    char *long_text = malloc(5000);
    assert_non_null(long_text);
    memset(long_text, 'a', 4999);
    long_text[4999] = '\0';
    assert_int_equal(error_set(&error, STATUS_FAILED, "%s", long_text), STATUS_FAILED);
    assert_int_equal(strlen(error.message), sizeof error.message - 1);
    error_prefix(&error, "before");
    assert_int_equal(strlen(error.message), sizeof error.message - 1);
    assert_memory_equal(error.message, "before: aaa", 11);
    error_prefix(&error, "%s", long_text);
    assert_int_equal(strlen(error.message), sizeof error.message - 1);
    free(long_text);
}

static void messages_carry_no_terminal_controls(void **state) {
    (void)state;
    struct error error;
    assert_int_equal(error_set(&error, STATUS_FAILED, "a\x1b[31mb\x7f\r\nc\xC3\xA9"), STATUS_FAILED);
    assert_string_equal(error.message, "a?[31mb??\nc\xC3\xA9");
    error_prefix(&error, "\a");
    assert_string_equal(error.message, "?: a?[31mb??\nc\xC3\xA9");
}

// ---- numbers ------------------------------------------------------------------------------------

static void whole_numbers_parse_or_are_refused(void **state) {
    (void)state;
    struct error error;
    int64_t value = 5;
    assert_int_equal(text_parse_int64("--n", "-9223372036854775808", INT64_MIN, INT64_MAX, &value, &error),
                     STATUS_OK);
    assert_true(value == INT64_MIN);
    assert_int_equal(text_parse_int64("--n", "100", 1, 100, &value, &error), STATUS_OK);
    assert_int_equal(value, 100);
    const char *bad[] = {"",
                         " 1",
                         "1 ",
                         "0x10",
                         "1e3",
                         "1.0",
                         "--1",
                         "+",
                         "-",
                         "x1",
                         "1x",
                         "0",
                         "101",
                         "1\n",
                         "1,2",
                         "inf",
                         "99999999999999999999"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(text_parse_int64("--n", bad[i], 1, 100, &value, &error), STATUS_USAGE);
        assert_int_equal(value, 100);
        assert_memory_equal(error.message, "--n: expected a whole number from 1 to 100, found \"", 49);
    }
    int small = 0;
    assert_int_equal(text_parse_int("--n", "+17", 0, 20, &small, &error), STATUS_OK);
    assert_int_equal(small, 17);
    assert_int_equal(text_parse_int("--n", "21", 0, 20, &small, &error), STATUS_USAGE);
    assert_int_equal(small, 17);
}

static void decimal_numbers_parse_or_are_refused(void **state) {
    (void)state;
    struct error error;
    double value = 5;
    assert_int_equal(text_parse_double("--t", "-1.5e-1", -1, 1, &value, &error), STATUS_OK);
    assert_true(value == -0.15);
    assert_int_equal(text_parse_double("--t", ".5", -1, 1, &value, &error), STATUS_OK);
    assert_true(value == 0.5);
    const char *bad[] = {"",      " 1",     "1 ", "0x1p-1", "nan", "inf", "-inf",
                         "1e999", "1.0001", "-2", "1e",     "1..", "e1",  "."};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(text_parse_double("--t", bad[i], -1, 1, &value, &error), STATUS_USAGE);
        assert_true(value == 0.5);
        assert_memory_equal(error.message, "--t: expected a number from -1 to 1, found \"", 44);
    }
}

static void text_is_formatted_into_its_own_memory(void **state) {
    (void)state;
    char *text = text_format("%s/%05d", "directory", 42);
    assert_string_equal(text, "directory/00042");
    free(text);
}

// ---- clock and Philox ---------------------------------------------------------------------------

static void clock_advances_by_what_was_slept(void **state) {
    (void)state;
    double before = clock_seconds();
    nanosleep(&(struct timespec){.tv_nsec = 20 * 1000 * 1000}, NULL);
    double passed = clock_seconds() - before;
    assert_true(passed >= 0.02 && passed < 20);
}

// The known answers that the authors of Philox publish with Random123.
static void philox_gives_the_published_words(void **state) {
    (void)state;
    static const struct {
        uint32_t counter[4], key[2], expected[4];
    } known[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8}},
        {{0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF},
         {0xFFFFFFFF, 0xFFFFFFFF},
         {0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD}},
        {{0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344},
         {0xA4093822, 0x299F31D0},
         {0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1}},
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        uint32_t words[4];
        philox4x32(known[i].counter, known[i].key, words);
        assert_memory_equal(words, known[i].expected, sizeof words);
    }
}

// ---- mapped files -------------------------------------------------------------------------------

static void assert_not_mapped(const char *path, const char *reason) {
    struct error error;
    struct mapped_file file;
    assert_int_equal(mapped_file_open(path, &file, &error), STATUS_FAILED);
    assert_null(file.data);
    assert_memory_equal(error.message, path, strlen(path));
    if (strstr(error.message, reason) == NULL) fail_msg("\"%s\" does not say \"%s\"", error.message, reason);
}

static void files_are_mapped_or_refused(void **state) {
    (void)state;
    struct scratch_dir dir;
    char path[300];
    scratch_dir_make(&dir);
    scratch_dir_write(&dir, "file", "content", 7);
    snprintf(path, sizeof path, "%s/file", dir.path);
    struct error error;
    struct mapped_file file;
    assert_int_equal(mapped_file_open(path, &file, &error), STATUS_OK);
    assert_int_equal(file.size, 7);
    assert_memory_equal(file.data, "content", 7);
    mapped_file_close(&file);
    mapped_file_close(&file); // twice does no harm

    assert_not_mapped(dir.path, "found a directory");
    assert_not_mapped("/dev/null", "pipe or device");
    snprintf(path, sizeof path, "%s/missing", dir.path);
    assert_not_mapped(path, "No such file");
    scratch_dir_write(&dir, "empty", "", 0);
    snprintf(path, sizeof path, "%s/empty", dir.path);
    assert_not_mapped(path, "empty");
    snprintf(path, sizeof path, "%s/fifo", dir.path);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_not_mapped(path, "pipe or device");
    scratch_dir_remove(&dir);
}

// ---- output files -------------------------------------------------------------------------------

static void assert_content(const char *path, const char *expected) {
    char *content = read_whole_file(path, NULL);
    assert_string_equal(content, expected);
    free(content);
}

// A scratch directory can only be removed in one piece when nothing hidden is left in it.
static void output_appears_only_when_committed(void **state) {
    (void)state;
    struct scratch_dir dir;
    struct error error;
    struct output_file output;
    char path[300];
    scratch_dir_make(&dir);
    snprintf(path, sizeof path, "%s/out", dir.path);

    assert_int_equal(output_file_open(path, &output, &error), STATUS_OK);
    fputs("new", output.stream);
    fflush(output.stream);
    assert_int_equal(access(path, F_OK), -1);
    output_file_discard(&output);
    output_file_discard(&output);
    assert_int_equal(rmdir(dir.path), 0); // nothing is left
    assert_int_equal(mkdir(dir.path, 0700), 0);

    assert_int_equal(output_file_open(path, &output, &error), STATUS_OK);
    fputs("first", output.stream);
    assert_int_equal(output_file_commit(&output, &error), STATUS_OK);
    assert_null(output.stream);
    assert_content(path, "first");

    assert_int_equal(output_file_open(path, &output, &error), STATUS_OK);
    fputs("second", output.stream);
    output_file_discard(&output);
    assert_content(path, "first");
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(dir.path), 0);
}

static void output_keeps_links_and_permissions(void **state) {
    (void)state;
    struct scratch_dir dir;
    struct error error;
    struct output_file output;
    struct stat info;
    char path[300], link[300];
    scratch_dir_make(&dir);
    scratch_dir_write(&dir, "target", "old", 3);
    snprintf(path, sizeof path, "%s/target", dir.path);
    snprintf(link, sizeof link, "%s/link", dir.path);
    assert_int_equal(chmod(path, 0640), 0);
    assert_int_equal(symlink("target", link), 0);
    assert_int_equal(output_file_open(link, &output, &error), STATUS_OK);
    fputs("new", output.stream);
    assert_content(path, "old");
    assert_int_equal(output_file_commit(&output, &error), STATUS_OK);
    assert_content(path, "new");
    assert_int_equal(lstat(link, &info), 0);
    assert_true(S_ISLNK(info.st_mode));
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 07777, 0640);
    scratch_dir_remove(&dir);
}

static void unwritable_outputs_are_refused(void **state) {
    (void)state;
    struct scratch_dir dir;
    scratch_dir_make(&dir);
    char missing[300];
    snprintf(missing, sizeof missing, "%s/no/such/out", dir.path);
    const char *paths[] = {missing, dir.path, ""};
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        struct error error;
        struct output_file output;
        assert_int_equal(output_file_open(paths[i], &output, &error), STATUS_FAILED);
        assert_null(output.stream);
        assert_memory_equal(error.message, paths[i], strlen(paths[i]));
        assert_non_null(strstr(error.message, ": cannot write: "));
    }
    scratch_dir_remove(&dir);
}

static void a_device_is_written_in_place_and_may_be_full(void **state) {
    (void)state;
    struct error error;
    struct output_file output;
    struct stat info;
    assert_int_equal(output_file_open("/dev/full", &output, &error), STATUS_OK);
    fputs("x", output.stream);
    assert_int_equal(output_file_commit(&output, &error), STATUS_FAILED);
    assert_string_equal(error.message, "/dev/full: cannot write: No space left on device");
    assert_int_equal(output_file_open("/dev/null", &output, &error), STATUS_OK);
    fputs("x", output.stream);
    assert_int_equal(output_file_commit(&output, &error), STATUS_OK);
    assert_int_equal(stat("/dev/null", &info), 0);
    assert_true(S_ISCHR(info.st_mode));
}

// A limit on file sizes stands for a full disk.
static void a_full_disk_leaves_the_old_file(void **state) {
    (void)state;
    struct scratch_dir dir;
    struct error error;
    struct output_file output;
    struct rlimit limit, small;
    char path[300];
    scratch_dir_make(&dir);
    scratch_dir_write(&dir, "out", "old", 3);
    snprintf(path, sizeof path, "%s/out", dir.path);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    small = (struct rlimit){.rlim_cur = 4096, .rlim_max = limit.rlim_max};
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    enum status opened = output_file_open(path, &output, &error);
    for (int i = 0; i < 100000; i++) fputc('x', output.stream);
    enum status committed = output_file_commit(&output, &error);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    assert_int_equal(opened, STATUS_OK);
    assert_int_equal(committed, STATUS_FAILED);
    assert_memory_equal(error.message, path, strlen(path));
    assert_content(path, "old");
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(dir.path), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_are_formatted_prefixed_and_cut),
        cmocka_unit_test(messages_carry_no_terminal_controls),
        cmocka_unit_test(whole_numbers_parse_or_are_refused),
        cmocka_unit_test(decimal_numbers_parse_or_are_refused),
        cmocka_unit_test(text_is_formatted_into_its_own_memory),
        cmocka_unit_test(clock_advances_by_what_was_slept),
        cmocka_unit_test(philox_gives_the_published_words),
        cmocka_unit_test(files_are_mapped_or_refused),
        cmocka_unit_test(output_appears_only_when_committed),
        cmocka_unit_test(output_keeps_links_and_permissions),
        cmocka_unit_test(unwritable_outputs_are_refused),
        cmocka_unit_test(a_device_is_written_in_place_and_may_be_full),
        cmocka_unit_test(a_full_disk_leaves_the_old_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
