// Conversions between f32, f16 and bf16 against the formats' definitions, at every value and every tie.
#include "base/dtype.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

// A 16-bit format by its definition: (-1)^sign 1.fraction 2^(exponent - bias), subnormal at exponent 0.
struct format {
    enum dtype dtype;
    int fraction_bits, bias;
    uint16_t infinity;
    uint16_t (*narrow)(float);
    float (*widen)(uint16_t);
};

static const struct format formats[] = {
    {DTYPE_F16, 10, 15, 0x7C00, f32_to_f16, f16_to_f32},
    {DTYPE_BF16, 7, 127, 0x7F80, f32_to_bf16, bf16_to_f32},
};

static double value_of(const struct format *format, unsigned bits) {
    unsigned fraction = bits & ((1u << format->fraction_bits) - 1);
    int exponent = (int)(bits >> format->fraction_bits);
    double significand = exponent == 0 ? fraction : fraction + (1u << format->fraction_bits);
    return ldexp(significand, (exponent == 0 ? 1 : exponent) - format->bias - format->fraction_bits);
}

static void every_value_widens_exactly(void **state) {
    (void)state;
    for (size_t f = 0; f < 2; f++) {
        const struct format *format = &formats[f];
        for (unsigned bits = 0; bits < format->infinity; bits++) {
            assert_true((double)format->widen((uint16_t)bits) == value_of(format, bits));
            assert_true((double)format->widen((uint16_t)(bits | 0x8000)) == -value_of(format, bits));
            assert_int_equal(format->narrow(format->widen((uint16_t)bits)), bits);
            assert_int_equal(format->narrow(format->widen((uint16_t)(bits | 0x8000))), bits | 0x8000);
        }
        assert_true(isinf(format->widen(format->infinity)));
        assert_true(format->widen(format->infinity | 0x8000) == -INFINITY);
        for (unsigned bits = format->infinity + 1u; bits < 0x8000; bits++) {
            assert_true(isnan(format->widen((uint16_t)bits)));
            assert_true(isnan(format->widen(format->narrow(format->widen((uint16_t)bits)))));
        }
    }
}

// Between neighbours there is one tie: it goes to the even one, the floats around it to their own side. Past
// the largest finite value, infinity takes the place that the next value would have.
static void every_tie_rounds_to_even(void **state) {
    (void)state;
    for (size_t f = 0; f < 2; f++) {
        const struct format *format = &formats[f];
        for (unsigned low = 0; low < format->infinity; low++) {
            unsigned high = low + 1;
            double exact = (value_of(format, low) + value_of(format, high)) / 2;
            float tie = (float)exact;
            if ((double)tie != exact) continue; // two bf16 subnormals of float's smallest step have none
            for (int negative = 0; negative < 2; negative++) {
                float sign = negative ? -1.0f : 1.0f;
                unsigned bit = negative ? 0x8000 : 0;
                assert_int_equal(format->narrow(sign * tie), (low % 2 == 0 ? low : high) | bit);
                assert_int_equal(format->narrow(sign * nextafterf(tie, 0)), low | bit);
                assert_int_equal(format->narrow(sign * nextafterf(tie, INFINITY)), high | bit);
            }
        }
    }
}

static void special_values_stay_special(void **state) {
    (void)state;
    for (size_t f = 0; f < 2; f++) {
        const struct format *format = &formats[f];
        assert_int_equal(format->narrow(INFINITY), format->infinity);
        assert_int_equal(format->narrow(-INFINITY), format->infinity | 0x8000);
        assert_int_equal(format->narrow(3.4028235e38f), format->infinity);
        assert_int_equal(format->narrow(-0.0f), 0x8000);
        for (int bit = 0; bit < 23; bit++) { // also NaNs whose upper fraction bits are all zero
            uint32_t bits = 0x7F800000u | 1u << bit;
            float nan;
            memcpy(&nan, &bits, sizeof nan);
            assert_true(isnan(format->widen(format->narrow(nan))));
        }
    }
}

// Counts on both sides of where threads take over, bytes at every alignment.
static void many_convert_like_one(void **state) {
    (void)state;
    static const size_t counts[] = {0, 1, 7, 100, 65536, 65537, 200003};
    enum { MOST = 200003 };
    float *values = malloc(MOST * sizeof *values), *back = malloc(MOST * sizeof *back);
    unsigned char *bytes = malloc(MOST * sizeof *values + 8);
    assert_true(values != NULL && back != NULL && bytes != NULL);
    uint32_t bits = 1;
    for (size_t i = 0; i < MOST; i++) {
        bits = bits * 1664525u + 1013904223u;
        memcpy(&values[i], &bits, sizeof bits);
        if (isnan(values[i])) values[i] = 1;
    }
    for (int dtype = DTYPE_F32; dtype <= DTYPE_BF16; dtype++) {
        for (size_t c = 0; c < sizeof counts / sizeof counts[0]; c++) {
            size_t count = counts[c], size = dtype_size((enum dtype)dtype), offset = c % 4;
            bytes[offset + count * size] = 0xA5;
            dtype_from_f32((enum dtype)dtype, values, bytes + offset, count);
            dtype_to_f32((enum dtype)dtype, bytes + offset, back, count);
            assert_int_equal(bytes[offset + count * size], 0xA5);
            for (size_t i = 0; i < count; i++) {
                float expected = dtype == DTYPE_F32   ? values[i]
                                 : dtype == DTYPE_F16 ? f16_to_f32(f32_to_f16(values[i]))
                                                      : bf16_to_f32(f32_to_bf16(values[i]));
                assert_memory_equal(&back[i], &expected, sizeof expected);
            }
        }
    }
    free(values);
    free(back);
    free(bytes);
}

static void dtypes_have_names_and_sizes(void **state) {
    (void)state;
    assert_string_equal(dtype_name(DTYPE_F32), "f32");
    assert_string_equal(dtype_name(DTYPE_F16), "f16");
    assert_string_equal(dtype_name(DTYPE_BF16), "bf16");
    assert_int_equal(dtype_size(DTYPE_F32), 4);
    assert_int_equal(dtype_size(DTYPE_F16), 2);
    assert_int_equal(dtype_size(DTYPE_BF16), 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_value_widens_exactly),  cmocka_unit_test(every_tie_rounds_to_even),
        cmocka_unit_test(special_values_stay_special), cmocka_unit_test(many_convert_like_one),
        cmocka_unit_test(dtypes_have_names_and_sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
