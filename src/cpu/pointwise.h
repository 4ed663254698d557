// What happens to each token on its own: embedding, LayerNorm, GELU. The first two are called by all threads
// of a region together.
#ifndef CPU_POINTWISE_H
#define CPU_POINTWISE_H

#include "cpu/matmul.h"

#include <stdint.h>

// x (count, C) = wte[tokens] + wpe[positions]; wte is (V, C), wpe (T, C).
void embed(const struct matrix *wte, const float *wpe, int count, const int32_t *tokens, const int *positions,
           float *x, struct team *team);

// out (count, C): each row of x less its mean, over its standard deviation (variance + epsilon), times weight
// (C), plus bias (C). Row i is read from row `rows[i]` of x, or row i when `rows` is NULL.
void layernorm(const float *x, const int *rows, const float *weight, const float *bias, float epsilon,
               int count, int channels, float *out, struct team *team);

// x (count) in place: 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))), GPT-2's form of GELU (Hendrycks and
// Gimpel 2016).
void gelu(float *x, int count);

#endif
