// Vectors of the width this build targets, as GCC and Clang offer them: arithmetic on whole vectors compiles
// to the machine's instructions, so one source serves AVX-512, AVX2, SSE2 and NEON.
#ifndef CPU_VECTOR_H
#define CPU_VECTOR_H

#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__)
#    define VECTOR_WIDTH 16
#    define VECTOR_NAME "AVX-512"
#elif defined(__AVX2__)
#    define VECTOR_WIDTH 8
#    define VECTOR_NAME "AVX2"
#else
#    define VECTOR_WIDTH 4
#    define VECTOR_NAME "128-bit vectors"
#endif

typedef float vector_f32 __attribute__((vector_size(4 * VECTOR_WIDTH)));
typedef int32_t vector_i32 __attribute__((vector_size(4 * VECTOR_WIDTH)));
typedef uint32_t vector_u32 __attribute__((vector_size(4 * VECTOR_WIDTH)));

// Loads and stores anywhere: memcpy of a whole vector is one unaligned move.
static inline vector_f32 vector_load(const float *from) {
    vector_f32 value;
    memcpy(&value, from, sizeof value);
    return value;
}
static inline void vector_store(float *to, vector_f32 value) {
    memcpy(to, &value, sizeof value);
}
static inline vector_f32 vector_all(float value) {
    return (vector_f32){0} + value;
}

// `mask` is what a comparison gives: all ones or all zeros per lane.
static inline vector_f32 vector_select(vector_i32 mask, vector_f32 yes, vector_f32 no) {
    return (vector_f32)((mask & (vector_i32)yes) | (~mask & (vector_i32)no));
}
static inline vector_f32 vector_max(vector_f32 a, vector_f32 b) {
    return vector_select(a > b, a, b);
}
static inline vector_f32 vector_min(vector_f32 a, vector_f32 b) {
    return vector_select(a < b, a, b);
}

static inline float vector_sum(vector_f32 value) {
    float lanes[VECTOR_WIDTH];
    vector_store(lanes, value);
    for (int half = VECTOR_WIDTH / 2; half > 0; half /= 2) {
        for (int i = 0; i < half; i++) lanes[i] += lanes[i + half];
    }
    return lanes[0];
}
static inline float vector_highest(vector_f32 value) {
    float lanes[VECTOR_WIDTH];
    vector_store(lanes, value);
    for (int i = 1; i < VECTOR_WIDTH; i++) lanes[0] = lanes[i] > lanes[0] ? lanes[i] : lanes[0];
    return lanes[0];
}

// e^x within 2 units in the last place; 0 below -87.3, where results would be subnormal, and e^88.3 above
// 88.3. x = n ln 2 + r with |r| <= ln 2 / 2, e^r by its Taylor polynomial, 2^n by the exponent's bits.
static inline vector_f32 vector_exp(vector_f32 x) {
    const float lowest = -87.3f, highest = 88.3f;
    const float round_magic = 0x1.8p23f; // adding it leaves the nearest integer in the low mantissa bits
    const float ln2_high = 0x1.62e4p-1f, ln2_low = 0x1.7f7d1cp-20f; // n ln2_high is exact
    vector_f32 clamped = vector_min(vector_max(x, vector_all(lowest)), vector_all(highest));
    vector_f32 shifted = clamped * 0x1.715476p0f + round_magic;
    vector_f32 n = shifted - round_magic;
    vector_f32 r = (clamped - n * ln2_high) - n * ln2_low;
    vector_f32 polynomial = vector_all(1.0f / 5040.0f);
    polynomial = polynomial * r + 1.0f / 720.0f;
    polynomial = polynomial * r + 1.0f / 120.0f;
    polynomial = polynomial * r + 1.0f / 24.0f;
    polynomial = polynomial * r + 1.0f / 6.0f;
    polynomial = polynomial * r + 0.5f;
    polynomial = polynomial * r + 1.0f;
    polynomial = polynomial * r + 1.0f;
    vector_f32 power = (vector_f32)(((vector_u32)shifted << 23) + (127u << 23));
    return (vector_f32)((vector_i32)(polynomial * power) & (x >= lowest));
}

#endif
