#include "cuda/decode_next.h"

#include <limits.h>

// By rows; 0: never.
struct rules {
    int at_once_to = 0, at_once_from = 0; // NEXT_AT_ONCE up to so many, or from so many on,
    int after_rows_from = 0;              // NEXT_AFTER_ROWS from so many on, NEXT_AFTER_WAIT otherwise
};

// What was fastest in whole steps of GPT-2's sizes with 5 to 512 rows (NOTES.md).
static const struct {
    int channels; // of models with no more
    struct rules of[DECODE_KERNELS];
} measured[] = {
    // QKV, attention, projection, FC, FC2
    {768, {{64, 0, 225}, {}, {64}, {16}, {0, 0, 94}}},
    {1024, {{32, 0, 65}, {0, 33}, {32}, {32}, {0, 0, 49}}},
    {1280, {{0, 0, 64}, {0, 33}, {32}, {}, {0, 0, 33}}},
    {INT_MAX, {{}, {0, 1}, {32}, {}, {}}},
};

static bool is_from(int rows, int B) {
    return rows > 0 && B >= rows;
}

enum decode_next decode_next_choose(enum decode_kernel kernel, int layer, int B, int C) {
    if (kernel == DECODE_QKV && layer == 0) return NEXT_AFTER_WAIT;
    const auto *model = measured;
    while (model->channels < C) model++;
    const struct rules &rules = model->of[kernel];
    if (is_from(rules.after_rows_from, B)) return NEXT_AFTER_ROWS;
    return B <= rules.at_once_to || is_from(rules.at_once_from, B) ? NEXT_AT_ONCE : NEXT_AFTER_WAIT;
}
