#define _XOPEN_SOURCE 700 // newlocale
#include "cli/plotting.h"

#include "measure/plot.h"

#include <langinfo.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>

enum { NARROWEST = 40, WIDEST = 200, USUAL = 80 };

// What the environment says, without changing how this program writes numbers.
static bool locale_is_unicode(void) {
    locale_t locale = newlocale(LC_CTYPE_MASK, "", (locale_t)0);
    if (locale == (locale_t)0) return false;
    bool unicode = strcmp(nl_langinfo_l(CODESET, locale), "UTF-8") == 0;
    freelocale(locale);
    return unicode;
}

static struct plot_terminal describe_terminal(void) {
    const char *columns = getenv("COLUMNS");
    long width = columns ? strtol(columns, NULL, 10) : 0;
    if (width <= 0) width = USUAL;
    if (width < NARROWEST) width = NARROWEST;
    if (width > WIDEST) width = WIDEST;
    return (struct plot_terminal){(int)width, locale_is_unicode()};
}

enum status plotting_open(const struct options *options, const struct output_file *report,
                          struct plotting *plotting, struct error *error) {
    *plotting = (struct plotting){0};
    if (options->reference == REFERENCE_PUBLISHED_A100) plotting->reference = &reference_published_a100;
    if (plotting->reference && !options->plot && options->format != FORMAT_TABLE &&
        options->format != FORMAT_MARKDOWN)
        return error_set(error, STATUS_USAGE,
                         "--reference: expected --format table or markdown, or --plot, to show it in");
    if (!options->plot) return STATUS_OK;
    plotting->text = strcmp(options->plot, "-") == 0;
    if (plotting->text && options->format != FORMAT_TABLE)
        return error_set(error, STATUS_USAGE,
                         "--plot -: draws below a table; with another --format expected a file");
    if (plotting->text) return STATUS_OK;
    TRY(output_file_open(options->plot, &plotting->picture, error));
    // Whether they are links or not: what they lead to.
    if (report->path && strcmp(report->path, plotting->picture.path) == 0 && report->temporary)
        return error_set(error, STATUS_USAGE, "--plot and --output-file name the same file, %s",
                         options->plot);
    return STATUS_OK;
}

enum status plotting_write_text(const struct plotting *plotting, const struct bench_record *record,
                                FILE *report, struct error *error) {
    if (!plotting->text) return STATUS_OK;
    const struct plot_terminal terminal = describe_terminal();
    return plot_write_text(record, plotting->reference, &terminal, report, error);
}

enum status plotting_write_picture(struct plotting *plotting, const struct bench_record *record,
                                   struct error *error) {
    if (!plotting->picture.stream) return STATUS_OK;
    TRY(plot_write_svg(record, plotting->reference, plotting->picture.stream, error));
    return output_file_commit(&plotting->picture, error);
}

void plotting_discard(struct plotting *plotting) {
    output_file_discard(&plotting->picture);
}
