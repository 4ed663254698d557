// Random models: normal, N(0, 0.02), by an independent computation and by their distribution; the same for
// any number of threads.
#include "base/philox.h"
#include "models/model.h"

#include <math.h>
#include <omp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct model *open_model(const char *name) {
    struct error error;
    struct model *model;
    if (model_open(name, &model, &error) != STATUS_OK) fail_msg("%s", error.message);
    return model;
}

// The caller frees.
static float *read_tensor(const struct model *model, enum gpt2_tensor tensor, int layer, size_t *count) {
    struct gpt2_shape shape = gpt2_tensor_shape(model_config(model), tensor);
    *count = (size_t)shape.rows * (size_t)shape.columns;
    float *weights = malloc(*count * sizeof *weights);
    assert_non_null(weights);
    model_read(model, tensor, layer, weights);
    return weights;
}

// ---- each weight --------------------------------------------------------------------------------

// Box and Muller's formula in double, from the same random words: the first gives the uniform number, which
// has f32's 24 bits (near 1 more would make a difference to small radii); the angle is what the upper 30 bits
// of the second word say in quarter turns, bit 1 reflects it at the diagonal and bit 0 at the origin.
static double expected_normal(uint64_t element, enum gpt2_tensor tensor, int layer, double *radius) {
    const double pi = 3.14159265358979323846;
    const uint32_t key[2] = {0x67707432, 0x696E6665};
    const uint32_t counter[4] = {(uint32_t)(element / 4), 0, (uint32_t)tensor, (uint32_t)layer};
    uint32_t words[4];
    philox4x32(counter, key, words);
    const uint32_t *pair = words + element % 4 / 2 * 2;
    *radius = sqrt(-2 * log((double)((float)pair[0] + 0.5f) / 4294967296.0));
    double quarter = (pair[1] >> 2) / 1073741824.0; // 0 .. 1
    if (quarter >= 0.5) quarter -= 1;
    double angle = pi / 2 * quarter;
    if (pair[1] & 2) angle = pi / 2 - angle;
    if (pair[1] & 1) angle += pi;
    return *radius * (element % 2 == 0 ? cos(angle) : sin(angle));
}

static void every_weight_is_box_mullers(void **state) {
    (void)state;
    struct model *model = open_model("random:L3-C36-H2-V1009-T33");
    for (int t = 0; t < GPT2_LMHEAD; t++) {
        enum gpt2_tensor tensor = (enum gpt2_tensor)t;
        double mean = tensor == GPT2_LN1W || tensor == GPT2_LN2W || tensor == GPT2_LNFW ? 1 : 0;
        for (int layer = 0; layer < (gpt2_tensor_info(tensor)->per_layer ? 3 : 1); layer++) {
            size_t count;
            float *weights = read_tensor(model, tensor, layer, &count);
            for (size_t i = 0; i < count; i++) {
                double radius, expected = mean + 0.02 * expected_normal(i, tensor, layer, &radius);
                // A few roundings of f32 on the way to a number up to the radius, one of 1 + w.
                double tolerance = 0.02 * radius * 4 * 0x1p-24 + mean * 0x1p-24;
                if (!(fabs((double)weights[i] - expected) <= tolerance))
                    fail_msg("element %zu is %.9g, expected %.9g", i, (double)weights[i], expected);
            }
            free(weights);
        }
    }
    model_close(model);
}

// ---- all together -------------------------------------------------------------------------------

enum { BINS = 1000 };

// Deterministic data: bounds are where a correct sample lies with all but one in ten thousand seeds.
static void weights_are_normally_distributed(void **state) {
    (void)state;
    struct model *model = open_model("random:L1-C512-H1-V8192-T2");
    size_t count;
    float *weights = read_tensor(model, GPT2_WTE, 0, &count);
    static double bins[BINS];
    double n = (double)count, moments[5] = {0}, beyond4 = 0, neighbours = 0, squares = 0, last = 0;
    for (size_t i = 0; i < count; i++) {
        double z = (double)weights[i] / 0.02, power = 1;
        for (int m = 1; m <= 4; m++) moments[m] += (power *= z) / n;
        double below = 0.5 * erfc(-z / sqrt(2));
        bins[(int)(below * BINS) < BINS ? (int)(below * BINS) : BINS - 1]++;
        if (fabs(z) > 4) beyond4++;
        neighbours += z * last / n;
        squares += (z * z - 1) * (last * last - 1) / n;
        last = z;
    }
    double sigma = sqrt(1 / n), sigmas = 3.9; // of a normal statistic
    assert_true(fabs(moments[1]) < sigmas * sigma);
    assert_true(fabs(moments[2] - 1) < sigmas * sigma * sqrt(2));  // variance of z^2
    assert_true(fabs(moments[3]) < sigmas * sigma * sqrt(15));     // of z^3
    assert_true(fabs(moments[4] - 3) < sigmas * sigma * sqrt(96)); // of z^4
    assert_true(fabs(neighbours) < sigmas * sigma);                // of z z'
    assert_true(fabs(squares) < sigmas * sigma * 2);               // of (z^2 - 1)(z'^2 - 1)
    double tail = n * erfc(4 / sqrt(2));                           // Poisson
    assert_true(fabs(beyond4 - tail) < sigmas * sqrt(tail));

    double chi_square = 0, cumulated = 0, distance = 0;
    for (int b = 0; b < BINS; b++) {
        double expected = n / BINS;
        chi_square += (bins[b] - expected) * (bins[b] - expected) / expected;
        cumulated += bins[b] / n;
        distance = fmax(distance, fabs(cumulated - (b + 1.0) / BINS));
    }
    assert_true(fabs(chi_square - (BINS - 1)) < sigmas * sqrt(2 * (BINS - 1)));
    assert_true(distance * sqrt(n) < 2.22); // Kolmogorov and Smirnov: 2 exp(-2 x^2) = 1e-4
    free(weights);
    model_close(model);
}

static void layers_and_tensors_are_independent(void **state) {
    (void)state;
    struct model *model = open_model("random:L2-C128-H2-V512-T256");
    size_t count;
    float *tensors[4] = {read_tensor(model, GPT2_FCW, 0, &count), read_tensor(model, GPT2_FCW, 1, &count),
                         read_tensor(model, GPT2_FCPROJW, 0, &count),
                         read_tensor(model, GPT2_WTE, 0, &count)};
    for (int a = 0; a < 4; a++) {
        for (int b = 0; b < a; b++) {
            double product = 0;
            for (size_t i = 0; i < count; i++)
                product += (double)tensors[a][i] * (double)tensors[b][i] / (0.02 * 0.02);
            assert_true(fabs(product) < 3.9 * sqrt((double)count));
        }
    }
    for (int a = 0; a < 4; a++) free(tensors[a]);
    model_close(model);
}

static void threads_change_nothing(void **state) {
    (void)state;
    struct model *model = open_model("random:L1-C96-H3-V1003-T31");
    int threads = omp_get_max_threads();
    for (int t = 0; t < GPT2_LMHEAD; t++) {
        float *weights[3];
        size_t count;
        for (int n = 0; n < 3; n++) {
            omp_set_num_threads(1 + n);
            weights[n] = read_tensor(model, (enum gpt2_tensor)t, 0, &count);
        }
        for (int n = 1; n < 3; n++) assert_memory_equal(weights[0], weights[n], count * sizeof **weights);
        for (int n = 0; n < 3; n++) free(weights[n]);
    }
    omp_set_num_threads(threads);
    model_close(model);
}

// ---- names --------------------------------------------------------------------------------------

static void names_give_sizes(void **state) {
    (void)state;
    struct model *model = open_model("random:L12-C768-H12-V50257-T1024"), *gpt2 = open_model("random:gpt2");
    struct gpt2_config a = *model_config(model), b = *model_config(gpt2);
    assert_int_equal(a.layers, 12);
    assert_int_equal(a.channels, 768);
    assert_int_equal(a.heads, 12);
    assert_int_equal(a.vocab, 50257);
    assert_int_equal(a.context, 1024);
    assert_int_equal(a.inner, 3072);
    assert_int_equal(a.eos_token, 50256);
    assert_true(a.tied_lm_head && a.scale_attention && !a.scale_attention_by_layer);
    assert_true(b.layers == 12 && b.channels == 768 && b.heads == 12 && b.vocab == 50257 &&
                b.context == 1024);
    assert_string_equal(model_name(gpt2), "random:gpt2");
    assert_string_equal(model_format(gpt2), "random");
    assert_int_equal(model_stored_dtype(gpt2), DTYPE_BF16);
    assert_null(model_directory(gpt2));
    model_close(model);
    model_close(gpt2);
    model_close(NULL);
}

static void other_names_are_refused(void **state) {
    (void)state;
    static const char *const bad[] = {
        "random:",
        "random:gpt3",
        "random:GPT2",
        "random:gpt2 ",
        "random:L12",
        "random:L12-C768-H12-V50257",
        "random:L12-C768-H12-V50257-T",
        "random:L12-C768-H12-V50257-T1024-",
        "random:L12-C768-H12-V50257-T1024x",
        "random:C768-L12-H12-V50257-T1024",
        "random:L-1-C768-H12-V50257-T1024",
        "random:L+1-C768-H12-V50257-T1024",
        "random:L0-C768-H12-V50257-T1024",
        "random:L1025-C768-H12-V50257-T1024",
        "random:L12-C768-H7-V50257-T1024",
        "random:L12-C0-H1-V50257-T1024",
        "random:L12-C65537-H1-V50257-T1024",
        "random:L12-C768-H0-V50257-T1024",
        "random:L12-C768-H12-V0-T1024",
        "random:L12-C768-H12-V999999999-T1024",
        "random:L12-C768-H12-V99999999999999999999-T1024",
        "random:L12-C768-H12-V50257-T0",
        "random:L12-C768-H12-V50257-T4294967297",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct error error;
        struct model *model;
        assert_int_equal(model_open(bad[i], &model, &error), STATUS_USAGE);
        assert_null(model);
        if (strstr(error.message, bad[i]) == NULL || strstr(error.message, "expected") == NULL)
            fail_msg("\"%s\" is no message about %s", error.message, bad[i]);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_weight_is_box_mullers),
        cmocka_unit_test(weights_are_normally_distributed),
        cmocka_unit_test(layers_and_tensors_are_independent),
        cmocka_unit_test(threads_change_nothing),
        cmocka_unit_test(names_give_sizes),
        cmocka_unit_test(other_names_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
