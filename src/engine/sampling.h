// How a next token is chosen from logits. The functions here are the reference: every backend draws the same
// Philox number and applies the same rule, so a request's text depends on the device only through rounding.
//
// temperature 0: the highest logit, lowest id on a tie. Otherwise, in this order (as Hugging Face applies
// them):
//   p = softmax(logits / temperature)
//   top-k   keeps the k highest logits, lower ids first among equals; p is renormalised
//   top-p   keeps the fewest most probable tokens whose mass reaches top_p (at least one), lower ids first
//           among equals; p is renormalised
//   min-p   keeps tokens with p >= min_p * max p
//   draw    the lowest id whose cumulative kept mass, summed in id order, reaches u * (total kept mass)
#ifndef ENGINE_SAMPLING_H
#define ENGINE_SAMPLING_H

#include "base/philox.h"
#include "base/status.h"

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct sampling {
    float temperature; // 0: greedy
    int top_k;         // 0: off
    float top_p;       // 1: off
    float min_p;       // 0: off
    uint64_t seed;
};

// Refuses values outside temperature >= 0, top_k >= 0, 0 < top_p <= 1, 0 <= min_p <= 1, and NaN.
CHECKED enum status sampling_check(const struct sampling *sampling, struct error *error);

// The uniform number in (0, 1] for one draw, by Philox4x32-10: what cuRAND's curand_uniform gives after
// curand_init(seed, request, position, &state).
float sampling_uniform(uint64_t seed, uint64_t request, uint64_t position);

// Draws from logits (V) with the uniform number u. `scratch` holds V floats and V int32.
struct sampling_scratch {
    float *probability; // (V)
    int32_t *order;     // (V)
};
int32_t sampling_draw(const struct sampling *sampling, const float *logits, int vocab, float u,
                      struct sampling_scratch *scratch);

// The highest logit, lowest id on a tie.
int32_t sampling_argmax(const float *logits, int vocab);

#ifdef __cplusplus
}
#endif
#endif
