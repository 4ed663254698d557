#include "cpu/matmul.h"

#include "cpu/panel.h"
#include "cpu/pointwise.h"

#include <omp.h>

size_t matrix_panel_bytes(enum dtype dtype, int inputs, int outputs) {
    return panel_round_up((size_t)outputs) * (size_t)inputs * dtype_size(dtype);
}
size_t matrix_bias_bytes(int outputs) {
    return panel_round_up((size_t)outputs) * sizeof(float);
}

static int panel_count(const struct matrix *matrix) {
    return (int)(panel_round_up((size_t)matrix->outputs) / PANEL_WIDTH);
}
static void *panel_at(const struct matrix *matrix, int panel) {
    return (char *)matrix->panels + (size_t)panel * panel_bytes(matrix->dtype, (size_t)matrix->inputs);
}

void matrix_pack(struct matrix *matrix, const float *weights, const float *bias, int threads) {
    size_t inputs = (size_t)matrix->inputs;
    int panels = panel_count(matrix);
#pragma omp parallel for num_threads(threads)
    for (int panel = 0; panel < panels; panel++) {
        for (int lane = 0; lane < PANEL_WIDTH; lane++) {
            // Lanes behind the last output stay zero: the memory is new.
            int output = panel * PANEL_WIDTH + lane;
            if (output >= matrix->outputs) break;
            matrix->bias[output] = bias ? bias[output] : 0.0f;
            panel_set_output(matrix->dtype, panel_at(matrix, panel), inputs, lane,
                             weights + (size_t)output * inputs);
        }
    }
}

void matrix_read_row(const struct matrix *matrix, int output, float *row) {
    panel_get_output(matrix->dtype, panel_at(matrix, output / PANEL_WIDTH), (size_t)matrix->inputs,
                     output % PANEL_WIDTH, row);
}

// A block of rows that stays in a core's second-level cache while all panels pass by. Blocks of all sizes
// give the same results.
static int rows_per_block(const struct matrix *matrix, int rows) {
    const size_t block_bytes = 512 * 1024;
    size_t fitting = block_bytes / ((size_t)matrix->inputs * sizeof(float));
    int most = fitting < TILE_ROWS ? TILE_ROWS : (int)(fitting / TILE_ROWS * TILE_ROWS);
    return most < rows ? most : rows;
}

// Rows first .. first + count - 1 times panels begin .. end - 1.
static void multiply_block(const struct matrix *matrix, enum matmul_form form, int first, int count,
                           int begin, int end, const float *x, float *out) {
    size_t inputs = (size_t)matrix->inputs, outputs = (size_t)matrix->outputs;
    int tiles = (count + TILE_ROWS - 1) / TILE_ROWS;
    int together = tiles > 1 ? 1 : 4; // panels per call; with several tiles a panel stays in the first cache
    for (int panel = begin; panel < end; panel += together) {
        int last_panel = panel + together < end ? panel + together : end;
        int column = panel * PANEL_WIDTH, last = last_panel * PANEL_WIDTH;
        int columns = (last < matrix->outputs ? last : matrix->outputs) - column;
        for (int tile = 0; tile < tiles; tile++) {
            // Tiles of nearly equal height: thirteen rows are 7 + 6, not 12 + 1.
            int row = first + count * tile / tiles, next = first + count * (tile + 1) / tiles;
            struct panel_product product = {
                .dtype = matrix->dtype,
                .panels = panel_at(matrix, panel),
                .panel_stride = panel_bytes(matrix->dtype, inputs),
                .inputs = inputs,
                .outputs = columns,
                .rows = next - row,
                .x = x + (size_t)row * inputs,
                .x_stride = inputs,
                .bias = matrix->bias + column,
                .add = form == MATMUL_ADD,
                .cold = tile == 0,
                .out = out + (size_t)row * outputs + (size_t)column,
                .out_stride = outputs,
            };
            panel_multiply(&product);
            if (form != MATMUL_GELU) continue;
            for (int r = 0; r < product.rows; r++) gelu(product.out + (size_t)r * outputs, columns);
        }
    }
}

void matmul(const struct matrix *matrix, enum matmul_form form, int rows, const float *x, float *out,
            struct team *team) {
    const int block_rows = rows_per_block(matrix, rows);
    const int blocks = (rows + block_rows - 1) / block_rows, panels = panel_count(matrix);
    // Work is (block, panel) pairs in that order, each thread's share contiguous.
    const int64_t threads = omp_get_num_threads(), self = omp_get_thread_num();
    const int64_t work = (int64_t)blocks * panels, end = work * (self + 1) / threads;
    for (int64_t begin = work * self / threads; begin < end;) {
        int block = (int)(begin / panels), panel = (int)(begin % panels);
        int last = end - begin < panels - panel ? panel + (int)(end - begin) : panels;
        int row = (int)((int64_t)rows * block / blocks), next = (int)((int64_t)rows * (block + 1) / blocks);
        multiply_block(matrix, form, row, next - row, panel, last, x, out);
        begin += last - panel;
    }
    team_barrier(team);
}
