// Opens what a command works with, as the shared options say.
#ifndef CLI_SETUP_H
#define CLI_SETUP_H

#include "cli/options.h"
#include "engine/backend.h"
#include "measure/report.h"
#include "models/model.h"
#include "tokenizer/tokenizer.h"

// What a command uses when no --model was given and gpt2 has not been downloaded.
#define MODEL_BUNDLED "shakespeare" // text, but not GPT-2's
#define MODEL_RANDOM "random:gpt2"  // GPT-2's exact shape and speed, no text

struct setup {
    struct device device;
    struct device_info info;
    struct model *model;
    struct backend *backend;
};

// The model to open: --model, else gpt2 when it is installed, else `fallback`, which a note tells.
const char *setup_model_name(const struct options *options, const char *fallback);

// In two steps, so that inputs can be checked against the model before its weights are uploaded. The caller
// closes what was opened, also after a failure; setup begins as zeros.
CHECKED enum status setup_open_model(const struct options *options, const char *fallback, struct setup *setup,
                                     struct error *error);
CHECKED enum status setup_open_backend(const struct options *options, const volatile sig_atomic_t *interrupt,
                                       struct setup *setup, struct error *error);
void setup_close(struct setup *setup); // a zeroed struct is allowed

// The tokenizer of --tokenizer, or of `directory` (NULL for a model that has no files). With vocab > 0 it
// must fit a model of that vocabulary. The caller closes it.
CHECKED enum status setup_tokenizer(const struct options *options, const char *directory, int vocab,
                                    struct tokenizer **tokenizer, struct error *error);

// --format for reports of measurements.
enum report_format setup_report_format(const struct options *options);

// One line on standard error, unless --quiet.
void setup_note(const struct options *options, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
