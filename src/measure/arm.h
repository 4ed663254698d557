// One arm of a point: the session of one batch size with the KV cache on or off, its warm-up, its repetitions
// and the row they fill.
#ifndef MEASURE_ARM_H
#define MEASURE_ARM_H

#include "measure/bench.h"
#include "measure/run.h"

struct arm;

// What both arms of a point share.
struct arm_setting {
    struct backend *backend;
    const struct bench_options *options;
    const struct prompt_batch *prompts;
    struct telemetry *telemetry; // may be NULL
    void (*progress)(void *context, enum bench_phase phase, const struct arm *arm, int done);
    void *progress_context;
};

struct arm {
    struct bench_row *row; // batch and kv_cache are filled, the status is ROW_SKIPPED
    struct session *session;
    bool time_steps; // the session is opened to note the device's time of each step
    bool warm;       // the open session has run before
    bool ended;      // failed, did not fit or was interrupted: the row says why, the session is closed
    struct pace pace;
    int32_t *reference;              // (gen_len, B) tokens of the first repetition
    int32_t *tokens;                 // (gen_len, B) of the one running
    double *prefills;                // seconds of each repetition, stb_ds array
    double *decodes;                 // likewise
    struct sensor_reading *readings; // during the repetitions, stb_ds array
    float *step_ms;                  // (gen_len - 1) of the second pass; NULL before
    int reps_wanted;
};

// Opens the session, if it is closed. STATUS_OUT_OF_MEMORY is for the caller to judge and leaves the arm as
// it was; another failure ends the arm.
CHECKED enum status arm_open(struct arm *arm, const struct arm_setting *setting, struct error *error);
void arm_close(struct arm *arm);

// Ends the arm for a reason other than interruption and says it in the row.
void arm_fail(struct arm *arm, enum status status, const struct error *error);

// Opens the session and warms it up where that has not been done, then times one run. What goes wrong ends
// the arm; only STATUS_INTERRUPTED is returned besides STATUS_OK.
CHECKED enum status arm_repeat(struct arm *arm, const struct arm_setting *setting, struct error *error);

// The second pass: one run, after one to warm up, that notes what each step took. Does nothing for an arm
// that ended, has no steps, or whose run is long. Statuses as arm_repeat.
CHECKED enum status arm_time_steps(struct arm *arm, const struct arm_setting *setting, struct error *error);

int arm_reps_done(const struct arm *arm);
// Estimated seconds of a whole run; < 0: not known yet.
double arm_run_seconds(const struct arm *arm, const struct bench_options *options);

// Closes the session and turns the repetitions into the row's figures.
void arm_finish(struct arm *arm, const struct bench_options *options);
void arm_free(struct arm *arm);

#endif
