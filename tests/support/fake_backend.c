#include "tests/support/fake_backend.h"

#include <stdlib.h>
#include <string.h>

struct fake_session {
    struct session base;
    int32_t *seeds; // (B) first prompt token of each row
    int *lengths;   // (B) at the start of the last prefill or decode
    int produced;   // steps of the last prefill or decode
    bool other;     // this run drifts
};

static struct fake_backend *fake_of(const struct backend *backend) {
    return (struct fake_backend *)backend;
}

static struct fake_backend *described; // devices are described by their number alone

static int32_t usual_token(int vocab, int32_t seed, int length) {
    return (seed * 31 + length * 7) % vocab;
}

static void pass_time(struct fake_backend *fake, double seconds) {
    fake->now += seconds;
    if (fake->stop_at > 0 && fake->now >= fake->stop_at) fake->interrupt = 1;
}

static int fake_device_count(void) {
    return 1;
}

static enum status fake_describe(int index, struct device_info *info, struct error *error) {
    (void)error;
    *info = (struct device_info){.backend = "fake",
                                 .name = "made-up device",
                                 .detail = "no detail",
                                 .index = index,
                                 .compute_units = 1,
                                 .memory_bytes = described->capacity,
                                 .memory_free = described->capacity - described->used,
                                 .dtypes = 1u << DTYPE_F32};
    return STATUS_OK;
}

static void fake_ledger(const struct backend *backend, const struct session_spec *spec,
                        struct memory_ledger *ledger) {
    const struct fake_backend *fake = fake_of(backend);
    int64_t row_bytes = fake->ledger_row_bytes > 0 ? fake->ledger_row_bytes : fake->row_bytes;
    ledger->activations = row_bytes * spec->rows;
    ledger->free = fake->capacity - fake->used;
}

static const char *fake_decode_path(const struct session *session) {
    const struct fake_backend *fake = fake_of(session->backend);
    const struct session_spec *spec = &session->spec;
    if (!spec->kv_cache || (fake->persistent_rows == 0 && fake->fused_rows == 0)) return "";
    if (spec->decode_path == DECODE_PERSISTENT) return "persistent";
    if (spec->decode_path == DECODE_FUSED) return "fused";
    if (spec->decode_path == DECODE_GRAPH) return "graph";
    if (spec->rows <= fake->persistent_rows) return "persistent";
    return spec->rows <= fake->fused_rows ? "fused" : "graph";
}

static double cached_step_seconds(const struct session *session) {
    const struct fake_backend *fake = fake_of(session->backend);
    const char *path = fake_decode_path(session);
    double seconds = fake->step_seconds;
    if (strcmp(path, "persistent") == 0) seconds = fake->persistent_step_seconds;
    if (strcmp(path, "fused") == 0) seconds = fake->fused_step_seconds;
    return seconds + fake->row_step_seconds * session->spec.rows;
}

static enum status fake_session_open(struct backend *backend, const struct session *base,
                                     struct session **session, struct error *error) {
    struct fake_backend *fake = fake_of(backend);
    int64_t bytes = fake->row_bytes * base->spec.rows;
    if (base->spec.rows == fake->failing_rows) return error_set(error, STATUS_FAILED, "the device fell over");
    if (bytes > fake->capacity - fake->used)
        return error_set(error, STATUS_OUT_OF_MEMORY, "%d rows do not fit\n  the ledger", base->spec.rows);
    struct fake_session *opened = calloc(1, sizeof *opened);
    opened->base = *base;
    opened->seeds = calloc((size_t)base->spec.rows, sizeof *opened->seeds);
    opened->lengths = calloc((size_t)base->spec.rows, sizeof *opened->lengths);
    fake->used += bytes;
    fake->open_sessions++;
    *session = &opened->base;
    return STATUS_OK;
}

static void fake_session_close(struct session *session) {
    struct fake_session *closed = (struct fake_session *)session;
    struct fake_backend *fake = fake_of(session->backend);
    fake->used -= fake->row_bytes * session->spec.rows;
    fake->open_sessions--;
    free(closed->seeds);
    free(closed->lengths);
    free(closed);
}

static enum status fake_prefill(struct session *session, const struct prompt_batch *prompts,
                                struct error *error) {
    struct fake_session *started = (struct fake_session *)session;
    struct fake_backend *fake = fake_of(session->backend);
    if (fake->prefills < (int)sizeof fake->order - 1)
        fake->order[fake->prefills] = session->spec.kv_cache ? 'c' : 'u';
    fake->prefills++;
    if (fake->prefills == fake->failing_prefill)
        return error_set(error, STATUS_FAILED, "the device fell over");
    started->other = fake->prefills == fake->drifting_prefill;
    started->produced = 1;
    const int32_t *tokens = prompts->tokens;
    for (int i = 0; i < prompts->count; i++) {
        started->seeds[prompts->rows[i]] = tokens[0];
        started->lengths[prompts->rows[i]] = prompts->lengths[i];
        tokens += prompts->lengths[i];
    }
    pass_time(fake, fake->prefill_seconds);
    return STATUS_OK;
}

static enum status fake_decode(struct session *session, int steps, struct error *error) {
    struct fake_session *decoded = (struct fake_session *)session;
    struct fake_backend *fake = fake_of(session->backend);
    fake->decodes++;
    for (int row = 0; row < session->spec.rows; row++) decoded->lengths[row] = session->lengths[row];
    decoded->produced = steps;
    bool before = fake->interrupt != 0;
    for (int step = 0; step < steps; step++) {
        double tokens = decoded->lengths[0] + step;
        pass_time(fake, session->spec.kv_cache ? cached_step_seconds(session)
                                               : fake->uncached_step_growth * tokens);
        if (fake->stop_inside_calls && fake->interrupt && !before)
            return error_set(error, STATUS_INTERRUPTED, "interrupted");
    }
    return STATUS_OK;
}

static enum status fake_collect(struct session *session, int32_t *tokens, struct error *error) {
    (void)error;
    const struct fake_session *collected = (const struct fake_session *)session;
    const struct fake_backend *fake = fake_of(session->backend);
    int rows = session->spec.rows, vocab = session->backend->config.vocab;
    for (int step = 0; step < collected->produced; step++) {
        for (int row = 0; row < rows; row++) {
            int length = collected->lengths[row] + step;
            bool parts = !session->spec.kv_cache && row == fake->uncached_parts_row &&
                         length >= fake->uncached_parts_position;
            int32_t token = usual_token(vocab, collected->seeds[row], length);
            tokens[(size_t)step * (size_t)rows + (size_t)row] = (token + (parts || collected->other)) % vocab;
        }
    }
    return STATUS_OK;
}

static enum status fake_retire(struct session *session, const int *rows, int count, struct error *error) {
    (void)session, (void)rows, (void)count, (void)error;
    return STATUS_OK;
}

static enum status fake_score(struct session *session, const struct score_request *request,
                              struct error *error) {
    (void)error;
    const struct fake_backend *fake = fake_of(session->backend);
    int vocab = session->backend->config.vocab;
    int32_t usual = usual_token(vocab, request->tokens[0], request->count);
    for (int v = 0; v < vocab; v++) request->last_logits[v] = 0;
    request->last_logits[usual] = 4;
    request->last_logits[(usual + 1) % vocab] = 4 - fake->logit_gap;
    return STATUS_OK;
}

static enum status fake_step_times(struct session *session, float *milliseconds, struct error *error) {
    (void)error;
    for (int i = 0; i < session->pending_steps; i++)
        milliseconds[i] = (float)(cached_step_seconds(session) * 1e3 * (i + 1));
    return STATUS_OK;
}

static enum status fake_probe(struct backend *backend, const struct probe *probe, double *seconds,
                              struct error *error) {
    const struct fake_backend *fake = fake_of(backend);
    double flop = 2.0 * probe->m * probe->n * probe->k;
    if (fake->failing_probe) return error_set(error, STATUS_FAILED, "the probe broke");
    switch (probe->kind) {
    case PROBE_READ:
        *seconds = (double)probe->bytes / fake->bandwidth;
        break;
    case PROBE_MATMUL:
        *seconds = 2 * flop / fake->matmul_rate;
        break;
    case PROBE_PEAK_MATMUL:
        *seconds = flop / fake->matmul_rate;
        break;
    case PROBE_LAUNCH:
        *seconds = fake->launch_seconds;
        break;
    }
    return STATUS_OK;
}

static const struct backend_ops fake_ops = {.name = "fake",
                                            .device_count = fake_device_count,
                                            .describe = fake_describe,
                                            .ledger = fake_ledger,
                                            .session_open = fake_session_open,
                                            .session_close = fake_session_close,
                                            .prefill = fake_prefill,
                                            .decode = fake_decode,
                                            .collect = fake_collect,
                                            .retire = fake_retire,
                                            .step_times = fake_step_times,
                                            .decode_path = fake_decode_path,
                                            .score = fake_score,
                                            .probe = fake_probe};

void fake_backend_init(struct fake_backend *fake) {
    memset(fake, 0, sizeof *fake);
    described = fake;
    fake->base.ops = &fake_ops;
    fake->base.config = (struct gpt2_config){
        .context = 1024, .vocab = 97, .layers = 1, .heads = 1, .channels = 2, .inner = 8, .eos_token = -1};
    fake->base.options = (struct backend_options){.dtype = DTYPE_F32};
    fake->now = 1000;
    fake->prefill_seconds = 0.002;
    fake->step_seconds = 0.001;
    fake->uncached_step_growth = 0.0001;
    fake->bandwidth = 1e9;
    fake->matmul_rate = 1e12;
    fake->launch_seconds = 1e-6;
    fake->row_bytes = 10;
    fake->capacity = 80;
    fake->uncached_parts_row = -1;
}
