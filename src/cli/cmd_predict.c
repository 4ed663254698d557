// predict: the curve to expect, of devices one may not have or of the present one before it is measured.
#include "base/output_file.h"
#include "cli/commands.h"
#include "cli/progress.h"
#include "cli/setup.h"
#include "measure/calibrate.h"
#include "measure/ceilings.h"
#include "measure/device_specs.h"
#include "measure/predict_report.h"

#include <inttypes.h>
#include <stb/stb_ds.h>
#include <string.h>

// ---- devices by name
// -------------------------------------------------------------------------------------------------

static enum status unknown_spec(const char *name, int length, struct error *error) {
    char names[256] = "";
    for (size_t i = 0; i < device_spec_count; i++) {
        size_t used = strlen(names);
        snprintf(names + used, sizeof names - used, "%s%s", used ? ", " : "", device_specs[i].name);
    }
    return error_set(error, STATUS_USAGE, "--device-spec: expected names from %s, found \"%.*s\"", names,
                     length, name);
}

static enum status choose_dtype(const struct options *options, const struct device_spec *spec,
                                enum dtype *dtype, struct error *error) {
    static const enum dtype dtypes[] = {
        [DTYPE_CHOICE_F32] = DTYPE_F32, [DTYPE_CHOICE_F16] = DTYPE_F16, [DTYPE_CHOICE_BF16] = DTYPE_BF16};
    *dtype = options->dtype == DTYPE_CHOICE_AUTO ? spec->fastest_dtype : dtypes[options->dtype];
    if (spec->dtypes & 1u << *dtype) return STATUS_OK;
    return error_set(error, STATUS_USAGE, "--dtype %s: %s does not compute in it", dtype_name(*dtype),
                     spec->title);
}

static enum status add_specs(const struct options *options, const struct gpt2_config *config,
                             struct predicted_device **devices, struct error *error) {
    for (const char *name = options->device_spec;; name++) {
        size_t length = strcspn(name, ",");
        const struct device_spec *spec = device_spec_find(name, length);
        if (!spec) return unknown_spec(name, (int)(length < 64 ? length : 64), error);
        struct predicted_device device = {.name = spec->title, .memory_bytes = spec->memory_bytes};
        TRY(choose_dtype(options, spec, &device.dtype, error));
        device.machine = device_spec_machine(spec, config, device.dtype, options->efficiency / 100);
        arrput(*devices, device);
        name += length;
        if (*name == '\0') return STATUS_OK;
    }
}

// ---- the present device
// ---------------------------------------------------------------------------------------------

// Time does not depend on the weights' values: without them, random ones of the same shape will do.
static enum status open_device(struct options *options, const struct gpt2_config *config,
                               const volatile sig_atomic_t *interrupt, struct setup *setup,
                               struct error *error) {
    char shape[96];
    if (setup_open_model(options, MODEL_RANDOM, setup, error) != STATUS_OK) {
        snprintf(shape, sizeof shape, "random:L%d-C%d-H%d-V%d-T%d", config->layers, config->channels,
                 config->heads, config->vocab, config->context);
        setup_note(options, "note: the weights cannot be read, the device is timed with %s", shape);
        options->model = shape;
        TRY(setup_open_model(options, MODEL_RANDOM, setup, error));
    }
    return setup_open_backend(options, interrupt, setup, error);
}

static enum status time_device(const struct options *options, struct setup *setup,
                               struct predicted_device *device, struct error *error) {
    struct progress progress;
    struct error notes[2] = {{.message = ""}, {.message = ""}};
    struct ceilings ceilings;
    progress_start(&progress, options->quiet, true);
    progress_update(&progress, "ceilings of the device, runs of one row", -1, -1);
    enum status status = ceilings_get(setup->backend, options->refresh, &ceilings, &notes[0], error);
    if (status == STATUS_OK)
        status =
            calibrate_get(setup->backend, &ceilings, options->refresh, &device->machine, &notes[1], error);
    progress_clear(&progress);
    for (int i = 0; i < 2; i++) {
        if (notes[i].message[0]) setup_note(options, "note: %s", notes[i].message);
    }
    device->name = setup->info.name;
    device->dtype = backend_dtype(setup->backend);
    device->memory_bytes = (double)setup->info.memory_free;
    return status;
}

static enum status add_present(const struct options *options, const struct gpt2_config *config,
                               const volatile sig_atomic_t *interrupt, struct setup *setup,
                               struct predicted_device **devices, struct error *error) {
    if (options->efficiency > 0)
        return error_set(error, STATUS_USAGE,
                         "--matmul-efficiency: the present device's is measured; it goes with --device-spec");
    struct options again = *options; // without the model that cannot be opened
    struct predicted_device device = {0};
    TRY(open_device(&again, config, interrupt, setup, error));
    TRY(time_device(options, setup, &device, error));
    arrput(*devices, device);
    return STATUS_OK;
}

// ---- the curve
// -------------------------------------------------------------------------------------------------------

static enum status check_lengths(const struct options *options, const struct gpt2_config *config,
                                 struct error *error) {
    int64_t longest = (int64_t)options->prompt_len + options->gen_len;
    if (longest <= config->context) return STATUS_OK;
    return error_set(error, STATUS_USAGE,
                     "--prompt-len %d and --gen-len %d: rows of %" PRId64
                     " tokens are more than the model's context of %d",
                     options->prompt_len, options->gen_len, longest, config->context);
}

static enum status write_curve(const struct options *options, const char *model,
                               const struct gpt2_config *config, struct predicted_device *devices,
                               struct output_file *output, struct error *error) {
    const struct predicted_curve curve = {
        .model = model,
        .config = config,
        .prompt_len = options->prompt_len,
        .gen_len = options->gen_len,
        .logits = options->logits == LOGITS_CHOICE_ALL ? LOGITS_ALL : LOGITS_LAST,
        .batches = options->batches,
        .batch_count = (int)arrlen(options->batches),
        .cached = options->kvcache != KVCACHE_OFF,
        .uncached = options->kvcache != KVCACHE_ON,
        .devices = devices,
        .device_count = (int)arrlen(devices),
    };
    for (ptrdiff_t i = 0; i < arrlen(devices); i++) devices[i].machine.host = options->host_overhead_us / 1e6;
    TRY(predict_report_write(&curve, setup_report_format(options), output->stream, error));
    return output_file_commit(output, error);
}

enum status cmd_predict(const struct options *options, const volatile sig_atomic_t *interrupt,
                        struct error *error) {
    const char *model = setup_model_name(options, MODEL_RANDOM);
    struct predicted_device *devices = NULL;
    struct setup setup = {0};
    struct gpt2_config config;
    struct output_file output;
    TRY(model_read_config(model, &config, error));
    TRY(check_lengths(options, &config, error));
    TRY(output_file_open(options->output_file, &output, error));
    enum status status = options->device_spec
                             ? add_specs(options, &config, &devices, error)
                             : add_present(options, &config, interrupt, &setup, &devices, error);
    if (status == STATUS_OK) status = write_curve(options, model, &config, devices, &output, error);
    output_file_discard(&output);
    arrfree(devices);
    setup_close(&setup);
    return status;
}
