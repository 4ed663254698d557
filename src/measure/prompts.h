// The synthetic prompts a measurement runs on: random ids, different in every row, the same for a seed.
#ifndef MEASURE_PROMPTS_H
#define MEASURE_PROMPTS_H

#include "engine/backend.h"

// `batch` names rows 0 .. count - 1; row r has the same prompt whatever the number of rows. Ids are uniform
// over the vocabulary. On failure *batch is empty; prompts_free frees it.
CHECKED enum status prompts_draw(int count, int prompt_len, int vocab, uint64_t seed,
                                 struct prompt_batch *batch, struct error *error);
void prompts_free(struct prompt_batch *batch); // an empty one is allowed

#endif
