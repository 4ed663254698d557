// Do the two arms of a comparison tell the same tokens, and if not, does rounding explain it?
#ifndef MEASURE_AGREEMENT_H
#define MEASURE_AGREEMENT_H

#include "measure/record.h"

// `a` and `b` are greedy tokens (gen_len, B) that the two arms generated from `prompts`. Where a row parts,
// the model is asked for the logits after the common prefix, in at most 64 rows (bench.h has the rule). Takes
// a one-row session for that while it runs.
CHECKED enum status agreement_judge(struct backend *backend, const struct prompt_batch *prompts,
                                    const int32_t *a, const int32_t *b, int gen_len,
                                    struct arm_agreement *agreement, struct error *error);

#endif
