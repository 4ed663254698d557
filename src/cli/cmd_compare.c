// compare: two records that bench wrote, row by row; the judging is in src/measure.
#include "base/output_file.h"
#include "cli/commands.h"
#include "cli/setup.h"
#include "measure/compare.h"
#include "measure/compare_report.h"

static enum status write_report(const struct options *options, const struct comparison *comparison,
                                struct error *error) {
    struct output_file output;
    TRY(output_file_open(options->output_file, &output, error));
    enum status status = compare_write(comparison, setup_report_format(options), output.stream, error);
    if (status == STATUS_OK) status = output_file_commit(&output, error);
    output_file_discard(&output);
    return status;
}

static enum status compare(const struct options *options, struct comparison *comparison,
                           struct error *error) {
    TRY(compare_records(comparison, error));
    if (!comparison->same_device)
        setup_note(options, "note: the devices differ: old %s, new %s", comparison->before->device.name,
                   comparison->after->device.name);
    TRY(write_report(options, comparison, error));
    int slower = comparison->counts[VERDICT_SLOWER];
    if (!options->fail_on_regression || slower == 0) return STATUS_OK;
    return error_set(error, STATUS_REGRESSION, "%d row%s slower than in %s", slower,
                     slower == 1 ? " is" : "s are", comparison->before_name);
}

enum status cmd_compare(const struct options *options, const volatile sig_atomic_t *interrupt,
                        struct error *error) {
    (void)interrupt; // nothing here takes long
    struct bench_record before, after;
    TRY(record_read(options->arguments[0], &before, error));
    enum status status = record_read(options->arguments[1], &after, error);
    if (status == STATUS_OK) {
        struct comparison comparison = {.before = &before,
                                        .after = &after,
                                        .before_name = options->arguments[0],
                                        .after_name = options->arguments[1],
                                        .threshold = options->threshold_percent / 100};
        status = compare(options, &comparison, error);
        compare_clear(&comparison);
    }
    record_clear(&after);
    record_clear(&before);
    return status;
}
