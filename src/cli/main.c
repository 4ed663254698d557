// Reads the command line, runs a command, and turns its status into the exit code.
#include "base/version.h"
#include "cli/commands.h"
#include "cli/options.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static volatile sig_atomic_t interrupted;

// The first Ctrl-C asks for an orderly end, a later one takes the default action and kills. What comes within
// a second is the same request: timeout(1), for one, signals a process and then its whole group.
static void on_signal(int signal) {
    static struct timespec first;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (!interrupted) {
        interrupted = 1;
        first = now;
    } else if (now.tv_sec > first.tv_sec + 1) {
        struct sigaction kill = {.sa_handler = SIG_DFL};
        sigemptyset(&kill.sa_mask);
        sigaction(signal, &kill, NULL);
        raise(signal);
    }
}

static void catch_signals(void) {
    struct sigaction ask = {.sa_handler = on_signal};
    sigemptyset(&ask.sa_mask);
    sigaction(SIGINT, &ask, NULL);
    sigaction(SIGTERM, &ask, NULL);
    // A reader that went away shows as a failed write.
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    sigemptyset(&ignore.sa_mask);
    sigaction(SIGPIPE, &ignore, NULL);
}

// A program may be started with standard streams closed. The first files it opened would take their numbers,
// and notes would be written into them. Output that nobody can receive has to fail: it is opened for reading.
static void fill_standard_streams(void) {
    for (int descriptor = 0; descriptor <= 2; descriptor++) {
        if (fcntl(descriptor, F_GETFD) < 0) (void)!open("/dev/null", descriptor == 2 ? O_WRONLY : O_RDONLY);
    }
}

static void print_version(void) {
    const char *commit = build_commit();
    printf("gpt2infer %s%s%s, %s, %s\n", GPT2INFER_VERSION, commit[0] ? " " : "", commit,
           build_has_cuda() ? "CPU and CUDA" : "CPU only", build_compiler());
}

static enum status run(const struct options *options, struct error *error) {
    static command_function *const commands[COMMANDS] = {
        [COMMAND_BENCH] = cmd_bench,       [COMMAND_GENERATE] = cmd_generate, [COMMAND_SCORE] = cmd_score,
        [COMMAND_TOKENIZE] = cmd_tokenize, [COMMAND_INFO] = cmd_info,         [COMMAND_PLOT] = cmd_plot,
        [COMMAND_COMPARE] = cmd_compare,   [COMMAND_PREDICT] = cmd_predict,
    };
    if (options->help || (options->command == COMMAND_HELP && !options->version)) {
        help_command(stdout, options->command);
        return STATUS_OK;
    }
    if (options->version) {
        print_version();
        return STATUS_OK;
    }
    return commands[options->command](options, &interrupted, error);
}

int main(int argc, char **argv) {
    fill_standard_streams();
    catch_signals();
    struct error error = {0};
    struct options options;
    enum status status = options_parse(argc, argv, &options, &error);
    if (status == STATUS_OK) {
        status = run(&options, &error);
        options_free(&options);
    }
    if (status != STATUS_OK && error.message[0]) fprintf(stderr, "gpt2infer: %s\n", error.message);
    // A full disk or a closed pipe may show only now.
    bool written = !ferror(stdout);
    errno = 0;
    if ((fclose(stdout) != 0 || !written) && status == STATUS_OK) {
        fprintf(stderr, "gpt2infer: standard output: %s\n", errno ? strerror(errno) : "a write failed");
        status = STATUS_FAILED;
    }
    return (int)status;
}
