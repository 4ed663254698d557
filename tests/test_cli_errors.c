// Bad input, full disks, interruptions: one clear message, the right exit code, nothing left behind.
#include "support/run_program.h"
#include "support/scratch_dir.h"

#include <dirent.h>
#include <jansson.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define TINY "--model", "random:L1-C16-H2-V64-T32"
#define SHAKESPEARE "--model", "models/shakespeare"

static void assert_refused(const char *const *arguments, const char *input, int exit_code,
                           const char *const *named) {
    struct program_run run = run_program(arguments, input);
    assert_exit(&run, arguments, exit_code);
    assert_int_equal(run.size, 0);
    const char *message = strstr(run.errors, "gpt2infer: "); // after the notes
    if (!message) fail_msg("no message in: %s", run.errors);
    for (; *named; named++) {
        if (!strstr(message, *named)) fail_msg("\"%s\" is not in: %s", *named, message);
    }
    program_run_free(&run);
}

static int count_files(const char *path) {
    DIR *entries = opendir(path);
    assert_non_null(entries);
    int count = 0;
    for (struct dirent *entry; (entry = readdir(entries));) count += entry->d_name[0] != '.';
    closedir(entries);
    return count;
}

static void test_models(void **state) {
    (void)state;
    assert_refused(ARGS("--model", "no/such/model"), NULL, 1, ARGS("no/such/model"));
    assert_refused(ARGS("generate", "--model", "gpt3", "--prompt", "x"), NULL, 1, ARGS("gpt3"));
    assert_refused(ARGS("score", "--model", "tests/data/no.safetensors", "--text", "x"), NULL, 1,
                   ARGS("tests/data/no.safetensors"));
    assert_refused(ARGS("tokenize", "--model", "no/such/model", "--text", "x"), NULL, 1,
                   ARGS("no/such/model"));
    // A vocabulary of 1024 tokens, a model of 64 or 50257.
    assert_refused(ARGS("generate", TINY, "--tokenizer", "models/shakespeare", "--prompt", "x"), NULL, 1,
                   ARGS("models/shakespeare", "1024", "64"));
    assert_refused(ARGS("generate", "--model", "random:L1-C16-H2-V50257-T32", "--tokenizer",
                        "models/shakespeare", "--prompt", "x"),
                   NULL, 1, ARGS("models/shakespeare", "1024", "50257"));
}

static void test_default_model_is_told(void **state) {
    (void)state;
    if (access("models/gpt2", F_OK) == 0) skip();
    struct program_run run = run_program(ARGS("tokenize", "--text", "x"), NULL);
    assert_int_equal(run.exit_code, 0);
    assert_non_null(strstr(run.errors, "shakespeare"));
    program_run_free(&run);
}

static void test_context(void **state) {
    (void)state;
    assert_refused(ARGS("generate", TINY, "--ids", "1,2,3", "--max-new-tokens", "30"), NULL, 2,
                   ARGS("33", "32"));
    assert_refused(ARGS("generate", TINY, "--ids",
                        "1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16"),
                   NULL, 2, ARGS("32"));
    assert_refused(ARGS(TINY, "--prompt-len", "20", "--gen-len", "13"), NULL, 2, ARGS("20", "13", "32"));
    assert_refused(ARGS("info", TINY, "--prompt-len", "20", "--gen-len", "13"), NULL, 2,
                   ARGS("20", "13", "32"));
    struct program_run run = run_program(ARGS("generate", TINY, "--ids", "1,2,3", "--max-new-tokens", "29",
                                              "--ignore-eos", "--format", "json"),
                                         NULL);
    assert_int_equal(run.exit_code, 0); // the context exactly
    program_run_free(&run);
}

static void test_ids(void **state) {
    (void)state;
    assert_refused(ARGS("generate", TINY, "--ids", "64"), NULL, 2, ARGS("--ids", "64", "63"));
    assert_refused(ARGS("generate", TINY, "--ids", "-1"), NULL, 2, ARGS("--ids", "-1"));
    assert_refused(ARGS("generate", TINY, "--ids", "1,,2"), NULL, 2, ARGS("--ids"));
    assert_refused(ARGS("generate", TINY, "--ids", "1;2"), NULL, 2, ARGS("--ids", "1;2"));
    assert_refused(ARGS("generate", TINY, "--ids", ""), NULL, 2, ARGS("--ids"));
    assert_refused(ARGS("score", TINY, "--ids", "99999999999999999999"), NULL, 2, ARGS("--ids"));
    assert_refused(ARGS("tokenize", SHAKESPEARE, "--decode", "--ids", "1024"), NULL, 2, ARGS("1024", "1023"));
    assert_refused(ARGS("score", SHAKESPEARE, "--text", ""), NULL, 2, ARGS("--text", "empty"));
}

static void test_lines(void **state) {
    (void)state;
    static const char *const bad[] = {
        "{\"prompt\": \"a\"}\nnot json\n",
        "{\"prompt\": \"a\"}\n[1, 2]\n",
        "{\"prompt\": \"a\"}\n{\"prompt\": 3}\n",
        "{\"prompt\": \"a\"}\n{\"ids\": [1.5]}\n",
        "{\"prompt\": \"a\"}\n{\"ids\": [\"1\"]}\n",
        "{\"prompt\": \"a\"}\n{\"ids\": [1024]}\n",
        "{\"prompt\": \"a\"}\n{\"ids\": [99999999999999999999]}\n",
        "{\"prompt\": \"a\"}\n{\"ids\": [1], \"prompt\": \"a\"}\n",
        "{\"prompt\": \"a\"}\n{}\n",
        "{\"prompt\": \"a\"}\n{\"prompt\": \"\xff\"}\n",
        "{\"prompt\": \"a\"}\n{\"prompt\": \"a\"",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_refused(ARGS("generate", SHAKESPEARE, "--input", "-"), bad[i], 2, ARGS("--input", "-:2"));
    assert_refused(ARGS("generate", SHAKESPEARE, "--input", "-"), "\n \n", 2, ARGS("--input"));
    assert_refused(ARGS("generate", SHAKESPEARE, "--input", "no/such.jsonl"), NULL, 1, ARGS("no/such.jsonl"));
    assert_refused(ARGS("generate", SHAKESPEARE, "--prompt-file", "tests"), NULL, 1, ARGS("tests"));
    char *deep = malloc(200001);
    assert_non_null(deep);
    memset(deep, '[', 200000);
    deep[200000] = '\0';
    assert_refused(ARGS("tokenize", SHAKESPEARE, "--input", "-"), deep, 2, ARGS("-:1"));
    free(deep);
}

static void test_too_large_a_batch(void **state) {
    (void)state;
    struct program_run run = run_program(ARGS("--model", "random:L8-C512-H8-V1000-T1024", "--batch",
                                              "1000000", "--prompt-len", "1000", "--quiet", "--gen-len", "8"),
                                         NULL);
    assert_int_equal(run.exit_code, 4);
    assert_non_null(strstr(run.output, "oom"));
    assert_non_null(strstr(run.errors, "KV cache"));
    program_run_free(&run);
    assert_refused(ARGS("info", TINY, "--batch", "99999999"), NULL, 2, ARGS("--batch"));
}

static void test_failed_writes(void **state) {
    (void)state;
    struct scratch_dir dir;
    scratch_dir_make(&dir);
    char errors[300], output[300], missing[300];
    snprintf(errors, sizeof errors, "%s/errors", dir.path);
    snprintf(output, sizeof output, "%s/out.json", dir.path);
    snprintf(missing, sizeof missing, "%s/no/out.json", dir.path);
    const char *const *const commands[] = {
        ARGS("--help"),
        ARGS("--version"),
        ARGS("info", TINY),
        ARGS("score", SHAKESPEARE, "--text", "ROMEO"),
        ARGS("tokenize", SHAKESPEARE, "--text", "ROMEO"),
        ARGS("generate", SHAKESPEARE, "--prompt", "ROMEO"),
        ARGS("generate", SHAKESPEARE, "--prompt", "ROMEO", "--format", "json"),
        ARGS(TINY, "--prompt-len", "2", "--gen-len", "2", "--reps", "1"),
    };
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        assert_int_equal(wait_program(start_program(commands[i], "/dev/null", "/dev/full", errors)), 1);
        char *message = read_whole_file(errors, NULL);
        if (!strstr(message, "standard output")) fail_msg("command %zu says: %s", i, message);
        free(message);
    }
    assert_refused(ARGS("info", TINY, "--output-file", missing), NULL, 1, ARGS(missing));
    assert_refused(ARGS("score", TINY, "--ids", "1,2", "--output-file", "/dev/full"), NULL, 1,
                   ARGS("/dev/full"));
    // A failure after the file was opened leaves neither it nor a part of it.
    assert_refused(ARGS("generate", TINY, "--ids", "1", "--max-new-tokens", "99", "--output-file", output),
                   NULL, 2, ARGS("99"));
    assert_refused(ARGS(TINY, "--prompt-len", "99", "--output-file", output), NULL, 2, ARGS("99"));
    scratch_dir_delete(&dir, "errors");
    assert_int_equal(count_files(dir.path), 0);
    struct program_run run =
        run_program(ARGS("info", TINY, "--format", "json", "--output-file", output), NULL);
    assert_int_equal(run.exit_code, 0);
    assert_int_equal(run.size, 0);
    assert_int_equal(count_files(dir.path), 1);
    json_t *document = json_load_file(output, 0, NULL);
    assert_non_null(document);
    json_decref(document);
    program_run_free(&run);
    scratch_dir_remove(&dir);
}

// Waits until the program has written `count` bytes to the file, at most 30 s.
static void wait_for_bytes(pid_t pid, const char *path, off_t count) {
    struct timespec pause = {.tv_nsec = 20 * 1000 * 1000};
    struct stat status;
    for (int i = 0; i < 1500; i++) {
        if (stat(path, &status) == 0 && status.st_size >= count) return;
        nanosleep(&pause, NULL);
    }
    kill(pid, SIGKILL);
    wait_program(pid);
    fail_msg("%s: nothing was written", path);
}

static void test_interrupted_bench(void **state) {
    (void)state;
    struct scratch_dir dir;
    scratch_dir_make(&dir);
    char errors[300], output[300];
    snprintf(errors, sizeof errors, "%s/errors", dir.path);
    snprintf(output, sizeof output, "%s/output", dir.path);
    // Minutes of work; the first progress line shows that it has begun.
    pid_t pid = start_program(ARGS("--model", "random:L12-C768-H12-V1000-T1024", "--batch", "16", "--kvcache",
                                   "off", "--prompt-len", "20", "--gen-len", "1000", "--format", "json"),
                              "/dev/null", output, errors);
    wait_for_bytes(pid, errors, 1);
    kill(pid, SIGINT); // twice, as timeout(1) does: it signals a process and then its group
    kill(pid, SIGINT);
    assert_int_equal(wait_program(pid), 130);
    json_t *record = json_load_file(output, 0, NULL);
    assert_non_null(record);
    const json_t *rows = json_object_get(record, "rows");
    assert_int_equal(json_array_size(rows), 1);
    const char *row_status = json_string_value(json_object_get(json_array_get(rows, 0), "status"));
    assert_true(strcmp(row_status, "partial") == 0 || strcmp(row_status, "skipped") == 0);
    json_decref(record);
    scratch_dir_remove(&dir);
}

static void test_interrupted_generate(void **state) {
    (void)state;
    struct scratch_dir dir;
    scratch_dir_make(&dir);
    char errors[300], output[300];
    snprintf(errors, sizeof errors, "%s/errors", dir.path);
    snprintf(output, sizeof output, "%s/output", dir.path);
    pid_t pid = start_program(ARGS("generate", "--model", "random:L12-C768-H12-V1000-T1024", "--ids", "1,2,3",
                                   "--kvcache", "off", "--max-new-tokens", "1000", "--dtype", "f32"),
                              "/dev/null", output, errors);
    wait_for_bytes(pid, output, 4); // two tokens have been streamed
    kill(pid, SIGINT);
    assert_int_equal(wait_program(pid), 130);
    char *text = read_whole_file(output, NULL);
    assert_int_equal(text[strlen(text) - 1], '\n');
    free(text);
    scratch_dir_remove(&dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_models),
        cmocka_unit_test(test_default_model_is_told),
        cmocka_unit_test(test_context),
        cmocka_unit_test(test_ids),
        cmocka_unit_test(test_lines),
        cmocka_unit_test(test_too_large_a_batch),
        cmocka_unit_test(test_failed_writes),
        cmocka_unit_test(test_interrupted_bench),
        cmocka_unit_test(test_interrupted_generate),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
