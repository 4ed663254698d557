#include "run_program.h"

#include "scratch_dir.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

extern char **environ;

enum { MOST_ARGUMENTS = 64 };

static const char *program(void) {
    const char *path = getenv("GPT2INFER");
    return path && *path ? path : "./gpt2infer";
}

static const char *cache_home;

void set_program_cache(const char *directory) {
    cache_home = directory;
}

// What the program finds out about the device is kept for the next test, apart from what the user has.
static void use_own_cache(void) {
    char directory[4096];
    if (cache_home) {
        setenv("XDG_CACHE_HOME", cache_home, 1);
        return;
    }
    assert_non_null(getcwd(directory, sizeof directory - 32));
    strcat(directory, "/" PROGRAM_CACHE);
    setenv("XDG_CACHE_HOME", directory, 1);
}

pid_t start_program(const char *const *arguments, const char *input_path, const char *output_path,
                    const char *errors_path) {
    char *argv[MOST_ARGUMENTS + 2] = {(char *)program()};
    for (int i = 0; arguments[i]; i++) {
        assert_in_range(i, 0, MOST_ARGUMENTS - 1);
        argv[i + 1] = (char *)arguments[i];
    }
    use_own_cache();
    posix_spawn_file_actions_t files;
    assert_int_equal(posix_spawn_file_actions_init(&files), 0);
    posix_spawn_file_actions_addopen(&files, 0, input_path, O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&files, 1, output_path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    posix_spawn_file_actions_addopen(&files, 2, errors_path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    pid_t pid;
    int failure = posix_spawn(&pid, argv[0], &files, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&files);
    if (failure) fail_msg("%s: %s", argv[0], strerror(failure));
    return pid;
}

int wait_program(pid_t pid) {
    int status;
    while (waitpid(pid, &status, 0) < 0) assert_int_equal(errno, EINTR);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

struct program_run run_program(const char *const *arguments, const char *input) {
    struct scratch_dir dir;
    scratch_dir_make(&dir);
    scratch_dir_write(&dir, "in", input ? input : "", input ? strlen(input) : 0);
    char in[300], out[300], err[300];
    snprintf(in, sizeof in, "%s/in", dir.path);
    snprintf(out, sizeof out, "%s/out", dir.path);
    snprintf(err, sizeof err, "%s/err", dir.path);
    struct program_run run = {.exit_code = wait_program(start_program(arguments, in, out, err))};
    run.output = read_whole_file(out, &run.size);
    run.errors = read_whole_file(err, NULL);
    scratch_dir_remove(&dir);
    return run;
}

void program_run_free(struct program_run *run) {
    free(run->output);
    free(run->errors);
}

void assert_exit(const struct program_run *run, const char *const *arguments, int exit_code) {
    if (run->exit_code == exit_code) return;
    print_error("%s", program());
    for (int i = 0; arguments[i]; i++) print_error(" '%s'", arguments[i]);
    print_error("\n%s\n", run->errors);
    fail_msg("exit code %d, expected %d", run->exit_code, exit_code);
}
