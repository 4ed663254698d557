#include "cpu/panel.h"

#define INLINE static inline __attribute__((always_inline))

// Where the 16-bit element (k, lane) is.
static size_t bf16_index(size_t k, int lane) {
    return (k * VECTOR_WIDTH + (size_t)(lane % VECTOR_WIDTH)) * 2 + (size_t)(lane / VECTOR_WIDTH);
}

void panel_set(enum dtype dtype, void *panel, size_t k, int lane, float value) {
    if (dtype == DTYPE_F32)
        ((float *)panel)[k * PANEL_WIDTH + (size_t)lane] = value;
    else
        ((uint16_t *)panel)[bf16_index(k, lane)] = f32_to_bf16(value);
}

float panel_get(enum dtype dtype, const void *panel, size_t k, int lane) {
    if (dtype == DTYPE_F32) return ((const float *)panel)[k * PANEL_WIDTH + (size_t)lane];
    return bf16_to_f32(((const uint16_t *)panel)[bf16_index(k, lane)]);
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

INLINE void store_outputs(const struct panel_product *p, const float *bias, float *out, int count,
                          const vector_f32 sum[2]) {
    float partial[PANEL_WIDTH] = {0};
    float *to = count < PANEL_WIDTH ? partial : out;
    if (p->add && to == partial) memcpy(partial, out, (size_t)count * sizeof *out);
    for (int half = 0; half < 2; half++) {
        vector_f32 value = sum[half];
        if (bias) value += vector_load(bias + half * VECTOR_WIDTH);
        if (p->add) value += vector_load(to + half * VECTOR_WIDTH);
        vector_store(to + half * VECTOR_WIDTH, value);
    }
    if (to == partial) memcpy(out, partial, (size_t)count * sizeof *out);
}

// `rows` by `panels` panels, starting at panel `first`. Inlined with constants, so that the sums live in
// registers.
INLINE void tile(const struct panel_product *p, enum dtype dtype, int rows, int panels, int first) {
    const size_t inputs = p->inputs, stride = p->panel_stride;
    const char *panel = (const char *)p->panels + (size_t)first * stride;
    vector_f32 sum[TILE_ROWS][8] = {0};
    for (size_t k = 0; k < inputs; k++) {
#pragma GCC unroll 4
        for (int j = 0; j < panels; j++) {
            vector_f32 element[2];
            load_input(dtype, panel + (size_t)j * stride, k, element);
#pragma GCC unroll 12
            for (int r = 0; r < rows; r++) {
                float x = p->x[(size_t)r * p->x_stride + k];
                sum[r][2 * j] += element[0] * x;
                sum[r][2 * j + 1] += element[1] * x;
            }
        }
    }
#pragma GCC unroll 4
    for (int j = 0; j < panels; j++) {
        int output = (first + j) * PANEL_WIDTH;
#pragma GCC unroll 12
        for (int r = 0; r < rows; r++) {
            store_outputs(p, p->bias ? p->bias + output : NULL, p->out + (size_t)r * p->out_stride + output,
                          p->outputs - output, &sum[r][2 * j]);
        }
    }
}

// Few rows have few sums, and a sum waits for the one before it: several panels at a time keep the
// multipliers busy.
INLINE void multiply_rows(const struct panel_product *p, enum dtype dtype, int rows) {
    int panels = (int)(panel_round_up((size_t)p->outputs) / PANEL_WIDTH), first = 0;
    if (rows == 1)
        for (; first + 4 <= panels; first += 4) tile(p, dtype, rows, 4, first);
    if (rows <= 3)
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
