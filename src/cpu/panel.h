// Panels: how everything that is multiplied is stored, and the one register-blocked product that reads it.
//
// A panel holds PANEL_WIDTH outputs side by side: element (k, lane) is what input k contributes to output
// `lane`, and inputs follow one another, so a product streams through memory once, in order. Weights, the
// keys of the cache (an output per key, an input per channel) and its values (an output per channel, an input
// per key) all have this form.
//
// In bf16 a 32-bit lane holds two outputs, j in its low half and j + VECTOR_WIDTH in its high half, so that
// widening both to f32 is a shift and a mask.
//
// Every output is one chain of additions over k = 0, 1, ..: its value does not depend on how many rows are
// multiplied together, in which tile it falls, or on the number of threads.
#ifndef CPU_PANEL_H
#define CPU_PANEL_H

#include "base/dtype.h"
#include "cpu/vector.h"

#include <stdbool.h>
#include <stddef.h>

enum {
    PANEL_WIDTH = 2 * VECTOR_WIDTH,
    // Most rows of one tile: 24 (12) sums, two weight vectors and a broadcast fill the 32 (16) registers.
    TILE_ROWS = VECTOR_WIDTH == 16 ? 12 : 6,
};

static inline size_t panel_bytes(enum dtype dtype, size_t inputs) {
    return inputs * PANEL_WIDTH * dtype_size(dtype);
}
static inline size_t panel_round_up(size_t outputs) {
    return (outputs + PANEL_WIDTH - 1) / PANEL_WIDTH * PANEL_WIDTH;
}

// Writes, or reads back widened, what all inputs contribute to one output: (inputs).
void panel_set_output(enum dtype dtype, void *panel, size_t inputs, int lane, const float *values);
void panel_get_output(enum dtype dtype, const void *panel, size_t inputs, int lane, float *values);
// Writes what input k contributes to the first `count` outputs.
void panel_set_input(enum dtype dtype, void *panel, size_t k, int count, const float *values);

// out (rows, outputs) = x (rows, inputs) times the panels, plus bias, plus what `out` held when `add` is set.
struct panel_product {
    enum dtype dtype;
    const void *panels;  //
    size_t panel_stride; // bytes from one panel to the next, at least panel_bytes of `inputs`
    size_t inputs;       //
    int outputs;         // the last panel may be partly used
    int rows;            // 1 .. TILE_ROWS
    const float *x;      // rows are x_stride apart
    size_t x_stride;     //
    const float *bias;   // (outputs, rounded up to whole panels), or NULL
    bool add;            //
    bool cold;           // the panels are far from the core: prefetch the one that follows
    float *out;          // rows are out_stride apart
    size_t out_stride;   //
};
void panel_multiply(const struct panel_product *product);

#endif
