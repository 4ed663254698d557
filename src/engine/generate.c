#include "engine/generate.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct run {
    struct session *session;
    const struct generate_request *requests;
    int count;
    const struct generate_options *options;
    const struct generate_receiver *receiver;
    int rows;     // B
    int next;     // the first request that has not begun
    int live;     // rows that have a request
    bool ended;   // the receiver wants no more
    int *request; // (B) index of the row's request, -1: free
    int *made;    // (B) new tokens of the row's request so far
    // Arguments and results of one call.
    int *call_rows;        // (B)
    int *call_lengths;     // (B)
    uint64_t *call_ids;    // (B)
    int32_t *call_prompts; // (B max_tokens) packed
    int32_t *tokens;       // (steps_per_call, B)
};

enum status generate_plan(const struct generate_request *requests, int count, int context, int *max_tokens,
                          struct error *error) {
    *max_tokens = 2; // the least a session has
    for (int i = 0; i < count; i++) {
        int length = requests[i].length, max_new = requests[i].max_new;
        if (length < 1 || max_new < 1)
            return error_set(error, STATUS_USAGE,
                             "prompt %d: %d tokens and %d new: at least 1 of each is needed", i, length,
                             max_new);
        if (max_new > context - length)
            return error_set(error, STATUS_USAGE,
                             "prompt %d: %d tokens and %d new make %" PRId64
                             ", more than the context of %d holds",
                             i, length, max_new, (int64_t)length + max_new, context);
        if (length + max_new > *max_tokens) *max_tokens = length + max_new;
    }
    return STATUS_OK;
}

static enum status take_memory(struct run *run, struct error *error) {
    size_t rows = (size_t)run->rows, max_tokens = (size_t)session_spec_of(run->session)->max_tokens;
    run->request = malloc(rows * sizeof *run->request);
    run->made = calloc(rows, sizeof *run->made);
    run->call_rows = malloc(rows * sizeof *run->call_rows);
    run->call_lengths = malloc(rows * sizeof *run->call_lengths);
    run->call_ids = malloc(rows * sizeof *run->call_ids);
    run->call_prompts = malloc(rows * max_tokens * sizeof *run->call_prompts);
    run->tokens = malloc((size_t)run->options->steps_per_call * rows * sizeof *run->tokens);
    if (!run->request || !run->made || !run->call_rows || !run->call_lengths || !run->call_ids ||
        !run->call_prompts || !run->tokens)
        return error_set(error, STATUS_OUT_OF_MEMORY, "no host memory for %d rows of %zu tokens", run->rows,
                         max_tokens);
    for (int row = 0; row < run->rows; row++) run->request[row] = -1;
    return STATUS_OK;
}

static void free_memory(struct run *run) {
    free(run->request);
    free(run->made);
    free(run->call_rows);
    free(run->call_lengths);
    free(run->call_ids);
    free(run->call_prompts);
    free(run->tokens);
}

static void finish(struct run *run, int request, enum generate_finish reason) {
    if (!run->ended && !run->receiver->finished(run->receiver->context, request, reason)) run->ended = true;
}

// Gives one token to the receiver; true when that was the request's last.
static bool deliver(struct run *run, int row, int32_t token) {
    int request = run->request[row];
    run->made[row]++;
    bool more = run->receiver->token(run->receiver->context, request, token);
    if (!more || token == run->options->eos)
        finish(run, request, GENERATE_STOPPED);
    else if (run->made[row] == run->requests[request].max_new)
        finish(run, request, GENERATE_LENGTH);
    else
        return false;
    return true;
}

// Collects what the last call made, delivers it step by step, and frees the rows that are done.
static enum status receive(struct run *run, struct error *error) {
    TRY(session_collect(run->session, run->tokens, error));
    int steps = session_pending_steps(run->session), retired = 0;
    for (int step = 0; step < steps; step++) {
        for (int row = 0; row < run->rows && !run->ended; row++) {
            int32_t token = run->tokens[(size_t)step * (size_t)run->rows + (size_t)row];
            if (run->request[row] < 0 || token < 0) continue; // ended at an earlier step, or took no part
            if (!deliver(run, row, token)) continue;
            run->request[row] = -1;
            run->call_rows[retired++] = row;
        }
    }
    run->live -= retired;
    return retired ? session_retire(run->session, run->call_rows, retired, error) : STATUS_OK;
}

// Puts the next requests into the free rows.
static enum status prefill(struct run *run, struct error *error) {
    int count = 0;
    size_t packed = 0;
    for (int row = 0; row < run->rows && run->next < run->count; row++) {
        if (run->request[row] >= 0) continue;
        const struct generate_request *request = &run->requests[run->next];
        run->request[row] = run->next++;
        run->made[row] = 0;
        run->call_rows[count] = row;
        run->call_lengths[count] = request->length;
        run->call_ids[count] = request->id;
        memcpy(run->call_prompts + packed, request->prompt,
               (size_t)request->length * sizeof *request->prompt);
        packed += (size_t)request->length;
        count++;
    }
    run->live += count;
    struct prompt_batch prompts = {.count = count,
                                   .rows = run->call_rows,
                                   .lengths = run->call_lengths,
                                   .tokens = run->call_prompts,
                                   .requests = run->call_ids};
    TRY(session_prefill(run->session, &prompts, error));
    return receive(run, error);
}

// As many steps as wanted, and as the row nearest to its end has room for.
static enum status decode(struct run *run, struct error *error) {
    int steps = run->options->steps_per_call;
    for (int row = 0; row < run->rows; row++) {
        if (run->request[row] < 0) continue;
        int left = run->requests[run->request[row]].max_new - run->made[row];
        if (left < steps) steps = left;
    }
    TRY(session_decode(run->session, steps, error));
    return receive(run, error);
}

static enum status run_all(struct run *run, struct error *error) {
    while (!run->ended && (run->live > 0 || run->next < run->count)) {
        if (run->options->interrupt && *run->options->interrupt)
            return error_set(error, STATUS_INTERRUPTED, "interrupted");
        if (run->live < run->rows && run->next < run->count) TRY(prefill(run, error));
        if (!run->ended && run->live > 0) TRY(decode(run, error));
    }
    return STATUS_OK;
}

static void finish_interrupted(struct run *run) {
    for (int row = 0; row < run->rows; row++) {
        if (run->request[row] >= 0) finish(run, run->request[row], GENERATE_INTERRUPTED);
    }
    while (run->next < run->count) finish(run, run->next++, GENERATE_INTERRUPTED);
}

enum status generate_run(struct session *session, const struct generate_request *requests, int count,
                         const struct generate_options *options, const struct generate_receiver *receiver,
                         struct error *error) {
    struct run run = {.session = session,
                      .requests = requests,
                      .count = count,
                      .options = options,
                      .receiver = receiver,
                      .rows = session_spec_of(session)->rows};
    int longest;
    TRY(generate_plan(requests, count, session_spec_of(session)->max_tokens, &longest, error));
    enum status status = take_memory(&run, error);
    if (status == STATUS_OK) status = run_all(&run, error);
    if (status == STATUS_INTERRUPTED) finish_interrupted(&run);
    free_memory(&run);
    return status;
}
