#include "measure/measure_device.h"

#include "base/clock.h"
#include "measure/ceilings.h"
#include "measure/prompts.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double decode_seconds = 2; // about so long is decode measured

static enum status go_on(const struct device_measurement_options *options, int *done, struct error *error) {
    const int probes = 2 + MEASURED_SHAPES * MEASURED_ROWS;
    if (options->interrupt && *options->interrupt) return error_set(error, STATUS_INTERRUPTED, "interrupted");
    if (options->progress) options->progress(options->progress_context, *done, probes);
    ++*done;
    return STATUS_OK;
}

static void name_shapes(struct device_measurement *measurement, const struct gpt2_config *config) {
    static const int rows[MEASURED_ROWS] = {1, 2, 4, 8, 16, 32, 64, 1024};
    const int C = config->channels, F = config->inner;
    const struct measured_shape shapes[MEASURED_SHAPES] = {{.name = "qkv", .n = 3 * C, .k = C},
                                                           {.name = "attproj", .n = C, .k = C},
                                                           {.name = "fc", .n = F, .k = C},
                                                           {.name = "fcproj", .n = C, .k = F},
                                                           {.name = "lm head", .n = config->vocab, .k = C}};
    memcpy(measurement->rows, rows, sizeof rows);
    memcpy(measurement->shapes, shapes, sizeof shapes);
}

static enum status measure_shape(struct backend *backend, const struct device_measurement *measurement,
                                 struct measured_shape *shape, int i, struct error *error) {
    const double m = measurement->rows[i], n = shape->n, k = shape->k;
    const struct probe probe = {
        .kind = PROBE_MATMUL, .m = measurement->rows[i], .n = shape->n, .k = shape->k};
    TRY(backend_probe(backend, &probe, &shape->seconds[i], error));
    const struct cost cost = {.flop = 2 * m * n * k,
                              .bytes = (n * k + m * k + m * n) * (double)dtype_size(measurement->dtype)};
    const struct ceilings *ceilings = &measurement->ceilings;
    double least = fmax(cost.bytes / ceilings->bandwidth, cost.flop / ceilings->matmul_rate);
    shape->share[i] = least / shape->seconds[i];
    return STATUS_OK;
}

// One call of so many steps as the first ones suggest.
static enum status decode_one_row(struct session *session, const struct prompt_batch *prompt, int32_t *tokens,
                                  struct device_measurement *measurement, struct error *error) {
    const int warm_up = 4;
    int most = session_spec_of(session)->max_tokens - prompt->lengths[0] - 1 - warm_up;
    TRY(session_prefill(session, prompt, error));
    TRY(session_decode(session, warm_up - 1, error));
    TRY(session_collect(session, tokens, error));
    double start = clock_seconds();
    TRY(session_decode(session, 1, error));
    TRY(session_collect(session, tokens, error));
    double step = clock_seconds() - start;
    int steps = step * most <= decode_seconds ? most : (int)(decode_seconds / step);
    if (steps < 1) steps = 1;
    start = clock_seconds();
    TRY(session_decode(session, steps, error));
    TRY(session_collect(session, tokens, error));
    measurement->decode_steps = steps;
    measurement->decode_ms_per_step = (clock_seconds() - start) * 1e3 / steps;
    return STATUS_OK;
}

static enum status measure_decode(struct backend *backend, struct device_measurement *measurement,
                                  struct error *error) {
    const struct gpt2_config *config = backend_config(backend);
    const int most_tokens = 256, prompt_len = 1, least_tokens = 8;
    const struct session_spec spec = {.rows = 1,
                                      .max_tokens =
                                          config->context < most_tokens ? config->context : most_tokens,
                                      .kv_cache = true,
                                      .sampling = {.top_p = 1}};
    if (spec.max_tokens < least_tokens) return STATUS_OK; // too short a context to tell anything
    struct prompt_batch prompt;
    struct session *session = NULL;
    int32_t *tokens = malloc((size_t)most_tokens * sizeof *tokens);
    if (!tokens) return error_set(error, STATUS_OUT_OF_MEMORY, "no host memory for %d tokens", most_tokens);
    enum status status = prompts_draw(1, prompt_len, config->vocab, 0, &prompt, error);
    if (status == STATUS_OK) status = session_open(backend, &spec, &session, error);
    if (status == STATUS_OK) status = decode_one_row(session, &prompt, tokens, measurement, error);
    session_close(session);
    prompts_free(&prompt);
    free(tokens);
    if (status != STATUS_OK) return status;
    double bytes_per_s =
        roofline_weight_bytes(config, measurement->dtype) / (measurement->decode_ms_per_step / 1e3);
    measurement->decode_share = bytes_per_s / measurement->ceilings.bandwidth;
    return STATUS_OK;
}

enum status measure_device(struct backend *backend, const struct device_measurement_options *options,
                           struct device_measurement *measurement, struct error *error) {
    memset(measurement, 0, sizeof *measurement);
    int done = 0;
    TRY(device_describe(backend_device(backend), &measurement->device, error));
    measurement->dtype = backend_dtype(backend);
    name_shapes(measurement, backend_config(backend));
    TRY(go_on(options, &done, error));
    TRY(ceilings_measure(backend, &measurement->ceilings, error));
    TRY(go_on(options, &done, error));
    TRY(measure_decode(backend, measurement, error));
    for (int s = 0; s < MEASURED_SHAPES; s++) {
        for (int i = 0; i < MEASURED_ROWS; i++) {
            TRY(go_on(options, &done, error));
            TRY(measure_shape(backend, measurement, &measurement->shapes[s], i, error));
        }
    }
    return STATUS_OK;
}
