// Checks every argument once for all backends, keeps the host's view of the rows, and dispatches.
#include "engine/backend.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum status device_describe(struct device device, struct device_info *info, struct error *error) {
    memset(info, 0, sizeof *info);
    return device.ops->describe(device.index, info, error);
}

enum status backend_open(struct device device, const struct model *model,
                         const struct backend_options *options, struct backend **backend,
                         struct error *error) {
    *backend = NULL;
    struct device_info info;
    TRY(device_describe(device, &info, error));
    if (!(info.dtypes & 1u << options->dtype)) {
        return error_set(error, STATUS_USAGE, "--dtype %s: %s (%s) does not compute in it",
                         dtype_name(options->dtype), info.name, info.backend);
    }
    struct backend base = {
        .ops = device.ops, .index = device.index, .config = *model_config(model), .options = *options};
    return device.ops->open(&base, model, backend, error);
}

void backend_close(struct backend *backend) {
    if (backend) backend->ops->close(backend);
}

const struct gpt2_config *backend_config(const struct backend *backend) {
    return &backend->config;
}
enum dtype backend_dtype(const struct backend *backend) {
    return backend->options.dtype;
}
struct device backend_device(const struct backend *backend) {
    return (struct device){.ops = backend->ops, .index = backend->index};
}

const char *logits_mode_name(enum logits_mode mode) {
    return mode == LOGITS_ALL ? "all" : "last";
}

int64_t memory_ledger_session_bytes(const struct memory_ledger *ledger) {
    return ledger->kv_cache + ledger->activations + ledger->logits + ledger->tokens;
}

void memory_ledger_format(const struct memory_ledger *ledger, char *text, size_t size) {
    const double mib = 1024.0 * 1024.0;
    snprintf(text, size,
             "  weights      %10.1f MiB (resident)\n"
             "  KV cache     %10.1f MiB\n"
             "  activations  %10.1f MiB\n"
             "  logits       %10.1f MiB\n"
             "  tokens       %10.1f MiB\n"
             "  session      %10.1f MiB of %.1f MiB free",
             (double)ledger->weights / mib, (double)ledger->kv_cache / mib, (double)ledger->activations / mib,
             (double)ledger->logits / mib, (double)ledger->tokens / mib,
             (double)memory_ledger_session_bytes(ledger) / mib, (double)ledger->free / mib);
}

void backend_ledger(const struct backend *backend, const struct session_spec *spec,
                    struct memory_ledger *ledger) {
    memset(ledger, 0, sizeof *ledger);
    backend->ops->ledger(backend, spec, ledger);
}

enum status session_open(struct backend *backend, const struct session_spec *spec, struct session **session,
                         struct error *error) {
    *session = NULL;
    if (spec->rows < 1)
        return error_set(error, STATUS_USAGE, "a session needs at least 1 row, not %d", spec->rows);
    if (spec->max_tokens < 2 || spec->max_tokens > backend->config.context) {
        return error_set(error, STATUS_USAGE, "rows of %d tokens: this model's context holds 2 to %d",
                         spec->max_tokens, backend->config.context);
    }
    TRY(sampling_check(&spec->sampling, error));
    struct session base = {.backend = backend, .spec = *spec};
    base.lengths = calloc((size_t)spec->rows, sizeof *base.lengths);
    if (!base.lengths)
        return error_set(error, STATUS_OUT_OF_MEMORY, "no host memory for %d rows", spec->rows);
    enum status status = backend->ops->session_open(backend, &base, session, error);
    if (status != STATUS_OK) free(base.lengths);
    return status;
}

void session_close(struct session *session) {
    if (!session) return;
    int *lengths = session->lengths;
    session->backend->ops->session_close(session);
    free(lengths);
}

static enum status check_tokens(const struct session *session, const int32_t *tokens, int64_t count,
                                struct error *error) {
    int vocab = session->backend->config.vocab;
    for (int64_t i = 0; i < count; i++) {
        if (tokens[i] < 0 || tokens[i] >= vocab) {
            return error_set(error, STATUS_USAGE,
                             "token id %" PRId32 " at position %" PRId64
                             ": this model's vocabulary holds 0 to %d",
                             tokens[i], i, vocab - 1);
        }
    }
    return STATUS_OK;
}

static bool row_named_before(const struct prompt_batch *prompts, int index) {
    for (int i = 0; i < index; i++) {
        if (prompts->rows[i] == prompts->rows[index]) return true;
    }
    return false;
}

static enum status check_prompt_rows(const struct session *session, const struct prompt_batch *prompts,
                                     struct error *error) {
    for (int i = 0; i < prompts->count; i++) {
        int row = prompts->rows[i], length = prompts->lengths[i];
        if (row < 0 || row >= session->spec.rows)
            return error_set(error, STATUS_USAGE, "row %d: the session has rows 0 to %d", row,
                             session->spec.rows - 1);
        if (session->lengths[row] != 0 || row_named_before(prompts, i))
            return error_set(error, STATUS_USAGE, "row %d is not free", row);
        if (length < 1 || length >= session->spec.max_tokens) {
            return error_set(error, STATUS_USAGE,
                             "a prompt of %d tokens: rows of at most %d tokens take prompts of 1 to %d",
                             length, session->spec.max_tokens, session->spec.max_tokens - 1);
        }
    }
    return STATUS_OK;
}

enum status session_prefill(struct session *session, const struct prompt_batch *prompts,
                            struct error *error) {
    if (prompts->count < 1) return error_set(error, STATUS_USAGE, "no prompt to prefill");
    TRY(check_prompt_rows(session, prompts, error));
    int64_t total = 0;
    for (int i = 0; i < prompts->count; i++) total += prompts->lengths[i];
    TRY(check_tokens(session, prompts->tokens, total, error));
    TRY(session->backend->ops->prefill(session, prompts, error));
    for (int i = 0; i < prompts->count; i++) session->lengths[prompts->rows[i]] = prompts->lengths[i] + 1;
    session->pending_steps = 1;
    return STATUS_OK;
}

enum status session_decode(struct session *session, int steps, struct error *error) {
    if (steps < 1) return error_set(error, STATUS_USAGE, "%d steps: at least 1 is needed", steps);
    int live = 0;
    for (int row = 0; row < session->spec.rows; row++) {
        int length = session->lengths[row];
        live += length > 0;
        if (length > 0 && steps > session->spec.max_tokens - length) {
            return error_set(error, STATUS_USAGE, "row %d has %d tokens: %d more would pass its limit of %d",
                             row, length, steps, session->spec.max_tokens);
        }
    }
    if (live == 0) return error_set(error, STATUS_USAGE, "no live row to decode");
    TRY(session->backend->ops->decode(session, steps, error));
    for (int row = 0; row < session->spec.rows; row++) {
        if (session->lengths[row] > 0) session->lengths[row] += steps;
    }
    session->pending_steps = steps;
    return STATUS_OK;
}

int session_pending_steps(const struct session *session) {
    return session->pending_steps;
}

enum status session_collect(struct session *session, int32_t *tokens, struct error *error) {
    if (session->pending_steps == 0) return error_set(error, STATUS_USAGE, "nothing to collect yet");
    return session->backend->ops->collect(session, tokens, error);
}

enum status session_retire(struct session *session, const int *rows, int count, struct error *error) {
    for (int i = 0; i < count; i++) {
        if (rows[i] < 0 || rows[i] >= session->spec.rows || session->lengths[rows[i]] == 0)
            return error_set(error, STATUS_USAGE, "row %d is not live", rows[i]);
    }
    TRY(session->backend->ops->retire(session, rows, count, error));
    for (int i = 0; i < count; i++) session->lengths[rows[i]] = 0;
    return STATUS_OK;
}

int session_row_length(const struct session *session, int row) {
    return session->lengths[row];
}
const char *session_decode_path(const struct session *session) {
    const struct backend_ops *ops = session->backend->ops;
    return ops->decode_path ? ops->decode_path(session) : "";
}

const struct session_spec *session_spec_of(const struct session *session) {
    return &session->spec;
}

enum status session_logits(struct session *session, int row, float *logits, struct error *error) {
    if (!session->spec.keep_logits)
        return error_set(error, STATUS_USAGE, "this session does not keep its logits");
    if (row < 0 || row >= session->spec.rows || session->lengths[row] == 0)
        return error_set(error, STATUS_USAGE, "row %d is not live", row);
    return session->backend->ops->logits(session, row, logits, error);
}

enum status session_step_times(struct session *session, float *milliseconds, struct error *error) {
    if (!session->spec.time_steps)
        return error_set(error, STATUS_USAGE, "this session does not time its steps");
    if (session->pending_steps == 0) return error_set(error, STATUS_USAGE, "no step has run yet");
    return session->backend->ops->step_times(session, milliseconds, error);
}

enum status session_score(struct session *session, const struct score_request *request, struct error *error) {
    if (request->count < 1 || request->count > session->spec.max_tokens) {
        return error_set(error, STATUS_USAGE, "a sequence of %d tokens: this session scores 1 to %d",
                         request->count, session->spec.max_tokens);
    }
    TRY(check_tokens(session, request->tokens, request->count, error));
    for (int i = 0; request->targets && i < request->count; i++) {
        if (request->targets[i] != -1) TRY(check_tokens(session, request->targets + i, 1, error));
    }
    return session->backend->ops->score(session, request, error);
}

enum status backend_probe(struct backend *backend, const struct probe *probe, double *seconds,
                          struct error *error) {
    return backend->ops->probe(backend, probe, seconds, error);
}
