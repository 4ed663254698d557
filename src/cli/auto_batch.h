// --batch auto: the search for a batch size before it is measured.
#ifndef CLI_AUTO_BATCH_H
#define CLI_AUTO_BATCH_H

#include "cli/setup.h"
#include "measure/record.h"

// Whether the batch size is to be searched for.
bool auto_batch_wanted(const struct options *options);

// Refuses goals and reserves that cannot be, and those without --batch auto, before anything is opened.
CHECKED enum status auto_batch_check(const struct options *options, struct error *error);

// Fills record->discovery for record->model, telling of each probe on standard error unless --quiet. After
// STATUS_INTERRUPTED the discovery holds what was proved until then, see discover.h.
CHECKED enum status auto_batch_find(const struct options *options, const struct setup *setup,
                                    const volatile sig_atomic_t *interrupt, struct bench_record *record,
                                    struct error *error);

#endif
