// The kernels between the matrix products: packing, embedding, LayerNorm, cache write, bias and GELU.
//
// Launchers allocate nothing, do not synchronise, can be captured in a graph, and return the launch's error.
// All pointers are device memory. Decode state: `tokens` (B, max_tokens) is each row's history, `lengths` (B)
// its tokens including the newest, not yet fed one; 0 is a free row.
//
// A packed batch has `count` rows and N >= starts[count] tokens: row i's tokens lie at starts[i] .. starts[i
// + 1] - 1, those behind the last row are padding. `rows` (count) names the session row of each; NULL is row
// i itself.
#ifndef CUDA_POINTWISE_H
#define CUDA_POINTWISE_H

#include "base/dtype.h"
#include "base/status.h"

#include <cuda_runtime_api.h>
#include <stdbool.h>
#include <stdint.h>

// ---- packing

// starts (count + 1): exclusive prefix sum of lengths (count); last (count): packed index of each row's last
// token, -1 for a row of length 0.
CHECKED cudaError_t pack_layout(const int32_t *lengths, int count, int32_t *starts, int32_t *last,
                                cudaStream_t stream);

// Enters prompts into the decode state: tokens[rows[i]][t] = packed[starts[i] + t], lengths[rows[i]] =
// starts[i + 1] - starts[i], requests[rows[i]] = prompt_requests[i].
CHECKED cudaError_t prompts_enter(const int32_t *packed, const int32_t *starts, const int32_t *rows,
                                  const uint64_t *prompt_requests, int count, int32_t *tokens, int max_tokens,
                                  int32_t *lengths, uint64_t *requests, cudaStream_t stream);

// out (steps, B): the newest `steps` tokens of each row, -1 for free rows and before a row's beginning.
CHECKED cudaError_t tokens_collect(const int32_t *tokens, int max_tokens, const int32_t *lengths, int B,
                                   int steps, int32_t *out, cudaStream_t stream);

// ---- embedding: x[n] = wte[token] + wpe[position], x (N, C) f32, wte (V, C) and wpe (context, C) of dtype

// Packed rows, whole from position 0, out of tokens[rows[i]]; padding becomes zeros.
CHECKED cudaError_t embed_packed(enum dtype dtype, float *x, const void *wte, const void *wpe,
                                 const int32_t *tokens, int max_tokens, const int32_t *starts,
                                 const int32_t *rows, int count, int N, int C, cudaStream_t stream);
// Each row's newest token, at position lengths[b] - 1: x (B, C); free rows become zeros.
CHECKED cudaError_t embed_newest(enum dtype dtype, float *x, const void *wte, const void *wpe,
                                 const int32_t *tokens, int max_tokens, const int32_t *lengths, int B, int C,
                                 cudaStream_t stream);

// ---- LayerNorm: out[n] = (x[i] - mean) / sqrt(variance + epsilon) * weight + bias, i = index ? index[n] : n

// out (N, C) of dtype, x (*, C) f32, weight and bias (C) f32. index[n] < 0 gives zeros. C up to 16384 where
// it is a multiple of 4, else up to 4096: cudaErrorInvalidValue beyond.
CHECKED cudaError_t layernorm_run(enum dtype dtype, void *out, const float *x, const int32_t *index,
                                  const float *weight, const float *bias, float epsilon, int N, int C,
                                  cudaStream_t stream);

// ---- cache

// Copies the keys and values of packed qkv (N, 3C), C = H * D, into one layer's caches k, v (B, H,
// max_tokens, D).
CHECKED cudaError_t kv_write(enum dtype dtype, const void *qkv, const int32_t *starts, const int32_t *rows,
                             int count, int N, int H, int D, int max_tokens, void *k, void *v,
                             cudaStream_t stream);

// ---- where a matrix product has no such epilogue

// y (N, F) += bias (F), then y = gelu(y) if asked, in the tanh form: 0.5 y (1 + tanh(sqrt(2/pi) (y + 0.044715
// y^3))). y and bias of dtype.
CHECKED cudaError_t bias_gelu(enum dtype dtype, void *y, const void *bias, int N, int F, bool gelu,
                              cudaStream_t stream);

// ---- rows of logits

// out[i] = in[index[i] - first] for those i in 0 .. count - 1 whose index lies in first .. first + n - 1;
// other rows of out stay. in (n, columns), out (count, columns), f32.
CHECKED cudaError_t gather_rows(float *out, const float *in, const int32_t *index, int count, int first,
                                int n, int columns, cudaStream_t stream);

#endif
