// tokenize: text to ids and back, without a model's weights.
#include "base/output_file.h"
#include "cli/commands.h"
#include "cli/inputs.h"
#include "cli/json_text.h"
#include "cli/setup.h"

#include <stb/stb_ds.h>
#include <stdlib.h>

// Lines of JSON come back as lines of JSON unless another format is asked for.
static enum format choose_format(const struct options *options) {
    bool lines = options->format == FORMAT_TABLE && options->inputs[0].kind == INPUT_JSONL;
    return lines ? FORMAT_JSONL : (enum format)options->format;
}

static void write_plain_ids(const int32_t *ids, FILE *stream) {
    for (size_t i = 0; i < arrlenu(ids); i++) fprintf(stream, "%s%d", i ? " " : "", ids[i]);
    fputc('\n', stream);
}

static enum status write_ids(const int32_t *ids, enum format format, FILE *stream, struct error *error) {
    if (format == FORMAT_TABLE) {
        write_plain_ids(ids, stream);
        return STATUS_OK;
    }
    return json_write(json_pack("{s:o}", "ids", json_ids(ids, arrlenu(ids))), true, stream, error);
}

// Plain output is the very bytes, with nothing added.
static enum status write_text(const struct tokenizer *tokenizer, const int32_t *ids, enum format format,
                              FILE *stream, struct error *error) {
    char *bytes = NULL;
    enum status status = tokenizer_decode(tokenizer, ids, arrlenu(ids), &bytes, error);
    if (status == STATUS_OK && format == FORMAT_TABLE) {
        fwrite(bytes ? bytes : "", 1, arrlenu(bytes), stream);
    } else if (status == STATUS_OK) {
        json_t *text = json_text(bytes ? bytes : "", arrlenu(bytes));
        status = json_write(json_pack("{s:o}", "text", text), true, stream, error);
    }
    arrfree(bytes);
    return status;
}

static enum status write_all(const struct options *options, const struct tokenizer *tokenizer,
                             int32_t **sequences, struct error *error) {
    struct output_file output;
    TRY(output_file_open(options->output_file, &output, error));
    enum format format = choose_format(options);
    enum status status = STATUS_OK;
    for (size_t i = 0; i < arrlenu(sequences) && status == STATUS_OK && !ferror(output.stream); i++) {
        status = options->decode ? write_text(tokenizer, sequences[i], format, output.stream, error)
                                 : write_ids(sequences[i], format, output.stream, error);
    }
    if (status == STATUS_OK) return output_file_commit(&output, error);
    output_file_discard(&output);
    return status;
}

static enum status tokenize(const struct options *options, const struct tokenizer *tokenizer,
                            struct error *error) {
    struct encoding encoding = {.tokenizer = tokenizer, .vocab = tokenizer_vocab_size(tokenizer)};
    int32_t **sequences;
    enum status status = inputs_read(options->inputs, &encoding, &sequences, error);
    if (status == STATUS_OK) status = write_all(options, tokenizer, sequences, error);
    inputs_free(sequences);
    return status;
}

static enum status check_inputs(const struct options *options, struct error *error) {
    if (arrlenu(options->inputs) == 0)
        return error_set(error, STATUS_USAGE,
                         "tokenize needs --text, --text-file or --input, or --decode --ids");
    for (size_t i = 0; i < arrlenu(options->inputs); i++) {
        enum input_kind kind = options->inputs[i].kind;
        if (options->decode && (kind == INPUT_TEXT || kind == INPUT_FILE))
            return error_set(error, STATUS_USAGE, "--decode takes --ids or --input, not --%s",
                             options->inputs[i].option);
        if (!options->decode && kind == INPUT_IDS)
            return error_set(error, STATUS_USAGE, "--ids: ids are decoded, with --decode");
    }
    return STATUS_OK;
}

enum status cmd_tokenize(const struct options *options, const volatile sig_atomic_t *interrupt,
                         struct error *error) {
    (void)interrupt;
    TRY(check_inputs(options, error));
    char *directory = NULL;
    if (!options->tokenizer)
        TRY(model_find_directory(setup_model_name(options, MODEL_BUNDLED), &directory, error));
    struct tokenizer *tokenizer;
    enum status status = setup_tokenizer(options, directory, 0, &tokenizer, error);
    if (status == STATUS_OK) status = tokenize(options, tokenizer, error);
    tokenizer_close(tokenizer);
    free(directory);
    return status;
}
