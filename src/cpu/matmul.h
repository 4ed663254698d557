// Products with weights that were packed into panels once, when the model was loaded.
#ifndef CPU_MATMUL_H
#define CPU_MATMUL_H

#include "base/dtype.h"
#include "cpu/team.h"

#include <stddef.h>

// A linear layer: outputs = weights (outputs, inputs) . inputs + bias.
struct matrix {
    enum dtype dtype; // f32 or bf16
    int inputs, outputs;
    void *panels; // matrix_panel_bytes, zeroed, aligned to a vector
    float *bias;  // matrix_bias_bytes, zeroed: (outputs), padded to whole panels
};
size_t matrix_panel_bytes(enum dtype dtype, int inputs, int outputs);
size_t matrix_bias_bytes(int outputs);

// Packs weights (outputs, inputs) and bias (outputs), or zeros when it is NULL, into the matrix's memory.
void matrix_pack(struct matrix *matrix, const float *weights, const float *bias, int threads);

// One row of the weights (inputs), widened to f32: the embedding of a token when the matrix is the LM head.
void matrix_read_row(const struct matrix *matrix, int output, float *row);

enum matmul_form {
    MATMUL_PLAIN, // out = x W^T + bias
    MATMUL_ADD,   // out += x W^T + bias, the residual connection
    MATMUL_GELU,  // out = gelu(x W^T + bias)
};

// x (rows, inputs), out (rows, outputs), both dense; they do not overlap. A row's result does not depend on
// the other rows, their number, or the number of threads. Called by all threads of a region together.
void matmul(const struct matrix *matrix, enum matmul_form form, int rows, const float *x, float *out,
            struct team *team);

#endif
