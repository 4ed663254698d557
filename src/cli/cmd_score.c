// score: the loss of each token of a text, in windows of the model's context.
#include "base/output_file.h"
#include "cli/commands.h"
#include "cli/inputs.h"
#include "cli/json_text.h"
#include "cli/progress.h"
#include "cli/setup.h"

#include <math.h>
#include <stb/stb_ds.h>
#include <stdlib.h>
#include <string.h>

struct scores {
    int count;          // N tokens
    const int32_t *ids; // (N)
    int32_t *targets;   // (N) the token after each, -1 after the last
    float *nll;         // (N) the last one is 0
    int32_t *argmax;    // (N)
    float *last_logits; // (V)
    double mean_nll;    // nats per token; not a number for a single token
};

static enum status take_memory(struct scores *scores, int vocab, struct error *error) {
    size_t count = (size_t)scores->count;
    scores->targets = malloc(count * sizeof *scores->targets);
    scores->nll = malloc(count * sizeof *scores->nll);
    scores->argmax = malloc(count * sizeof *scores->argmax);
    scores->last_logits = malloc((size_t)vocab * sizeof *scores->last_logits);
    if (!scores->targets || !scores->nll || !scores->argmax || !scores->last_logits)
        return error_set(error, STATUS_OUT_OF_MEMORY, "no host memory for the scores of %zu tokens", count);
    for (size_t i = 0; i + 1 < count; i++) scores->targets[i] = scores->ids[i + 1];
    scores->targets[count - 1] = -1;
    return STATUS_OK;
}

static void free_memory(struct scores *scores) {
    free(scores->targets);
    free(scores->nll);
    free(scores->argmax);
    free(scores->last_logits);
}

// A window's last position predicts the first token of the next window, so that only the text's very first
// token is never predicted.
static enum status score_windows(struct session *session, struct scores *scores, struct progress *progress,
                                 struct error *error) {
    int window = session_spec_of(session)->max_tokens;
    for (int start = 0; start < scores->count; start += window) {
        int left = scores->count - start;
        bool last = left <= window;
        struct score_request request = {.count = last ? left : window,
                                        .tokens = scores->ids + start,
                                        .targets = scores->targets + start,
                                        .nll = scores->nll + start,
                                        .argmax = scores->argmax + start,
                                        .last_logits = last ? scores->last_logits : NULL};
        TRY(session_score(session, &request, error));
        progress_update(progress, "scoring", (double)start / scores->count, -1);
    }
    double sum = 0;
    for (int i = 0; i + 1 < scores->count; i++) sum += (double)scores->nll[i];
    scores->mean_nll = scores->count > 1 ? sum / (scores->count - 1) : (double)NAN;
    return STATUS_OK;
}

static enum status score(const struct options *options, struct backend *backend, struct scores *scores,
                         struct error *error) {
    int context = backend_config(backend)->context;
    int window = scores->count < context ? scores->count : context;
    struct session_spec spec = {.rows = 1,
                                .max_tokens = window < 2 ? 2 : window,
                                .kv_cache = false, // scoring keeps nothing
                                .sampling = {.top_p = 1}};
    struct session *session;
    struct progress progress;
    TRY(session_open(backend, &spec, &session, error));
    progress_start(&progress, options->quiet, false);
    enum status status = score_windows(session, scores, &progress, error);
    progress_clear(&progress);
    session_close(session);
    return status;
}

static enum status write_json(const struct options *options, const struct scores *scores, int vocab,
                              FILE *stream, struct error *error) {
    size_t count = (size_t)scores->count;
    json_t *document =
        json_pack("{s:o, s:o, s:o, s:o, s:o}", "tokens", json_ids(scores->ids, count), "nll",
                  json_floats(scores->nll, count - 1), "argmax", json_ids(scores->argmax, count), "mean_nll",
                  json_number(scores->mean_nll), "perplexity", json_number(exp(scores->mean_nll)));
    if (options->last_logits && document)
        json_object_set_new(document, "last_logits", json_floats(scores->last_logits, (size_t)vocab));
    return json_write(document, true, stream, error);
}

static void write_table(const struct scores *scores, FILE *stream) {
    fprintf(stream, "tokens       %d\n", scores->count);
    if (scores->count < 2) {
        fputs("a single token: nothing was predicted\n", stream);
        return;
    }
    fprintf(stream, "nats/token   %.4f\n", scores->mean_nll);
    fprintf(stream, "perplexity   %.4f\n", exp(scores->mean_nll));
}

static enum status write_scores(const struct options *options, const struct scores *scores, int vocab,
                                struct output_file *output, struct error *error) {
    if (options->format == FORMAT_JSON)
        TRY(write_json(options, scores, vocab, output->stream, error));
    else
        write_table(scores, output->stream);
    return output_file_commit(output, error);
}

static enum status score_ids(const struct options *options, const volatile sig_atomic_t *interrupt,
                             struct setup *setup, const int32_t *ids, struct error *error) {
    struct output_file output;
    TRY(output_file_open(options->output_file, &output, error));
    int vocab = model_config(setup->model)->vocab;
    struct scores scores = {.count = (int)arrlen(ids), .ids = ids};
    enum status status = take_memory(&scores, vocab, error);
    if (status == STATUS_OK) status = setup_open_backend(options, interrupt, setup, error);
    if (status == STATUS_OK) status = score(options, setup->backend, &scores, error);
    if (status == STATUS_OK) status = write_scores(options, &scores, vocab, &output, error);
    free_memory(&scores);
    output_file_discard(&output);
    return status;
}

static enum status read_ids(const struct options *options, const struct setup *setup, int32_t ***sequences,
                            struct error *error) {
    const struct input *input = &options->inputs[0];
    struct tokenizer *tokenizer = NULL;
    int vocab = model_config(setup->model)->vocab;
    if (input->kind != INPUT_IDS)
        TRY(setup_tokenizer(options, model_directory(setup->model), vocab, &tokenizer, error));
    struct encoding encoding = {.tokenizer = tokenizer, .vocab = vocab};
    enum status status = inputs_read(options->inputs, &encoding, sequences, error);
    tokenizer_close(tokenizer);
    if (status != STATUS_OK) return status;
    size_t count = arrlenu((*sequences)[0]);
    if (count == 0) return error_set(error, STATUS_USAGE, "--%s: an empty text", input->option);
    if (count > INT32_MAX / 2)
        return error_set(error, STATUS_USAGE, "--%s: %zu tokens, more than the %d that are scored",
                         input->option, count, INT32_MAX / 2);
    return STATUS_OK;
}

static enum status score_input(const struct options *options, const volatile sig_atomic_t *interrupt,
                               struct setup *setup, struct error *error) {
    TRY(setup_open_model(options, MODEL_BUNDLED, setup, error));
    int32_t **sequences = NULL;
    enum status status = read_ids(options, setup, &sequences, error);
    if (status == STATUS_OK) status = score_ids(options, interrupt, setup, sequences[0], error);
    inputs_free(sequences);
    return status;
}

enum status cmd_score(const struct options *options, const volatile sig_atomic_t *interrupt,
                      struct error *error) {
    if (arrlenu(options->inputs) != 1)
        return error_set(error, STATUS_USAGE, "score takes one of --text, --text-file and --ids, found %zu",
                         arrlenu(options->inputs));
    if (options->last_logits && options->format != FORMAT_JSON)
        return error_set(error, STATUS_USAGE, "--last-logits needs --format json");
    struct setup setup = {0};
    enum status status = score_input(options, interrupt, &setup, error);
    setup_close(&setup);
    return status;
}
