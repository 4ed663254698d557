// Reads the command line by the option table.
#include "cli/options.h"
#include "base/text.h"

#include <errno.h>
#include <limits.h>
#include <stb/stb_ds.h>
#include <stdlib.h>
#include <string.h>

static const char *command_name(enum command command) {
    return command_table[command].name;
}

static bool command_has(enum command command, const struct option *option) {
    return option->commands & (1u << command);
}

// ---- values

static enum status read_uint64(const char *what, const char *text, uint64_t *value, struct error *error) {
    char *end;
    errno = 0;
    unsigned long long number = strtoull(text, &end, 10);
    if (*text < '0' || *text > '9' || *end != '\0' || errno)
        return error_set(error, STATUS_USAGE, "%s: expected a whole number from 0 to 2^64 - 1, found \"%s\"",
                         what, text);
    *value = number;
    return STATUS_OK;
}

static bool item_is(const char *item, size_t length, const char *word) {
    return word && strlen(word) == length && strncmp(item, word, length) == 0;
}

// The array grows by one value per comma; a list given again replaces the one before.
static enum status read_integers(const struct option *option, const char *what, const char *text,
                                 int **values, struct error *error) {
    arrfree(*values);
    if (item_is(text, strlen(text), option->instead)) return STATUS_OK;
    for (const char *item = text;; item++) {
        size_t length = strcspn(item, ",");
        if (item_is(item, length, option->instead))
            return error_set(error, STATUS_USAGE, "%s: %s stands alone, without numbers, found \"%s\"", what,
                             option->instead, text);
        char number[32];
        int value;
        if (length >= sizeof number)
            return error_set(error, STATUS_USAGE, "%s: expected numbers between commas, found \"%s\"", what,
                             item);
        memcpy(number, item, length);
        number[length] = '\0';
        TRY(text_parse_int(what, number, (int)option->minimum, (int)option->maximum, &value, error));
        arrput(*values, value);
        item += length;
        if (*item == '\0') return STATUS_OK;
    }
}

static enum status read_choice(const struct option *option, const char *what, const char *text, int *value,
                               struct error *error) {
    char words[128] = "";
    for (const struct choice *choice = option->choices; choice->word; choice++) {
        if (strcmp(choice->word, text) == 0) {
            *value = choice->value;
            return STATUS_OK;
        }
        size_t used = strlen(words);
        const char *separator = used == 0 ? "" : choice[1].word ? ", " : " or ";
        snprintf(words + used, sizeof words - used, "%s%s", separator, choice->word);
    }
    return error_set(error, STATUS_USAGE, "%s: expected %s, found \"%s\"", what, words, text);
}

static enum status read_value(const struct option *option, const char *text, struct options *options,
                              struct error *error) {
    void *field = (char *)options + option->field;
    char what[64];
    snprintf(what, sizeof what, "--%s", option->name);
    switch (option->kind) {
    case OPTION_FLAG:
        *(bool *)field = true;
        return STATUS_OK;
    case OPTION_TEXT:
        if (*text == '\0') return error_set(error, STATUS_USAGE, "%s: the value is empty", what);
        *(const char **)field = text;
        return STATUS_OK;
    case OPTION_TEXTS:
        if (*text == '\0') return error_set(error, STATUS_USAGE, "%s: the value is empty", what);
        arrput(*(const char ***)field, text);
        return STATUS_OK;
    case OPTION_INPUT: {
        struct input input = {.kind = option->input, .option = option->name, .value = text};
        arrput(*(struct input **)field, input);
        return STATUS_OK;
    }
    case OPTION_INTEGER:
        return text_parse_int(what, text, (int)option->minimum, (int)option->maximum, field, error);
    case OPTION_INTEGERS:
        return read_integers(option, what, text, field, error);
    case OPTION_UINT64:
        return read_uint64(what, text, field, error);
    case OPTION_REAL:
        return text_parse_double(what, text, option->minimum, option->maximum, field, error);
    case OPTION_CHOICE:
        return read_choice(option, what, text, field, error);
    }
    return STATUS_OK;
}

// ---- names

// `name` has `length` characters; '_' and '-' are the same.
static bool name_matches(const char *name, size_t length, const char *option) {
    for (size_t i = 0; i < length; i++) {
        if ((name[i] == '_' ? '-' : name[i]) != option[i]) return false;
    }
    return option[length] == '\0';
}

static enum status unknown_option(const char *name, int length, enum command command, struct error *error) {
    char owners[128] = "";
    const char *names[128];
    size_t count = 0;
    for (size_t i = 0; i < option_count; i++) {
        const struct option *option = &option_table[i];
        if (command_has(command, option) && count < sizeof names / sizeof names[0])
            names[count++] = option->name;
        for (int c = 0; c < COMMANDS && name_matches(name, (size_t)length, option->name); c++) {
            size_t used = strlen(owners);
            if (command_has((enum command)c, option))
                snprintf(owners + used, sizeof owners - used, "%s%s", used ? ", " : "",
                         command_name((enum command)c));
        }
    }
    if (owners[0])
        return error_set(error, STATUS_USAGE, "%s does not use --%.*s, which is an option of: %s",
                         command_name(command), length, name, owners);
    char word[64];
    snprintf(word, sizeof word, "%.*s", length, name);
    const char *near = nearest_name(word, names, count);
    return error_set(error, STATUS_USAGE, "unknown option --%.*s%s%s%s; see gpt2infer %s --help", length,
                     name, near ? ": did you mean --" : "", near ? near : "", near ? "?" : "",
                     command_name(command));
}

static const struct option *find_option(const char *name, size_t length, enum command command) {
    for (size_t i = 0; i < option_count; i++) {
        if (command_has(command, &option_table[i]) && name_matches(name, length, option_table[i].name))
            return &option_table[i];
    }
    return NULL;
}

// ---- arguments

static enum status read_positional(const char *argument, struct options *options, struct error *error) {
    const struct command_info *command = &command_table[options->command];
    if (command->argument_count == 0)
        return error_set(error, STATUS_USAGE, "%s takes no argument \"%s\": options begin with --",
                         command->name, argument);
    if (arrlen(options->arguments) == command->argument_count)
        return error_set(error, STATUS_USAGE, "%s takes only %s, found \"%s\" after that", command->name,
                         command->arguments, argument);
    arrput(options->arguments, argument);
    return STATUS_OK;
}

static enum status check_positionals(const struct options *options, struct error *error) {
    const struct command_info *command = &command_table[options->command];
    int found = (int)arrlen(options->arguments);
    if (found == command->argument_count || options->help || options->version) return STATUS_OK;
    return error_set(error, STATUS_USAGE, "%s needs %s, found %d of %d: see gpt2infer %s --help",
                     command->name, command->arguments, found, command->argument_count, command->name);
}

// Reads argv[*index], and its value when that is the next argument.
static enum status read_argument(int argc, char **argv, int *index, struct options *options,
                                 struct error *error) {
    const char *argument = argv[*index];
    if (strcmp(argument, "-h") == 0) argument = "--help";
    if (strncmp(argument, "--", 2) != 0) {
        if (argument[0] == '-' && argument[1] != '\0')
            return error_set(error, STATUS_USAGE, "unknown option %s: options have long names, see --help",
                             argument);
        return read_positional(argument, options, error);
    }
    const char *name = argument + 2;
    size_t length = strcspn(name, "=");
    const char *value = name[length] == '=' ? name + length + 1 : NULL;
    const struct option *option = find_option(name, length, options->command);
    if (!option) return unknown_option(name, (int)(length < 64 ? length : 64), options->command, error);
    if (option->kind == OPTION_FLAG && value)
        return error_set(error, STATUS_USAGE, "--%s takes no value, found \"%s\"", option->name, value);
    if (option->kind != OPTION_FLAG && !value) {
        if (*index + 1 >= argc || strncmp(argv[*index + 1], "--", 2) == 0)
            return error_set(error, STATUS_USAGE, "--%s needs a value: --%s %s%s", option->name, option->name,
                             option->value,
                             *index + 1 < argc ? " (one that begins with -- is written --NAME=VALUE)" : "");
        value = argv[++*index];
    }
    return read_value(option, value, options, error);
}

static enum status find_command(const char *word, enum command *command, struct error *error) {
    const char *names[COMMANDS];
    for (int i = 0; i < COMMANDS; i++) {
        names[i] = command_table[i].name;
        if (strcmp(word, names[i]) == 0) {
            *command = (enum command)i;
            return STATUS_OK;
        }
    }
    const char *near = nearest_name(word, names, COMMANDS);
    return error_set(error, STATUS_USAGE, "unknown command \"%s\"%s%s%s; see gpt2infer --help", word,
                     near ? ": did you mean " : "", near ? near : "", near ? "?" : "");
}

// `gpt2infer help COMMAND` is `gpt2infer COMMAND --help`, `gpt2infer --help` is `gpt2infer help`.
static enum status read_command(int argc, char **argv, int *next, struct options *options,
                                struct error *error) {
    *next = 1;
    if (argc < 2) return STATUS_OK;
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        options->command = COMMAND_HELP;
        *next = 2;
    } else if (argv[1][0] != '-') {
        TRY(find_command(argv[1], &options->command, error));
        *next = 2;
    }
    if (options->command == COMMAND_HELP && argc > *next && argv[*next][0] != '-') {
        TRY(find_command(argv[*next], &options->command, error));
        options->help = true;
        ++*next;
    }
    return STATUS_OK;
}

static enum status read_arguments(int argc, char **argv, struct options *options, struct error *error) {
    int next;
    TRY(read_command(argc, argv, &next, options, error));
    for (size_t i = 0; i < option_count; i++) {
        const struct option *option = &option_table[i];
        if (command_has(options->command, option) && option->initial)
            TRY(read_value(option, option->initial, options, error));
    }
    for (; next < argc; next++) TRY(read_argument(argc, argv, &next, options, error));
    return check_positionals(options, error);
}

enum status options_parse(int argc, char **argv, struct options *options, struct error *error) {
    memset(options, 0, sizeof *options);
    enum status status = read_arguments(argc, argv, options, error);
    if (status != STATUS_OK) options_free(options);
    return status;
}

void options_free(struct options *options) {
    arrfree(options->batches);
    arrfree(options->inputs);
    arrfree(options->stops);
    arrfree(options->arguments);
}
