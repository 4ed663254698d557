// --help, written from the tables.
#include "cli/options.h"

#include <string.h>

enum { HELP_COLUMN = 30 };

static void print_option(FILE *stream, const struct option *option) {
    char value[64] = "";
    if (option->choices) {
        for (const struct choice *choice = option->choices; choice->word; choice++) {
            size_t used = strlen(value);
            snprintf(value + used, sizeof value - used, "%s%s", used ? "|" : "", choice->word);
        }
    } else if (option->value) {
        snprintf(value, sizeof value, "%s", option->value);
    }
    int width = fprintf(stream, "  --%s%s%s", option->name, value[0] ? " " : "", value);
    if (width >= HELP_COLUMN) width = fprintf(stream, "\n") - 1;
    fprintf(stream, "%*s", HELP_COLUMN - width, "");
    for (const char *text = option->help; *text; text++) {
        fputc(*text, stream);
        if (*text == '\n') fprintf(stream, "%*s", HELP_COLUMN, "");
    }
    if (option->initial && strcmp(option->initial, "0") != 0)
        fprintf(stream, " (default %s)", option->initial);
    fputc('\n', stream);
}

// Options that all commands with a model have come last, under a heading of their own.
static bool is_shared(const struct option *option) {
    unsigned all = (1u << (COMMAND_INFO + 1)) - 1;
    return (option->commands & all) == all;
}

static void print_options(FILE *stream, enum command command, bool shared) {
    for (size_t i = 0; i < option_count; i++) {
        const struct option *option = &option_table[i];
        if ((option->commands & (1u << command)) && is_shared(option) == shared) print_option(stream, option);
    }
}

void help_command(FILE *stream, enum command command) {
    if (command == COMMAND_HELP) {
        help_overview(stream);
        return;
    }
    const struct command_info *info = &command_table[command];
    fprintf(stream, "usage: gpt2infer %s%s%s [--option value]...\n\n%s\n\n%s options:\n", info->name,
            info->arguments ? " " : "", info->arguments ? info->arguments : "", info->description,
            info->name);
    print_options(stream, command, false);
    fprintf(stream, "\nshared options:\n");
    print_options(stream, command, true);
}

void help_overview(FILE *stream) {
    fprintf(stream, "usage: gpt2infer [COMMAND] [--option value]...\n\n"
                    "GPT-2 inference, measured: generates text and shows what the KV cache buys.\n\n"
                    "commands:\n");
    for (int i = 0; i < COMMANDS; i++)
        fprintf(stream, "  %-10s %s\n", command_table[i].name, command_table[i].summary);
    fprintf(stream, "\nexamples:\n"
                    "  gpt2infer --batch 93 --kvcache on\n"
                    "  gpt2infer --batch 1,4,8,16,32,64,93 --kvcache both\n"
                    "  gpt2infer generate --prompt \"ROMEO:\"\n"
                    "  gpt2infer score --text-file book.txt\n"
                    "\n"
                    "gpt2infer COMMAND --help lists a command's options.\n"
                    "Exit codes: 0 ok, 1 failed, 2 usage, 3 outputs disagree, 4 out of memory,\n"
                    "5 slower (compare --fail-on-regression), 130 interrupted (what was finished is\n"
                    "still printed).\n");
}
