// The command line as values. One table (option_table.c) drives parsing, defaults, --help and error messages.
#ifndef CLI_OPTIONS_H
#define CLI_OPTIONS_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum command {
    COMMAND_BENCH, // also when the first argument is an option, or there is none
    COMMAND_GENERATE,
    COMMAND_SCORE,
    COMMAND_TOKENIZE,
    COMMAND_PREDICT,
    COMMAND_INFO, // the last that opens a model
    COMMAND_PLOT,
    COMMAND_COMPARE,
    COMMAND_HELP, // the overview, or another command's help
    COMMANDS
};

enum format { FORMAT_TABLE, FORMAT_CSV, FORMAT_JSON, FORMAT_JSONL, FORMAT_MARKDOWN };
enum kvcache { KVCACHE_ON, KVCACHE_OFF, KVCACHE_BOTH };
enum dtype_choice { DTYPE_CHOICE_AUTO, DTYPE_CHOICE_F32, DTYPE_CHOICE_F16, DTYPE_CHOICE_BF16 };
enum reference_choice { REFERENCE_NONE, REFERENCE_PUBLISHED_A100 };
enum decode_path_choice {
    DECODE_CHOICE_AUTO,
    DECODE_CHOICE_GRAPH,
    DECODE_CHOICE_FUSED,
    DECODE_CHOICE_PERSISTENT
};
enum logits_choice { LOGITS_CHOICE_LAST, LOGITS_CHOICE_ALL };

// Texts and ids in the order they were given, whichever option they came by.
enum input_kind {
    INPUT_TEXT,  // the text itself
    INPUT_FILE,  // a file whose whole content is one text; "-" is standard input
    INPUT_IDS,   // comma-separated token ids
    INPUT_JSONL, // a file of JSON objects, one per line; "-" is standard input
};
struct input {
    enum input_kind kind;
    const char *option; // its name, for messages
    const char *value;
};

// Fields of options that the command does not have keep their zero.
struct options {
    enum command command;
    bool help, version, quiet;
    const char **arguments; // what is not an option, as many as the command takes (stb_ds array)

    const char *model; // NULL: not given
    const char *device;
    const char *output_file; // NULL: standard output
    const char *tokenizer;   // NULL: the model's directory
    int dtype;               // enum dtype_choice
    int format;              // enum format
    int kvcache;             // enum kvcache
    int logits;              // enum logits_choice
    int decode_path;         // enum decode_path_choice
    int threads;             // 0: all
    bool deterministic;      //
    uint64_t seed;

    int *batches;             // bench: batch sizes (stb_ds array); none: auto
    const char *goal;         // NULL: not given
    const char *reserve_mib;  // NULL: not given
    int batch;                // generate, info: rows; 0: not given
    int prompt_len;           //
    int gen_len;              //
    int reps;                 // 0: automatic
    double noise_percent;     //
    double max_time;          // seconds; 0: not given
    double gpu_hour_usd;      // 0: not given
    double requests_per_day;  // 0: not given
    int warmup;               //
    const char *plot;         // a picture's file, "-": text; NULL: none
    int reference;            // enum reference_choice
    bool help_metrics;        //
    const char *device_spec;  // NULL: the present device
    double host_overhead_us;  //
    double efficiency;        // percent; 0: not given
    bool refresh;             //
    double threshold_percent; // compare
    bool fail_on_regression;  //
    struct input *inputs;     // generate, score, tokenize (stb_ds array)
    const char **stops;       // (stb_ds array)
    int max_new_tokens;       // 0: not given
    bool ignore_eos;          //
    bool last_logits;         //
    bool decode;              //
    bool measure;             //
    double temperature, top_p, min_p;
    int top_k;
};

// Fills *options from main's arguments; its strings point into argv. A message names the option, what was
// expected and what was found. On success the caller frees with options_free.
CHECKED enum status options_parse(int argc, char **argv, struct options *options, struct error *error);
void options_free(struct options *options);

// ---- the table

enum option_kind {
    OPTION_FLAG,     // bool, no value
    OPTION_TEXT,     // const char *
    OPTION_TEXTS,    // const char **: repeatable, not empty
    OPTION_INPUT,    // struct input *: repeatable
    OPTION_INTEGER,  // int in minimum .. maximum
    OPTION_INTEGERS, // int *: comma-separated integers, none for the word `instead`
    OPTION_UINT64,   // uint64_t
    OPTION_REAL,     // double in minimum .. maximum
    OPTION_CHOICE,   // int: one of `choices`
};

struct choice {
    const char *word;
    int value;
};

struct option {
    const char *name;
    enum option_kind kind;
    unsigned commands;            // bit (1u << enum command) for each command that has it
    size_t field;                 // its offset in struct options
    const char *value;            // how help names the value
    const char *help;             //
    const char *initial;          // the default, read as if it had been given; NULL: the field stays zero
    double minimum, maximum;      //
    const struct choice *choices; // ends with a NULL word
    const char *instead;          //
    enum input_kind input;
};

// A name may occur more than once, each time for other commands.
extern const struct option option_table[];
extern const size_t option_count;

struct command_info {
    const char *name;
    const char *summary;
    const char *description; // what --help says before the options
    const char *arguments;   // how help names those that are not options; NULL: none
    int argument_count;      // exactly so many
};
extern const struct command_info command_table[COMMANDS];

// ---- help

void help_overview(FILE *stream);
void help_command(FILE *stream, enum command command);

// The name in `names` that a mistyped `word` most likely meant, or NULL when none is near.
const char *nearest_name(const char *word, const char *const *names, size_t count);

#endif
