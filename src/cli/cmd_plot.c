// plot: the picture of a saved record, without measuring again.
#include "cli/commands.h"
#include "cli/plotting.h"

static enum status plot_record(const struct bench_record *record, const struct options *options,
                               struct output_file *output, struct error *error) {
    struct plotting plotting;
    enum status status = plotting_open(options, output, &plotting, error);
    if (status == STATUS_OK) status = plotting_write_text(&plotting, record, output->stream, error);
    if (status == STATUS_OK) status = plotting_write_picture(&plotting, record, error);
    plotting_discard(&plotting);
    return status;
}

enum status cmd_plot(const struct options *options, const volatile sig_atomic_t *interrupt,
                     struct error *error) {
    (void)interrupt; // it takes no time
    struct bench_record record;
    struct output_file output;
    TRY(record_read(options->arguments[0], &record, error));
    enum status status = output_file_open(NULL, &output, error);
    if (status == STATUS_OK) status = plot_record(&record, options, &output, error);
    output_file_discard(&output);
    record_clear(&record);
    return status;
}
