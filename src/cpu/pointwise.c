#include "cpu/pointwise.h"

#include "cpu/vector.h"

#include <math.h>
#include <stddef.h>

void embed(const struct matrix *wte, const float *wpe, int count, const int32_t *tokens, const int *positions,
           float *x, struct team *team) {
    size_t channels = (size_t)wte->inputs;
#pragma omp for nowait
    for (int i = 0; i < count; i++) {
        float *row = x + (size_t)i * channels;
        const float *position = wpe + (size_t)positions[i] * channels;
        matrix_read_row(wte, tokens[i], row);
        for (size_t c = 0; c < channels; c++) row[c] += position[c];
    }
    team_barrier(team);
}

// Sums of x and then of (x - mean)^2: two passes over a row that is in the first-level cache are as fast as
// one and do not cancel.
static float row_mean(const float *x, int channels) {
    vector_f32 sum = {0};
    float rest = 0.0f;
    int c = 0;
    for (; c + VECTOR_WIDTH <= channels; c += VECTOR_WIDTH) sum += vector_load(x + c);
    for (; c < channels; c++) rest += x[c];
    return (vector_sum(sum) + rest) / (float)channels;
}
static float row_variance(const float *x, float mean, int channels) {
    vector_f32 sum = {0};
    float rest = 0.0f;
    int c = 0;
    for (; c + VECTOR_WIDTH <= channels; c += VECTOR_WIDTH) {
        vector_f32 off = vector_load(x + c) - mean;
        sum += off * off;
    }
    for (; c < channels; c++) rest += (x[c] - mean) * (x[c] - mean);
    return (vector_sum(sum) + rest) / (float)channels;
}

void layernorm(const float *x, const int *rows, const float *weight, const float *bias, float epsilon,
               int count, int channels, float *out, struct team *team) {
#pragma omp for nowait
    for (int i = 0; i < count; i++) {
        const float *from = x + (size_t)(rows ? rows[i] : i) * (size_t)channels;
        float *to = out + (size_t)i * (size_t)channels;
        float mean = row_mean(from, channels);
        float scale = 1.0f / sqrtf(row_variance(from, mean, channels) + epsilon);
        for (int c = 0; c < channels; c++) to[c] = (from[c] - mean) * scale * weight[c] + bias[c];
    }
    team_barrier(team);
}

// With u = sqrt(2 / pi) (x + 0.044715 x^3), 0.5 (1 + tanh u) = 1 / (1 + e^-2u): no cancellation for negative
// u, where the textbook form subtracts nearly equal numbers.
static vector_f32 gelu_vector(vector_f32 x) {
    const float twice_sqrt_2_over_pi = 1.5957691216057308f;
    vector_f32 u2 = x * twice_sqrt_2_over_pi * (x * x * 0.044715f + 1.0f);
    return x / (vector_exp(-u2) + 1.0f);
}

void gelu(float *x, int count) {
    int i = 0;
    for (; i + VECTOR_WIDTH <= count; i += VECTOR_WIDTH) vector_store(x + i, gelu_vector(vector_load(x + i)));
    if (i == count) return;
    float rest[VECTOR_WIDTH] = {0};
    memcpy(rest, x + i, (size_t)(count - i) * sizeof *x);
    vector_store(rest, gelu_vector(vector_load(rest)));
    memcpy(x + i, rest, (size_t)(count - i) * sizeof *x);
}
