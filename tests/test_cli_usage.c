// The command line itself: help, mistakes, exit codes, and that nothing but results is on standard output.
#include "support/run_program.h"
#include "support/scratch_dir.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define TINY "random:L1-C16-H2-V64-T32"

// A mistake: exit code 2, `named` in the one message, nothing on standard output.
static void assert_usage_error(const char *const *arguments, const char *named) {
    struct program_run run = run_program(arguments, NULL);
    assert_exit(&run, arguments, 2);
    assert_int_equal(run.size, 0);
    assert_int_equal(strncmp(run.errors, "gpt2infer: ", 11), 0);
    if (!strstr(run.errors, named)) fail_msg("\"%s\" is not in: %s", named, run.errors);
    program_run_free(&run);
}

static void test_help(void **state) {
    (void)state;
    static const char *const commands[] = {"bench", "generate", "score", "tokenize", "info"};
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        const char *const *arguments = ARGS(commands[i], "--help");
        struct program_run run = run_program(arguments, NULL);
        assert_exit(&run, arguments, 0);
        assert_non_null(strstr(run.output, commands[i]));
        assert_non_null(strstr(run.output, "--model"));
        assert_string_equal(run.errors, "");
        struct program_run same = run_program(ARGS("help", commands[i]), NULL);
        assert_string_equal(same.output, run.output);
        program_run_free(&same);
        program_run_free(&run);
    }
    struct program_run overview = run_program(ARGS("--help"), NULL);
    assert_exit(&overview, ARGS("--help"), 0);
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++)
        assert_non_null(strstr(overview.output, commands[i]));
    program_run_free(&overview);
    // An option before --help is bench's.
    struct program_run bench = run_program(ARGS("--batch", "3", "-h"), NULL);
    assert_exit(&bench, ARGS("--batch", "3", "-h"), 0);
    assert_non_null(strstr(bench.output, "--prompt-len"));
    program_run_free(&bench);
}

static void test_version(void **state) {
    (void)state;
    struct program_run run = run_program(ARGS("--version"), NULL);
    assert_exit(&run, ARGS("--version"), 0);
    assert_int_equal(strncmp(run.output, "gpt2infer ", 10), 0);
    assert_ptr_equal(strchr(run.output, '\n'), run.output + run.size - 1); // one line
    program_run_free(&run);
}

static void test_unknown_names(void **state) {
    (void)state;
    assert_usage_error(ARGS("generte"), "did you mean generate");
    assert_usage_error(ARGS("frobnicate"), "\"frobnicate\"");
    assert_usage_error(ARGS("--bacth", "3"), "did you mean --batch");
    assert_usage_error(ARGS("generate", "--temp", "1"), "did you mean --temperature");
    assert_usage_error(ARGS("--xyzzy"), "--xyzzy");
    assert_usage_error(ARGS("-b", "3"), "-b");
    assert_usage_error(ARGS("score", "book.txt"), "book.txt");
    assert_usage_error(ARGS("help", "nothing"), "nothing");
    assert_usage_error(ARGS("--"), "--");
    assert_usage_error(ARGS("--=3"), "--");
}

static void test_options_of_other_commands(void **state) {
    (void)state;
    assert_usage_error(ARGS("--temperature", "1"), "generate");
    assert_usage_error(ARGS("generate", "--prompt", "x", "--reps", "3"), "bench");
    assert_usage_error(ARGS("tokenize", "--text", "x", "--dtype", "f32"), "--dtype");
    assert_usage_error(ARGS("generate", "--prompt", "x", "--kvcache", "both"), "on or off");
    assert_usage_error(ARGS("score", "--text", "x", "--format", "csv"), "--format");
}

static void test_values(void **state) {
    (void)state;
    assert_usage_error(ARGS("--batch"), "--batch needs a value");
    assert_usage_error(ARGS("--model", "--batch", "3"), "--model needs a value");
    assert_usage_error(ARGS("--model="), "--model");
    assert_usage_error(ARGS("--batch", "0"), "--batch");
    assert_usage_error(ARGS("--batch", "-1"), "\"-1\"");
    assert_usage_error(ARGS("--batch", "1e9"), "\"1e9\"");
    assert_usage_error(ARGS("--batch", "4,"), "--batch");
    assert_usage_error(ARGS("--batch", ",4"), "--batch");
    assert_usage_error(ARGS("--batch", "99999999999999999999999999999999999999"), "--batch");
    assert_usage_error(ARGS("--gen-len", "0"), "--gen-len");
    assert_usage_error(ARGS("--seed", "-1"), "--seed");
    assert_usage_error(ARGS("--seed", "18446744073709551616"), "--seed");
    assert_usage_error(ARGS("--kvcache", "maybe"), "on, off or both");
    assert_usage_error(ARGS("--format", "xml"), "\"xml\"");
    assert_usage_error(ARGS("--dtype", "fp8"), "bf16");
    assert_usage_error(ARGS("--quiet=yes"), "--quiet takes no value");
    assert_usage_error(ARGS("--device", "tpu"), "tpu");
    assert_usage_error(ARGS("generate", "--prompt", "x", "--temperature", "nan"), "--temperature");
    assert_usage_error(ARGS("generate", "--prompt", "x", "--temperature", "-1"), "--temperature");
    assert_usage_error(ARGS("generate", "--prompt", "x", "--top-p", "1.5"), "--top-p");
    assert_usage_error(ARGS("generate", "--prompt", "x", "--top-p", "0", "--model", "shakespeare"), "top-p");
    assert_usage_error(ARGS("generate", "--prompt", "x", "--max-new-tokens", "0"), "--max-new-tokens");
    assert_usage_error(ARGS("generate", "--prompt", "x", "--stop", ""), "--stop");
}

static void test_missing_inputs(void **state) {
    (void)state;
    assert_usage_error(ARGS("generate"), "--prompt");
    assert_usage_error(ARGS("score"), "--text");
    assert_usage_error(ARGS("score", "--text", "a", "--ids", "1"), "found 2");
    assert_usage_error(ARGS("tokenize"), "--text");
    assert_usage_error(ARGS("tokenize", "--ids", "1"), "--decode");
    assert_usage_error(ARGS("tokenize", "--decode", "--text", "a"), "--text");
    assert_usage_error(ARGS("score", "--ids", "1,2", "--last-logits"), "--last-logits");
    assert_usage_error(ARGS("generate", "--model", TINY, "--prompt", "x"), "--tokenizer");
}

static void test_ways_to_write_a_value(void **state) {
    (void)state;
    struct program_run run = run_program(ARGS("generate", "--model", TINY, "--ids", "1,2",
                                              "--max_new_tokens=3", "--temperature", "0", "--quiet"),
                                         NULL);
    assert_exit(&run, ARGS("generate", "..."), 0);
    assert_string_equal(run.errors, "");
    struct program_run same = run_program(ARGS("generate", "--quiet", "--max-new-tokens", "9", "--ids=1,2",
                                               "--model=" TINY, "--temperature=0", "--max-new-tokens", "3"),
                                          NULL);
    assert_exit(&same, ARGS("generate", "..."), 0);
    assert_string_equal(same.output, run.output); // the last of two values counts
    program_run_free(&same);
    program_run_free(&run);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_help),
        cmocka_unit_test(test_version),
        cmocka_unit_test(test_unknown_names),
        cmocka_unit_test(test_options_of_other_commands),
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_missing_inputs),
        cmocka_unit_test(test_ways_to_write_a_value),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
