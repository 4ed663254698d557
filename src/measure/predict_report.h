// The curve that the model of time expects of some devices, in every format of a report.
#ifndef MEASURE_PREDICT_REPORT_H
#define MEASURE_PREDICT_REPORT_H

#include "measure/predict.h"
#include "measure/report.h"

struct predicted_device {
    const char *name;
    struct machine machine;
    enum dtype dtype;
    double memory_bytes; // what a generation may take
};

struct predicted_curve {
    const char *model; // as the user named it
    const struct gpt2_config *config;
    int prompt_len, gen_len;
    enum logits_mode logits;
    const int *batches; // (batch_count)
    int batch_count;
    bool cached, uncached;                  // which arms
    const struct predicted_device *devices; // (device_count)
    int device_count;
};

CHECKED enum status predict_report_write(const struct predicted_curve *curve, enum report_format format,
                                         FILE *file, struct error *error);

#endif
