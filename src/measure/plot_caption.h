// The words around a plot.
#ifndef MEASURE_PLOT_CAPTION_H
#define MEASURE_PLOT_CAPTION_H

#include "measure/plot_data.h"

struct plot_caption {
    char *title, *subtitle;
    char *notes; // paragraphs, each ended by a line break
};

// All text is clean (plot_label.h). The caller frees, also after a failure.
CHECKED enum status plot_caption_make(const struct bench_record *record, const struct reference *reference,
                                      const struct plot_data *data, struct plot_caption *caption,
                                      struct error *error);
void plot_caption_free(struct plot_caption *caption);

#endif
