// The CPU's kernels against float64, over shapes that fit no vector, panel or tile. Tolerances are bounds on
// f32 rounding for the sums at hand (Higham 2002, section 3.1), not fitted to results.
#include "base/philox.h"
#include "cpu/attention.h"
#include "cpu/matmul.h"
#include "cpu/panel.h"
#include "cpu/pointwise.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static const double unit = 0x1p-24; // f32 unit roundoff
static const enum dtype dtypes[] = {DTYPE_F32, DTYPE_BF16};
static struct team team;

// ---- data
// --------------------------------------------------------------------------------------------------

static void *take(size_t count, size_t size) {
    void *memory = aligned_alloc(64, (count * size + 63) / 64 * 64);
    assert_non_null(memory);
    memset(memory, 0, count * size);
    return memory;
}

// Uniform in -1 .. 1.
static float *random_floats(size_t count, uint32_t seed) {
    float *values = take(count, sizeof *values);
    const uint32_t key[2] = {seed, 77};
    for (size_t i = 0; i < count; i++) {
        uint32_t words[4];
        philox4x32((const uint32_t[4]){(uint32_t)i}, key, words);
        values[i] = (float)words[0] * 0x1p-31f - 1.0f;
    }
    return values;
}

static double rounded(enum dtype dtype, float value) {
    return (double)(dtype == DTYPE_BF16 ? bf16_to_f32(f32_to_bf16(value)) : value);
}

static double gelu_exact(double x) {
    const double two_over_pi = 0.63661977236758134308;
    return 0.5 * x * (1.0 + tanh(sqrt(two_over_pi) * (x + 0.044715 * x * x * x)));
}

// ---- products
// ----------------------------------------------------------------------------------------------

static struct matrix packed(enum dtype dtype, int inputs, int outputs, const float *weights,
                            const float *bias) {
    struct matrix matrix = {.dtype = dtype, .inputs = inputs, .outputs = outputs};
    matrix.panels = take(1, matrix_panel_bytes(dtype, inputs, outputs));
    matrix.bias = take(1, matrix_bias_bytes(outputs));
    matrix_pack(&matrix, weights, bias, 2);
    return matrix;
}
static void matrix_free(struct matrix *matrix) {
    free(matrix->panels);
    free(matrix->bias);
}

static void check_product(enum dtype dtype, enum matmul_form form, int rows, int inputs, int outputs) {
    float *weights = random_floats((size_t)inputs * (size_t)outputs, 1);
    float *bias = random_floats((size_t)outputs, 2), *x = random_floats((size_t)rows * (size_t)inputs, 3);
    float *before = random_floats((size_t)rows * (size_t)outputs, 4);
    float *out = random_floats((size_t)rows * (size_t)outputs, 4);
    struct matrix matrix = packed(dtype, inputs, outputs, weights, bias);
#pragma omp parallel num_threads(2)
    matmul(&matrix, form, rows, x, out, &team);
    for (int r = 0; r < rows; r++) {
        for (int o = 0; o < outputs; o++) {
            size_t at = (size_t)r * (size_t)outputs + (size_t)o;
            double sum = (double)bias[o], size = fabs(sum);
            if (form == MATMUL_ADD) {
                sum += (double)before[at];
                size += fabs((double)before[at]);
            }
            for (int k = 0; k < inputs; k++) {
                double term = (double)x[r * inputs + k] * rounded(dtype, weights[o * inputs + k]);
                sum += term;
                size += fabs(term);
            }
            double expected = form == MATMUL_GELU ? gelu_exact(sum) : sum;
            double bound = (inputs + 3) * unit * size;
            if (form == MATMUL_GELU)
                bound = 1.13 * bound + 1e-6 * fabs(expected) + 1e-8; // GELU's steepest slope
            if (!(fabs((double)out[at] - expected) <= bound)) {
                fail_msg("%s form %d, %d x %d x %d, row %d output %d: found %.9g, expected %.9g, bound %.2g",
                         dtype_name(dtype), (int)form, rows, inputs, outputs, r, o, (double)out[at], expected,
                         bound);
            }
        }
    }
    matrix_free(&matrix);
    free(weights), free(bias), free(x), free(before), free(out);
}

static void test_products(void **state) {
    (void)state;
    static const struct {
        int inputs, outputs;
    } shapes[] = {{1, 1},   {3, 5},    {17, 31},  {64, 32},  {100, 33}, {129, 64},
                  {65, 97}, {40, 200}, {768, 70}, {33, 257}, {16, 128}};
    for (int rows = 1; rows <= 70; rows += rows < 27 ? 1 : 7) {
        for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++) {
            if ((rows + (int)s) % 3 != 0) continue; // every shape with every third number of rows
            for (size_t d = 0; d < 2; d++) {
                enum matmul_form form = (enum matmul_form)((rows + (int)s) / 3 % 3);
                check_product(dtypes[d], form, rows, shapes[s].inputs, shapes[s].outputs);
            }
        }
    }
    for (size_t d = 0; d < 2; d++) check_product(dtypes[d], MATMUL_ADD, 100, 3072, 40); // several row blocks
}

// The same bits for a row alone, in any batch, and on any number of threads.
static void test_rows_do_not_depend_on_each_other(void **state) {
    (void)state;
    enum { ROWS = 61, INPUTS = 150, OUTPUTS = 210 };
    float *weights = random_floats((size_t)INPUTS * OUTPUTS, 5), *x = random_floats((size_t)ROWS * INPUTS, 6);
    float *together = take((size_t)ROWS * OUTPUTS, sizeof(float)),
          *some = take((size_t)ROWS * OUTPUTS, sizeof(float));
    for (size_t d = 0; d < 2; d++) {
        struct matrix matrix = packed(dtypes[d], INPUTS, OUTPUTS, weights, NULL);
#pragma omp parallel num_threads(1)
        matmul(&matrix, MATMUL_GELU, ROWS, x, together, &team);
        for (int rows = 1; rows < ROWS; rows++) {
            int first = ROWS - rows;
#pragma omp parallel num_threads(1 + rows % 3)
            matmul(&matrix, MATMUL_GELU, rows, x + first * INPUTS, some, &team);
            assert_memory_equal(some, together + first * OUTPUTS, (size_t)rows * OUTPUTS * sizeof(float));
        }
        matrix_free(&matrix);
    }
    free(weights), free(x), free(together), free(some);
}

static void test_packed_rows_read_back(void **state) {
    (void)state;
    enum { INPUTS = 45, OUTPUTS = 101 };
    float *weights = random_floats((size_t)INPUTS * OUTPUTS, 7), row[INPUTS];
    for (size_t d = 0; d < 2; d++) {
        struct matrix matrix = packed(dtypes[d], INPUTS, OUTPUTS, weights, NULL);
        for (int output = 0; output < OUTPUTS; output++) {
            matrix_read_row(&matrix, output, row);
            for (int k = 0; k < INPUTS; k++)
                assert_true((double)row[k] == rounded(dtypes[d], weights[output * INPUTS + k]));
        }
        matrix_free(&matrix);
    }
    free(weights);
}

// ---- attention
// ---------------------------------------------------------------------------------------------

struct attention_case {
    int rows, tokens, fed, heads, head_size; // `fed` of the tokens last, the others before them
};

struct attention_run {
    struct attention attention;
    struct sequence *sequences;
    int *lengths;    // (rows) ragged
    int *starts;     // (rows) of each row in the full packed batch
    int total, rows; // tokens in all
    float *qkv;      // (total, 3C)
    float *out;      // (total, C)
};

static struct attention_run attention_open(const struct attention_case *c, enum dtype dtype) {
    struct attention_run run = {.rows = c->rows};
    size_t rows = (size_t)c->rows, channels = (size_t)(c->heads * c->head_size);
    run.sequences = take(rows, sizeof *run.sequences);
    run.lengths = take(rows, sizeof *run.lengths);
    run.starts = take(rows, sizeof *run.starts);
    for (int i = 0; i < c->rows; i++) {
        run.lengths[i] = c->tokens - i * 7 % c->tokens;
        run.starts[i] = run.total;
        run.total += run.lengths[i];
        int capacity = attention_capacity(run.lengths[i]);
        size_t bytes = attention_cache_bytes(dtype, c->heads, c->head_size, capacity);
        run.sequences[i] = (struct sequence){.capacity = capacity, .cache = take(1, bytes)};
    }
    run.attention =
        (struct attention){.dtype = dtype,
                           .heads = c->heads,
                           .head_size = c->head_size,
                           .scale = 1.0f / sqrtf((float)c->head_size),
                           .scratch = take(1, attention_scratch_bytes(attention_capacity(c->tokens), 2)),
                           .team = &team};
    run.qkv = random_floats((size_t)run.total * 3 * channels, 8);
    // Larger queries make some keys matter far more than others.
    for (size_t i = 0; i < (size_t)run.total * 3 * channels; i++) run.qkv[i] *= 3.0f;
    run.out = take((size_t)run.total * channels, sizeof *run.out);
    return run;
}

static void attention_close(struct attention_run *run) {
    for (int i = 0; i < run->rows; i++) free(run->sequences[i].cache);
    free(run->sequences), free(run->lengths), free(run->starts), free(run->attention.scratch);
    free(run->qkv), free(run->out);
}

// Feeds tokens from .. to - 1 of each row, as far as it has them.
static void attention_feed(struct attention_run *run, int from, int to) {
    struct sequence *sequences = take((size_t)run->rows, sizeof *sequences);
    int count = 0;
    for (int i = 0; i < run->rows; i++) {
        int last = to < run->lengths[i] ? to : run->lengths[i];
        if (from >= last) continue;
        sequences[count] = run->sequences[i];
        sequences[count].first = run->starts[i] + from;
        sequences[count].past = from;
        sequences[count++].count = last - from;
    }
    if (count > 0) {
#pragma omp parallel num_threads(2)
        {
            attention_store(&run->attention, sequences, count, run->qkv);
            attention_forward(&run->attention, sequences, count, run->qkv, run->out);
        }
    }
    free(sequences);
}

// One query of one head in float64 over keys and values as the cache rounds them.
static void check_query(const struct attention_run *run, const struct attention_case *c, int row, int token,
                        int head) {
    const struct attention *a = &run->attention;
    const int D = c->head_size, C = c->heads * D;
    const float *first = run->qkv + (size_t)run->starts[row] * 3 * (size_t)C + head * D;
    const float *q = first + (size_t)token * 3 * (size_t)C;
    double *score = take((size_t)token + 1, sizeof *score), highest = -HUGE_VAL, largest = 0, sum = 0;
    for (int t = 0; t <= token; t++) {
        const float *k = first + (size_t)t * 3 * (size_t)C + C;
        double size = 0;
        for (int d = 0; d < D; d++) {
            double term = (double)q[d] * rounded(a->dtype, k[d]);
            score[t] += term;
            size += fabs(term);
        }
        score[t] *= (double)a->scale;
        largest = fmax(largest, size * (double)a->scale);
        highest = fmax(highest, score[t]);
    }
    for (int t = 0; t <= token; t++) sum += score[t] = exp(score[t] - highest);
    // A score is off by D + 4 roundings of its terms (3 of them at least); so, relatively, is its
    // exponential, and numerator and denominator each. Then come the sums over the keys.
    double bound = 2 * ((D + 4) * unit * largest + 4 * unit) + 2 * (token + 4) * unit;
    for (int d = 0; d < D; d++) {
        double expected = 0, size = 0;
        for (int t = 0; t <= token; t++) {
            double value = rounded(a->dtype, first[(size_t)t * 3 * (size_t)C + (size_t)(2 * C + d)]);
            expected += score[t] / sum * value;
            size += score[t] / sum * fabs(value);
        }
        double found =
            (double)run->out[(size_t)(run->starts[row] + token) * (size_t)C + (size_t)(head * D + d)];
        if (!(fabs(found - expected) <= bound * size)) {
            fail_msg("%s B %d T %d H %d D %d, row %d token %d head %d channel %d: found %.9g, expected %.9g",
                     dtype_name(a->dtype), c->rows, c->tokens, c->heads, D, row, token, head, d, found,
                     expected);
        }
    }
    free(score);
}

// The last query of every row, and others spread over the batch: about `most` in all.
static void check_queries(const struct attention_run *run, const struct attention_case *c, int from,
                          int most) {
    int stride = run->total * c->heads / most + 1, count = 0;
    for (int row = 0; row < run->rows; row++) {
        for (int token = from; token < run->lengths[row]; token++) {
            for (int head = 0; head < c->heads; head++) {
                if (count++ % stride == 0 || (token == run->lengths[row] - 1 && head == row % c->heads))
                    check_query(run, c, row, token, head);
            }
        }
    }
}

static void check_attention(const struct attention_case *c, enum dtype dtype) {
    struct attention_run run = attention_open(c, dtype);
    int past = c->tokens - c->fed;
    if (past > 0) attention_feed(&run, 0, past);
    attention_feed(&run, past, c->tokens);
    check_queries(&run, c, 0, 400);
    attention_close(&run);
}

static void test_attention(void **state) {
    (void)state;
    static const struct attention_case cases[] = {
        // B, T, fed, H, D: prefill
        {1, 1, 1, 3, 4},
        {1, 17, 17, 5, 4},
        {3, 64, 64, 1, 32},
        {3, 65, 65, 3, 64},
        {1, 128, 128, 3, 128},
        {3, 250, 250, 1, 64},
        {1, 1023, 1023, 1, 64},
        {93, 17, 17, 3, 32},
        {93, 1, 1, 5, 64},
        {1, 250, 250, 7, 4},
        {3, 128, 128, 1, 20},
        // the last token after the others, as in decoding
        {1, 17, 1, 3, 64},
        {3, 64, 1, 5, 128},
        {93, 65, 1, 1, 64},
        {93, 128, 1, 3, 32},
        {1, 1023, 1, 3, 64},
        {3, 250, 1, 5, 4},
        {93, 250, 1, 1, 4},
        // several tokens after others
        {3, 65, 13, 3, 64},
        {1, 128, 40, 1, 32},
        {1, 250, 99, 1, 128},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        for (size_t d = 0; d < 2; d++) check_attention(&cases[i], dtypes[d]);
    }
}

// All tokens at once, or one at a time: the same bits.
static void test_attention_by_steps(void **state) {
    (void)state;
    const struct attention_case c = {3, 77, 77, 3, 64};
    for (size_t d = 0; d < 2; d++) {
        struct attention_run at_once = attention_open(&c, dtypes[d]),
                             by_steps = attention_open(&c, dtypes[d]);
        attention_feed(&at_once, 0, c.tokens);
        for (int t = 0; t < c.tokens; t++) attention_feed(&by_steps, t, t + 1);
        assert_memory_equal(by_steps.out, at_once.out,
                            (size_t)at_once.total * (size_t)(c.heads * c.head_size) * sizeof(float));
        attention_close(&at_once);
        attention_close(&by_steps);
    }
}

// ---- each token on its own
// ---------------------------------------------------------------------------------

static void check_layernorm(int channels, double offset) {
    enum { COUNT = 5, ROWS = 9 };
    const int rows[COUNT] = {8, 0, 3, 3, 5};
    const size_t C = (size_t)channels;
    const double epsilon = (double)1e-5f;
    float *x = random_floats(ROWS * C, 9), *weight = random_floats(C, 10), *bias = random_floats(C, 11);
    float *out = take(COUNT * C, sizeof *out);
    for (size_t i = 0; i < ROWS * C; i++) x[i] += (float)offset;
#pragma omp parallel num_threads(2)
    layernorm(x, rows, weight, bias, 1e-5f, COUNT, channels, out, &team);
    for (int i = 0; i < COUNT; i++) {
        const float *row = x + (size_t)rows[i] * C;
        double mean = 0, variance = 0, largest = 0;
        for (size_t k = 0; k < C; k++) mean += (double)row[k] / channels;
        for (size_t k = 0; k < C; k++)
            variance += ((double)row[k] - mean) * ((double)row[k] - mean) / channels;
        for (size_t k = 0; k < C; k++) largest = fmax(largest, fabs((double)row[k]));
        double deviation = sqrt(variance + epsilon);
        // The mean is off by up to C roundings of the largest element, which moves every result alike; the
        // deviation, relatively, by half as many again.
        double mean_error = (channels + 2) * unit * largest / deviation;
        for (size_t k = 0; k < C; k++) {
            double normal = ((double)row[k] - mean) / deviation;
            double expected = normal * (double)weight[k] + (double)bias[k];
            double bound =
                (mean_error + (channels / 2 + 8) * unit * fabs(normal) + mean_error * fabs(normal)) *
                    fabs((double)weight[k]) +
                2 * unit * (fabs(expected) + fabs((double)bias[k]));
            if (!(fabs((double)out[(size_t)i * C + k] - expected) <= bound)) {
                fail_msg("C %d, row %d, channel %zu: found %.9g, expected %.9g, bound %.2g", channels,
                         rows[i], k, (double)out[(size_t)i * C + k], expected, bound);
            }
        }
    }
    free(x), free(weight), free(bias), free(out);
}

static void test_layernorm(void **state) {
    (void)state;
    static const int channels[] = {4, 5, 17, 128, 192, 250, 768, 1600};
    for (size_t i = 0; i < sizeof channels / sizeof channels[0]; i++) {
        check_layernorm(channels[i], 0.0);
        check_layernorm(channels[i], 100.0);
    }
}

// Within 1e-6 of the exact value, and where that vanishes, within 1e-8: far below what is added to it.
static void test_gelu(void **state) {
    (void)state;
    enum { COUNT = 64007 };
    float *x = take(COUNT, sizeof *x), *found = take(COUNT, sizeof *found);
    for (int i = 0; i < COUNT; i++) found[i] = x[i] = (float)(i - COUNT / 2) / 2000.0f; // -16 .. 16
    gelu(found, COUNT);
    for (int i = 0; i < COUNT; i++) {
        double expected = gelu_exact((double)x[i]);
        if (!(fabs((double)found[i] - expected) <= 1e-6 * fabs(expected) + 1e-8))
            fail_msg("gelu(%.9g): found %.9g, expected %.9g", (double)x[i], (double)found[i], expected);
    }
    free(x), free(found);
    float extreme[5] = {-1e30f, -200.0f, 0.0f, 200.0f, 1e30f};
    gelu(extreme, 5);
    assert_true(fabsf(extreme[0]) < 1e-6f && fabsf(extreme[1]) < 1e-30f && extreme[2] == 0.0f);
    assert_true(extreme[3] == 200.0f && extreme[4] == 1e30f);
}

static void test_exp(void **state) {
    (void)state;
    for (int i = 0; i < 100000; i++) {
        float x = -87.0f + (float)i * (175.0f / 100000.0f); // -87 .. 88
        float found[VECTOR_WIDTH];
        vector_store(found, vector_exp(vector_all(x)));
        double expected = exp((double)x);
        if (!(fabs((double)found[VECTOR_WIDTH - 1] - expected) <= 4 * unit * expected))
            fail_msg("exp(%.9g): found %.9g, expected %.9g", (double)x, (double)found[0], expected);
    }
    float found[VECTOR_WIDTH];
    vector_store(found, vector_exp(vector_all(-INFINITY)));
    assert_true(found[0] == 0.0f);
}

static void test_embed(void **state) {
    (void)state;
    enum { VOCAB = 70, CONTEXT = 9, CHANNELS = 30, COUNT = 6 };
    const int32_t tokens[COUNT] = {69, 0, 31, 32, 33, 5};
    const int positions[COUNT] = {0, 1, 8, 0, 4, 4};
    float *weights = random_floats((size_t)VOCAB * CHANNELS, 12),
          *wpe = random_floats((size_t)CONTEXT * CHANNELS, 13);
    float x[COUNT * CHANNELS];
    for (size_t d = 0; d < 2; d++) {
        struct matrix wte = packed(dtypes[d], CHANNELS, VOCAB, weights, NULL);
#pragma omp parallel num_threads(2)
        embed(&wte, wpe, COUNT, tokens, positions, x, &team);
        for (int i = 0; i < COUNT * CHANNELS; i++) {
            int c = i % CHANNELS, token = tokens[i / CHANNELS], position = positions[i / CHANNELS];
            double sum =
                rounded(dtypes[d], weights[token * CHANNELS + c]) + (double)wpe[position * CHANNELS + c];
            assert_true((double)x[i] == (double)(float)sum);
        }
        matrix_free(&wte);
    }
    free(weights), free(wpe);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_products),
        cmocka_unit_test(test_rows_do_not_depend_on_each_other),
        cmocka_unit_test(test_packed_rows_read_back),
        cmocka_unit_test(test_attention),
        cmocka_unit_test(test_attention_by_steps),
        cmocka_unit_test(test_layernorm),
        cmocka_unit_test(test_gelu),
        cmocka_unit_test(test_exp),
        cmocka_unit_test(test_embed),
    };
    team_init(&team);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    team_destroy(&team);
    return failed;
}
