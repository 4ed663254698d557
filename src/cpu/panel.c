#include "cpu/panel.h"

#define INLINE static inline __attribute__((always_inline))

// Where the 16-bit element (k, lane) is.
static size_t bf16_index(size_t k, int lane) {
    return (k * VECTOR_WIDTH + (size_t)(lane % VECTOR_WIDTH)) * 2 + (size_t)(lane / VECTOR_WIDTH);
}

void panel_set_output(enum dtype dtype, void *panel, size_t inputs, int lane, const float *values) {
    if (dtype == DTYPE_F32) {
        for (size_t k = 0; k < inputs; k++) ((float *)panel)[k * PANEL_WIDTH + (size_t)lane] = values[k];
        return;
    }
    uint16_t rounded[64];
    const size_t most = sizeof rounded / sizeof rounded[0];
    for (size_t first = 0; first < inputs; first += most) {
        size_t count = inputs - first < most ? inputs - first : most;
        dtype_from_f32(dtype, values + first, rounded, count);
        for (size_t i = 0; i < count; i++) ((uint16_t *)panel)[bf16_index(first + i, lane)] = rounded[i];
    }
}

void panel_get_output(enum dtype dtype, const void *panel, size_t inputs, int lane, float *values) {
    for (size_t k = 0; k < inputs; k++) {
        values[k] = dtype == DTYPE_F32 ? ((const float *)panel)[k * PANEL_WIDTH + (size_t)lane]
                                       : bf16_to_f32(((const uint16_t *)panel)[bf16_index(k, lane)]);
    }
}

void panel_set_input(enum dtype dtype, void *panel, size_t k, int count, const float *values) {
    if (dtype == DTYPE_F32) {
        memcpy((float *)panel + k * PANEL_WIDTH, values, (size_t)count * sizeof *values);
        return;
    }
    uint16_t rounded[PANEL_WIDTH];
    dtype_from_f32(dtype, values, rounded, (size_t)count);
    for (int lane = 0; lane < count; lane++) ((uint16_t *)panel)[bf16_index(k, lane)] = rounded[lane];
}

// The PANEL_WIDTH elements of input k, as f32.
INLINE void load_input(enum dtype dtype, const char *panel, size_t k, vector_f32 element[2]) {
    if (dtype == DTYPE_F32) {
        const float *from = (const float *)panel + k * PANEL_WIDTH;
        element[0] = vector_load(from);
        element[1] = vector_load(from + VECTOR_WIDTH);
    } else {
        vector_u32 pairs;
        memcpy(&pairs, panel + k * sizeof pairs, sizeof pairs);
        element[0] = (vector_f32)(pairs << 16);
        element[1] = (vector_f32)(pairs & 0xffff0000u);
    }
}

// Adds bias and what `out` held, as asked for, and stores. Not inlined into tiles: a call there would keep
// their sums out of registers.
static __attribute__((noinline)) void store_sums(const struct panel_product *p, int panels, int first,
                                                 const vector_f32 *sums) {
    for (int i = 0; i < p->rows * panels; i++) {
        const int output = (first + i % panels) * PANEL_WIDTH, left = p->outputs - output;
        const int count = left < PANEL_WIDTH ? left : PANEL_WIDTH;
        float *out = p->out + (size_t)(i / panels) * p->out_stride + output, before[PANEL_WIDTH] = {0};
        float sum[PANEL_WIDTH];
        if (p->add) memcpy(before, out, (size_t)count * sizeof *out);
        for (int half = 0; half < 2; half++) {
            vector_f32 value = sums[2 * i + half] + vector_load(before + half * VECTOR_WIDTH);
            if (p->bias) value += vector_load(p->bias + output + half * VECTOR_WIDTH);
            vector_store(sum + half * VECTOR_WIDTH, value);
        }
        memcpy(out, sum, (size_t)count * sizeof *out);
    }
}

// Asks for inputs k .. k + count - 1, counted in quarters, of the panel that follows: one reader in order
// does not keep memory busy while it multiplies, four places at a time do.
INLINE void prefetch_inputs(enum dtype dtype, const char *panel, size_t inputs, size_t k, size_t count) {
    const size_t line = 64, streams = 4, bytes = panel_bytes(dtype, 1);
    for (size_t stream = 0; stream < streams; stream++) {
        const char *from = panel + (inputs * stream + k) / streams * bytes;
        for (size_t at = 0; at < count * bytes / streams; at += line) __builtin_prefetch(from + at, 0, 2);
    }
}

// `rows` by `panels` panels, starting at panel `first`. Inlined with constants, so that all loops but the one
// over inputs are unrolled and the sums live in registers.
INLINE void tile(const struct panel_product *p, enum dtype dtype, int rows, int panels, int first) {
    // Up to three rows read several panels at a time as fast as memory gives them.
    const bool prefetch = p->cold && rows > 3;
    const size_t group = prefetch ? 16 : p->inputs;
    const char *panel = (const char *)p->panels + (size_t)first * p->panel_stride;
    vector_f32 sum[TILE_ROWS * 2] = {0}; // rows by panels by 2
    for (size_t begin = 0; begin < p->inputs; begin += group) {
        for (int j = 0; prefetch && j < panels; j++) {
            const char *next = panel + (size_t)(panels + j) * p->panel_stride;
            prefetch_inputs(dtype, next, p->inputs, begin, group);
        }
        const size_t end = begin + group < p->inputs ? begin + group : p->inputs;
        for (size_t k = begin; k < end; k++) {
            vector_f32 element[4][2];
#pragma GCC unroll 4
            for (int j = 0; j < panels; j++)
                load_input(dtype, panel + (size_t)j * p->panel_stride, k, element[j]);
#pragma GCC unroll 12
            for (int i = 0; i < rows * panels; i++) {
                float x = p->x[(size_t)(i / panels) * p->x_stride + k];
                sum[2 * i] += element[i % panels][0] * x;
                sum[2 * i + 1] += element[i % panels][1] * x;
            }
        }
    }
    vector_f32 sums[TILE_ROWS * 2];
#pragma GCC unroll 24
    for (int i = 0; i < 2 * rows * panels; i++) sums[i] = sum[i];
    store_sums(p, panels, first, sums);
}

// Few rows have few sums, and a sum waits for the one before it: several panels at a time keep the
// multipliers busy.
INLINE void multiply_rows(const struct panel_product *p, enum dtype dtype, int rows) {
    int panels = (int)(panel_round_up((size_t)p->outputs) / PANEL_WIDTH), first = 0;
    if (rows == 1)
        for (; first + 4 <= panels; first += 4) tile(p, dtype, rows, 4, first);
    if (2 * rows <= TILE_ROWS)
        for (; first + 2 <= panels; first += 2) tile(p, dtype, rows, 2, first);
    for (; first < panels; first++) tile(p, dtype, rows, 1, first);
}

INLINE void multiply(const struct panel_product *p, enum dtype dtype) {
    switch (p->rows) {
    case 1:
        multiply_rows(p, dtype, 1);
        break;
    case 2:
        multiply_rows(p, dtype, 2);
        break;
    case 3:
        multiply_rows(p, dtype, 3);
        break;
    case 4:
        multiply_rows(p, dtype, 4);
        break;
    case 5:
        multiply_rows(p, dtype, 5);
        break;
    case 6:
        multiply_rows(p, dtype, 6);
        break;
#if VECTOR_WIDTH == 16
    case 7:
        multiply_rows(p, dtype, 7);
        break;
    case 8:
        multiply_rows(p, dtype, 8);
        break;
    case 9:
        multiply_rows(p, dtype, 9);
        break;
    case 10:
        multiply_rows(p, dtype, 10);
        break;
    case 11:
        multiply_rows(p, dtype, 11);
        break;
    case 12:
        multiply_rows(p, dtype, 12);
        break;
#endif
    default:
        break;
    }
}

void panel_multiply(const struct panel_product *product) {
    if (product->dtype == DTYPE_F32)
        multiply(product, DTYPE_F32);
    else
        multiply(product, DTYPE_BF16);
}
