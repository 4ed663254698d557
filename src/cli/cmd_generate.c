// generate: prompts to text.
#include "base/clock.h"
#include "base/output_file.h"
#include "cli/commands.h"
#include "cli/inputs.h"
#include "cli/progress.h"
#include "cli/replies.h"
#include "cli/setup.h"
#include "engine/generate.h"

#include <stb/stb_ds.h>
#include <stdlib.h>

enum { DEFAULT_NEW_TOKENS = 128, DEFAULT_ROWS = 32 };

// One run of the command, from opening to closing.
struct generation {
    const struct options *options;
    struct setup setup;
    struct tokenizer *tokenizer;       // NULL: ids only
    struct error no_tokenizer;         // why
    int32_t **prompts;                 // stb_ds array of stb_ds arrays
    int count;                         // of prompts
    struct generate_request *requests; // (count)
    struct replies replies;
    struct progress progress;
    double began;     // clock seconds
    double seconds;   // that the run took
    int64_t made;     // new tokens so far
    int64_t expected; // at most that many in all
};

static enum status open_tokenizer(struct generation *generation, struct error *error) {
    const struct options *options = generation->options;
    const struct model *model = generation->setup.model;
    enum status status = setup_tokenizer(options, model_directory(model), model_config(model)->vocab,
                                         &generation->tokenizer, &generation->no_tokenizer);
    if (status == STATUS_OK) return STATUS_OK;
    // Prompts given as ids can do without one that was not asked for.
    if (!options->tokenizer && !options->stops) return STATUS_OK;
    *error = generation->no_tokenizer;
    return status;
}

static enum status read_prompts(struct generation *generation, struct error *error) {
    const struct gpt2_config *config = model_config(generation->setup.model);
    struct encoding encoding = {.tokenizer = generation->tokenizer,
                                .no_tokenizer = &generation->no_tokenizer,
                                .special = true,
                                .vocab = config->vocab};
    TRY(inputs_read(generation->options->inputs, &encoding, &generation->prompts, error));
    if (!generation->tokenizer)
        setup_note(generation->options, "note: ids only: %s", generation->no_tokenizer.message);
    generation->count = (int)arrlen(generation->prompts);
    for (int i = 0; i < generation->count; i++) {
        if (arrlenu(generation->prompts[i]) > 0) continue;
        if (config->eos_token < 0)
            return error_set(error, STATUS_USAGE,
                             "prompt %d is empty, and this model has no end-of-text token to begin with", i);
        arrput(generation->prompts[i], config->eos_token);
    }
    return STATUS_OK;
}

static enum status plan_requests(struct generation *generation, int *max_tokens, struct error *error) {
    const struct options *options = generation->options;
    int context = model_config(generation->setup.model)->context;
    generation->requests = calloc((size_t)generation->count, sizeof *generation->requests);
    if (!generation->requests)
        return error_set(error, STATUS_OUT_OF_MEMORY, "no host memory for %d prompts", generation->count);
    for (int i = 0; i < generation->count; i++) {
        const int32_t *prompt = generation->prompts[i];
        int length = arrlenu(prompt) < INT32_MAX / 2 ? (int)arrlen(prompt) : INT32_MAX / 2;
        int room = context > length ? context - length : 1; // a prompt too long is refused with its numbers
        int wanted = room < DEFAULT_NEW_TOKENS ? room : DEFAULT_NEW_TOKENS;
        if (options->max_new_tokens) wanted = options->max_new_tokens;
        generation->requests[i] = (struct generate_request){
            .prompt = prompt, .length = length, .max_new = wanted, .id = (uint64_t)i};
        generation->expected += wanted;
    }
    return generate_plan(generation->requests, generation->count, context, max_tokens, error);
}

// ---- receiving

static bool take_token(void *context, int request, int32_t token) {
    struct generation *generation = context;
    generation->made++;
    if (!generation->replies.streaming) {
        double fraction = (double)generation->made / (double)generation->expected;
        progress_update(&generation->progress, "generating", fraction, -1);
    }
    return replies_token(&generation->replies, request, token);
}

static bool take_finish(void *context, int request, enum generate_finish finish) {
    struct generation *generation = context;
    progress_clear(&generation->progress);
    return replies_finished(&generation->replies, request, finish);
}

static void note_speed(const struct generation *generation) {
    double seconds = generation->seconds;
    setup_note(generation->options, "%lld new tokens for %d prompt%s in %.2f s: %.1f tok/s",
               (long long)generation->made, generation->count, generation->count == 1 ? "" : "s", seconds,
               seconds > 0 ? (double)generation->made / seconds : 0);
}

// ---- running

static enum status run_session(struct generation *generation, struct session *session,
                               const volatile sig_atomic_t *interrupt, struct error *error) {
    const struct options *options = generation->options;
    int32_t eos = model_config(generation->setup.model)->eos_token;
    struct generate_options run = {.eos = options->ignore_eos ? -1 : eos,
                                   // Nobody looks at single tokens unless they are streamed.
                                   .steps_per_call = generation->replies.streaming ? 1 : 8,
                                   .interrupt = interrupt};
    struct generate_receiver receiver = {.context = generation, .token = take_token, .finished = take_finish};
    progress_start(&generation->progress, options->quiet, false);
    generation->began = clock_seconds();
    enum status status =
        generate_run(session, generation->requests, generation->count, &run, &receiver, error);
    generation->seconds = clock_seconds() - generation->began;
    progress_clear(&generation->progress);
    return status;
}

static enum status run_backend(struct generation *generation, int max_tokens, struct output_file *output,
                               const volatile sig_atomic_t *interrupt, struct error *error) {
    const struct options *options = generation->options;
    int rows = options->batch ? options->batch : DEFAULT_ROWS;
    struct session_spec spec = {.rows = rows < generation->count ? rows : generation->count,
                                .max_tokens = max_tokens,
                                .kv_cache = options->kvcache == KVCACHE_ON,
                                .sampling = {.temperature = (float)options->temperature,
                                             .top_k = options->top_k,
                                             .top_p = (float)options->top_p,
                                             .min_p = (float)options->min_p,
                                             .seed = options->seed}};
    TRY(sampling_check(&spec.sampling, error));
    TRY(setup_open_backend(options, interrupt, &generation->setup, error));
    struct session *session;
    TRY(session_open(generation->setup.backend, &spec, &session, error));
    generation->replies =
        (struct replies){.count = generation->count,
                         .prompts = generation->prompts,
                         .tokenizer = generation->tokenizer,
                         .eos = model_config(generation->setup.model)->eos_token,
                         .format = (enum format)options->format,
                         .stream = output->stream,
                         .streaming = generation->count == 1 && options->format == FORMAT_TABLE};
    enum status status = replies_begin(&generation->replies, options->stops, error);
    if (status == STATUS_OK) status = run_session(generation, session, interrupt, error);
    session_close(session);
    return status;
}

static enum status generate_into(struct generation *generation, int max_tokens, struct output_file *output,
                                 const volatile sig_atomic_t *interrupt, struct error *error) {
    enum status status = run_backend(generation, max_tokens, output, interrupt, error);
    if (status != STATUS_OK && status != STATUS_INTERRUPTED) return status;
    // What was finished before an interruption is a result too.
    if (generation->replies.replies) {
        TRY(replies_end(&generation->replies, error));
        TRY(output_file_commit(output, error));
        note_speed(generation);
    }
    return status;
}

static enum status generate(struct generation *generation, const volatile sig_atomic_t *interrupt,
                            struct error *error) {
    int max_tokens;
    TRY(setup_open_model(generation->options, MODEL_BUNDLED, &generation->setup, error));
    TRY(open_tokenizer(generation, error));
    TRY(read_prompts(generation, error));
    TRY(plan_requests(generation, &max_tokens, error));
    struct output_file output;
    TRY(output_file_open(generation->options->output_file, &output, error));
    enum status status = generate_into(generation, max_tokens, &output, interrupt, error);
    output_file_discard(&output);
    return status;
}

enum status cmd_generate(const struct options *options, const volatile sig_atomic_t *interrupt,
                         struct error *error) {
    if (!options->inputs)
        return error_set(error, STATUS_USAGE,
                         "generate needs a prompt: --prompt, --prompt-file, --input or --ids");
    struct generation generation = {.options = options};
    enum status status = generate(&generation, interrupt, error);
    replies_free(&generation.replies);
    free(generation.requests);
    inputs_free(generation.prompts);
    tokenizer_close(generation.tokenizer);
    setup_close(&generation.setup);
    return status;
}
