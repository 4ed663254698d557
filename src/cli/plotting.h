// --plot and --reference, for the commands that have them.
#ifndef CLI_PLOTTING_H
#define CLI_PLOTTING_H

#include "base/output_file.h"
#include "cli/options.h"
#include "measure/record.h"
#include "measure/reference.h"

struct plotting {
    const struct reference *reference; // NULL: none
    bool text;                         // drawn as text, below the report
    struct output_file picture;        // stream NULL: none wanted
};

// Refuses what cannot be and creates the picture's file, before the work that it is to show. `report` is
// where the report goes. The caller discards, whatever comes.
CHECKED enum status plotting_open(const struct options *options, const struct output_file *report,
                                  struct plotting *plotting, struct error *error);
// Each writes what was asked for. The text is part of the report; the picture comes after the report was
// committed, which then is not lost with it.
CHECKED enum status plotting_write_text(const struct plotting *plotting, const struct bench_record *record,
                                        FILE *report, struct error *error);
CHECKED enum status plotting_write_picture(struct plotting *plotting, const struct bench_record *record,
                                           struct error *error);
void plotting_discard(struct plotting *plotting);

#endif
