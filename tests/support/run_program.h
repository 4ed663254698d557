// Runs the program that environment GPT2INFER names (default ./gpt2infer) as a user would.
#ifndef TESTS_SUPPORT_RUN_PROGRAM_H
#define TESTS_SUPPORT_RUN_PROGRAM_H

#include <stddef.h>
#include <sys/types.h>

struct program_run {
    int exit_code; // 128 + signal when one killed it
    char *output;  // standard output, a NUL follows
    size_t size;   // of output
    char *errors;  // standard error, a NUL follows
};

// `arguments` ends with NULL and begins after the program's name; `input` is standard input, NULL: empty.
// The caller frees with program_run_free.
struct program_run run_program(const char *const *arguments, const char *input);
void program_run_free(struct program_run *run);

// For tests that write to a chosen file, or signal the running program.
pid_t start_program(const char *const *arguments, const char *input_path, const char *output_path,
                    const char *errors_path);
int wait_program(pid_t pid); // the exit code, as above

// XDG_CACHE_HOME of the programs to come; NULL, as at first: PROGRAM_CACHE, which all tests share.
void set_program_cache(const char *directory);
#define PROGRAM_CACHE "build/test-cache"

// Fails the running test, showing what was run and what it wrote, unless it ended with `exit_code`.
void assert_exit(const struct program_run *run, const char *const *arguments, int exit_code);

// An argument list, ended: ARGS("--help").
#define ARGS(...) ((const char *const[]){__VA_ARGS__, NULL})

#endif
