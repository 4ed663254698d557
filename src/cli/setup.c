#include "cli/setup.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

void setup_note(const struct options *options, const char *format, ...) {
    if (options->quiet) return;
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
}

const char *setup_model_name(const struct options *options, const char *fallback) {
    if (options->model) return options->model;
    struct error ignored;
    char *directory;
    if (model_find_directory("gpt2", &directory, &ignored) == STATUS_OK) {
        free(directory);
        return "gpt2";
    }
    setup_note(options, "note: gpt2 is not in models/ (tools/download.sh gpt2 fetches it): using %s",
               fallback);
    return fallback;
}

// auto: on a GPU its fastest dtype; on a CPU, where memory is what a step waits for and conversion costs
// accuracy, the dtype the model is stored in, or f32 where the CPU does not compute in that.
static enum dtype choose_dtype(const struct options *options, const struct model *model,
                               const struct device_info *device) {
    switch (options->dtype) {
    case DTYPE_CHOICE_F32:
        return DTYPE_F32;
    case DTYPE_CHOICE_F16:
        return DTYPE_F16;
    case DTYPE_CHOICE_BF16:
        return DTYPE_BF16;
    default:
        break;
    }
    if (strcmp(device->backend, "cpu") != 0) return device->fastest_dtype;
    enum dtype stored = model_stored_dtype(model);
    return device->dtypes & (1u << stored) ? stored : DTYPE_F32;
}

enum status setup_open_model(const struct options *options, const char *fallback, struct setup *setup,
                             struct error *error) {
    TRY(device_find(options->device, &setup->device, error));
    TRY(device_describe(setup->device, &setup->info, error));
    return model_open(setup_model_name(options, fallback), &setup->model, error);
}

enum status setup_open_backend(const struct options *options, const volatile sig_atomic_t *interrupt,
                               struct setup *setup, struct error *error) {
    struct backend_options backend_options = {
        .dtype = choose_dtype(options, setup->model, &setup->info),
        .threads = options->threads,
        .deterministic = options->deterministic,
        .interrupt = interrupt,
    };
    return backend_open(setup->device, setup->model, &backend_options, &setup->backend, error);
}

void setup_close(struct setup *setup) {
    backend_close(setup->backend);
    model_close(setup->model);
    memset(setup, 0, sizeof *setup);
}

// A vocabulary may be padded for speed, up to a multiple of 128; a larger difference is another model's.
static enum status check_vocabulary(const char *path, int tokens, int vocab, struct error *error) {
    if (tokens <= vocab && vocab - tokens < 128) return STATUS_OK;
    return error_set(error, STATUS_FAILED, "%s: a vocabulary of %d tokens does not fit the model's of %d",
                     path, tokens, vocab);
}

enum status setup_tokenizer(const struct options *options, const char *directory, int vocab,
                            struct tokenizer **tokenizer, struct error *error) {
    *tokenizer = NULL;
    const char *path = options->tokenizer ? options->tokenizer : directory;
    if (!path)
        return error_set(error, STATUS_USAGE,
                         "a random model has no tokenizer: name one with --tokenizer, or give --ids");
    TRY(tokenizer_open(path, tokenizer, error));
    if (vocab == 0) return STATUS_OK;
    enum status status = check_vocabulary(path, tokenizer_vocab_size(*tokenizer), vocab, error);
    if (status != STATUS_OK) {
        tokenizer_close(*tokenizer);
        *tokenizer = NULL;
    }
    return status;
}

enum report_format setup_report_format(const struct options *options) {
    static const enum report_format formats[] = {[FORMAT_TABLE] = REPORT_TABLE,
                                                 [FORMAT_CSV] = REPORT_CSV,
                                                 [FORMAT_JSON] = REPORT_JSON,
                                                 [FORMAT_JSONL] = REPORT_JSONL,
                                                 [FORMAT_MARKDOWN] = REPORT_MARKDOWN};
    return formats[options->format];
}
