#include "measure/calibrate.h"

#include "base/clock.h"
#include "measure/cache.h"
#include "measure/machine_json.h"
#include "measure/prompts.h"
#include "measure/run.h"
#include "measure/stats.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    ROW_PROMPT = 8,
    ROW_GEN = 9,
    ROW_STEPS = ROW_GEN - 1,
    MOST_RUNS = 100,
    MOST_FUSED_ROWS = 256,
    MOST_PREFILL_ROWS = 128
};
static const double enough_seconds = 1; // of runs, unless there is only one

// ---- the runs of one row
// -------------------------------------------------------------------------------------------

struct row_times {
    double prefill, step; // seconds
};

static int compare_floats(const void *a, const void *b) {
    const float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static double median_step(float *step_ms) {
    qsort(step_ms, ROW_STEPS, sizeof *step_ms, compare_floats);
    return (double)step_ms[ROW_STEPS / 2] / 1e3;
}

// Medians over several runs, of each the median step: what will be measured is a median too, on the same
// machine with whatever else it has to do.
static enum status repeat_run(struct run *run, struct row_times *median, struct error *error) {
    double prefills[MOST_RUNS], steps[MOST_RUNS];
    int count = 0;
    TRY(run_generate(run, error)); // warm-up
    double start = clock_seconds();
    while (count < MOST_RUNS && (count == 0 || clock_seconds() - start < enough_seconds)) {
        TRY(run_generate(run, error));
        prefills[count] = run->prefill_seconds;
        steps[count++] = run->step_ms ? median_step(run->step_ms) : run->decode_seconds / ROW_STEPS;
    }
    *median = (struct row_times){stats_percentile(prefills, count, 50), stats_percentile(steps, count, 50)};
    return STATUS_OK;
}

// Steps are timed one by one, but for the persistent kernel: timed, each would have a start and an end of its
// own.
static enum status time_rows(struct backend *backend, int rows, bool kv_cache, enum decode_path path,
                             struct row_times *times, struct error *error) {
    const struct session_spec spec = {.rows = rows,
                                      .max_tokens = ROW_PROMPT + ROW_GEN,
                                      .kv_cache = kv_cache,
                                      .decode_path = path,
                                      .time_steps = path != DECODE_PERSISTENT,
                                      .sampling = {.top_p = 1}};
    int32_t tokens[ROW_GEN * MOST_FUSED_ROWS];
    float step_ms[ROW_STEPS];
    struct pace pace = {0};
    struct prompt_batch prompt;
    struct session *session;
    TRY(prompts_draw(rows, ROW_PROMPT, backend_config(backend)->vocab, 0, &prompt, error));
    enum status status = session_open(backend, &spec, &session, error);
    if (status == STATUS_OK) {
        struct run run = {.session = session,
                          .prompts = &prompt,
                          .prompt_len = ROW_PROMPT,
                          .gen_len = ROW_GEN,
                          .pace = &pace,
                          .interrupt = backend->options.interrupt,
                          .step_ms = spec.time_steps ? step_ms : NULL,
                          .tokens = tokens};
        status = repeat_run(&run, times, error);
    }
    session_close(session);
    prompts_free(&prompt);
    return status;
}

// The most rows, as powers of two, that the backend's own kernels decode when it may choose: up to
// persistent_rows the persistent one, beyond these up to fused_rows the fused ones; 0: none.
static enum status find_own_rows(struct backend *backend, struct machine *machine, struct error *error) {
    struct session_spec spec = {
        .max_tokens = ROW_PROMPT + ROW_GEN, .kv_cache = true, .sampling = {.top_p = 1}};
    machine->persistent_rows = machine->fused_rows = 0;
    for (spec.rows = 1; spec.rows <= MOST_FUSED_ROWS; spec.rows *= 2) {
        struct session *session;
        TRY(session_open(backend, &spec, &session, error));
        const char *path = session_decode_path(session);
        bool persistent = strcmp(path, "persistent") == 0, fused = strcmp(path, "fused") == 0;
        session_close(session);
        if (!persistent && !fused) break;
        if (persistent) machine->persistent_rows = spec.rows;
        if (fused) machine->fused_rows = spec.rows;
    }
    return STATUS_OK;
}

// ---- large passes

// Median seconds of the prefill of `rows` rows of `prompt_len` tokens.
static enum status time_prefill(struct backend *backend, int rows, int prompt_len, double *seconds,
                                struct error *error) {
    const struct session_spec spec = {
        .rows = rows, .max_tokens = prompt_len + 1, .kv_cache = true, .sampling = {.top_p = 1}};
    int32_t tokens[MOST_PREFILL_ROWS];
    struct pace pace = {0};
    struct prompt_batch prompts;
    struct session *session;
    TRY(prompts_draw(rows, prompt_len, backend_config(backend)->vocab, 0, &prompts, error));
    enum status status = session_open(backend, &spec, &session, error);
    if (status == STATUS_OK) {
        struct run run = {.session = session,
                          .prompts = &prompts,
                          .prompt_len = prompt_len,
                          .gen_len = 1,
                          .pace = &pace,
                          .interrupt = backend->options.interrupt,
                          .tokens = tokens};
        struct row_times median;
        status = repeat_run(&run, &median, error);
        *seconds = median.prefill;
    }
    session_close(session);
    prompts_free(&prompts);
    return status;
}

// flop / s of the engine where there is much to compute, with all that goes with it: from the difference of
// two prefills, in which fixed times cancel. A device so quick that these wait for their starts gets larger
// ones.
static enum status measure_rate(struct backend *backend, double *rate, struct error *error) {
    const struct gpt2_config *config = backend_config(backend);
    const int prompt_len = config->context > 64 ? 64 : config->context - 1;
    const double quick = 0.02; // seconds
    int rows[2] = {2, 8};
    double seconds[2];
    TRY(time_prefill(backend, rows[1], prompt_len, &seconds[1], error));
    if (seconds[1] < quick) {
        rows[0] = 32;
        rows[1] = MOST_PREFILL_ROWS;
        TRY(time_prefill(backend, rows[1], prompt_len, &seconds[1], error));
    }
    TRY(time_prefill(backend, rows[0], prompt_len, &seconds[0], error));
    double flop[2];
    for (int i = 0; i < 2; i++) {
        const struct generation_shape shape = {.config = config,
                                               .dtype = backend_dtype(backend),
                                               .kv_cache = true,
                                               .batch = rows[i],
                                               .prompt_len = prompt_len,
                                               .gen_len = 1};
        flop[i] = roofline_prefill(&shape).flop;
    }
    const bool grows = seconds[1] > seconds[0]; // not so beside much noise
    *rate = grows ? (flop[1] - flop[0]) / (seconds[1] - seconds[0]) : flop[1] / seconds[1];
    return STATUS_OK;
}

// ---- the model of time
// ---------------------------------------------------------------------------------------------

static double mean_step_work(const struct machine *machine, const struct generation_shape *shape) {
    double work = 0;
    for (int step = 1; step <= ROW_STEPS; step++) work += predict_step_work(machine, shape, step) / ROW_STEPS;
    return work;
}

// A path's line in the machine: its most rows (0: none), and the fixed times of one row and of so many.
struct path_line {
    enum decode_path path;
    double rows, *step, *last_step;
};

static enum status calibrate_path(struct backend *backend, struct generation_shape shape,
                                  const struct machine *machine, const struct path_line *line,
                                  struct error *error) {
    if (line->rows == 0) return STATUS_OK;
    const int rows[2] = {1, (int)line->rows};
    double *const fixed[2] = {line->step, line->last_step};
    for (int i = 0; i < 2; i++) {
        struct row_times times;
        TRY(time_rows(backend, rows[i], true, line->path, &times, error));
        shape.batch = rows[i];
        *fixed[i] = fmax(0, times.step - mean_step_work(machine, &shape));
    }
    return STATUS_OK;
}

static enum status calibrate_own_paths(struct backend *backend, const struct generation_shape *row,
                                       struct machine *machine, struct error *error) {
    const struct path_line persistent = {DECODE_PERSISTENT, machine->persistent_rows,
                                         &machine->persistent_step, &machine->persistent_last_step};
    const struct path_line fused = {DECODE_FUSED, machine->fused_rows, &machine->fused_step,
                                    &machine->fused_last_step};
    TRY(calibrate_path(backend, *row, machine, &persistent, error));
    return calibrate_path(backend, *row, machine, &fused, error);
}

enum status calibrate(struct backend *backend, const struct ceilings *ceilings, struct machine *machine,
                      struct error *error) {
    struct device_info device;
    struct row_times cached, uncached;
    const struct gpt2_config *config = backend_config(backend);
    struct generation_shape row = {.config = config,
                                   .dtype = backend_dtype(backend),
                                   .kv_cache = true,
                                   .batch = 1,
                                   .prompt_len = ROW_PROMPT,
                                   .gen_len = ROW_GEN};
    TRY(device_describe(backend_device(backend), &device, error));
    *machine = machine_of_ceilings(ceilings, config, (double)device.cache_bytes);
    if (config->context < ROW_PROMPT + ROW_GEN) return STATUS_OK;
    TRY(find_own_rows(backend, machine, error));
    TRY(time_rows(backend, 1, true, DECODE_GRAPH, &cached, error));
    TRY(time_rows(backend, 1, false, DECODE_AUTO, &uncached, error));
    enum status status = measure_rate(backend, &machine->rate, error);
    if (status != STATUS_OK && status != STATUS_OUT_OF_MEMORY)
        return status; // without room, the ceilings' rate stays
    if (mean_step_work(machine, &row) > cached.step)
        machine->bandwidth = fmax(machine->bandwidth, roofline_mean_step(&row).bytes / cached.step);
    machine->cached_step = fmax(0, cached.step - mean_step_work(machine, &row));
    machine->prefill = fmax(0, cached.prefill - predict_prefill_work(machine, &row));
    row.kv_cache = false;
    machine->uncached_step = fmax(0, uncached.step - mean_step_work(machine, &row));
    row.kv_cache = true;
    return calibrate_own_paths(backend, &row, machine, error);
}

// ---- remembered

static bool read_machine(const json_t *stored, void *value, struct error *note) {
    struct machine *machine = value;
    return machine_read(stored, machine, note) == STATUS_OK && machine->rate > 0;
}

static json_t *write_machine(const void *value) {
    return machine_json(value);
}

static enum status make_machine(struct backend *backend, const void *ceilings, void *value,
                                struct error *error) {
    return calibrate(backend, ceilings, value, error);
}

enum status calibrate_get(struct backend *backend, const struct ceilings *ceilings, bool refresh,
                          struct machine *machine, struct error *note, struct error *error) {
    static const struct cache_finding finding = {"calibration", read_machine, write_machine, make_machine};
    const struct gpt2_config *config = backend_config(backend);
    char shape[128];
    json_t *key;
    snprintf(shape, sizeof shape, "L%d-C%d-F%d-H%d-V%d-T%d", config->layers, config->channels, config->inner,
             config->heads, config->vocab, config->context);
    note->message[0] = '\0'; // read also where this fails
    TRY(cache_backend_key(backend, &key, error));
    enum status status = json_object_set_new(key, "model", json_string(shape)) == 0
                             ? cache_find(&finding, key, backend, ceilings, refresh, machine, note, error)
                             : error_set(error, STATUS_OUT_OF_MEMORY, "no host memory for a cache key");
    json_decref(key);
    return status;
}
