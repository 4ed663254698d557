#include "measure/record.h"

#include "base/version.h"

#include <stb/stb_ds.h>
#include <stdio.h>
#include <string.h>

const char *row_status_name(enum row_status status) {
    static const char *const names[] = {"ok", "partial", "oom", "skipped", "failed", "mismatch"};
    return names[status];
}

const char *agreement_name(enum agreement agreement) {
    static const char *const names[] = {"unknown", "same", "near-tie", "different"};
    return names[agreement];
}

void record_clear(struct bench_record *record) {
    for (ptrdiff_t i = 0; i < arrlen(record->rows); i++) arrfree(record->rows[i].samples);
    arrfree(record->rows);
    discovery_clear(&record->discovery);
    memset(record, 0, sizeof *record);
}

void record_describe_engine(struct record_engine *description) {
    memset(description, 0, sizeof *description);
    snprintf(description->version, sizeof description->version, "%s", GPT2INFER_VERSION);
    snprintf(description->commit, sizeof description->commit, "%s", build_commit());
    snprintf(description->compiler, sizeof description->compiler, "%s", build_compiler());
    description->cuda = build_has_cuda();
}

void record_describe_model(struct record_model *description, const struct model *model) {
    memset(description, 0, sizeof *description);
    snprintf(description->name, sizeof description->name, "%s", model_name(model));
    snprintf(description->format, sizeof description->format, "%s", model_format(model));
    description->stored_dtype = model_stored_dtype(model);
    description->config = *model_config(model);
    description->parameters = gpt2_parameter_count(model_config(model));
}
