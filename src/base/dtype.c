#include "base/dtype.h"

#include <string.h>

size_t dtype_size(enum dtype dtype) {
    return dtype == DTYPE_F32 ? 4 : 2;
}

const char *dtype_name(enum dtype dtype) {
    static const char *const names[] = {[DTYPE_F32] = "f32", [DTYPE_F16] = "f16", [DTYPE_BF16] = "bf16"};
    return names[dtype];
}

// ---- one element --------------------------------------------------------------------------------
// All without branches, so that the loops below vectorise.

static inline uint32_t float_bits(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline float bits_float(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline uint16_t to_bf16(float value) {
    uint32_t bits = float_bits(value);
    uint32_t rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16;
    uint32_t quiet_nan = (bits >> 16) | 0x40; // truncation alone could turn a NaN into infinity
    return (uint16_t)((bits & 0x7FFFFFFF) > 0x7F800000 ? quiet_nan : rounded);
}

static inline float from_bf16(uint16_t bits) {
    return bits_float((uint32_t)bits << 16);
}

static inline uint16_t to_f16(float value) {
    uint32_t bits = float_bits(value);
    uint32_t sign = (bits >> 16) & 0x8000, magnitude = bits & 0x7FFFFFFF;
    // Normal: move the exponent's bias from 127 to 15 and round 13 bits away; a carry rightly moves up to the
    // next exponent, at the top to infinity.
    uint32_t normal = (magnitude - (112u << 23) + 0xFFF + ((magnitude >> 13) & 1)) >> 13;
    // Below 2^-14: adding 0.5, whose last bit is 2^-24, makes the addition round to the subnormal's grid.
    uint32_t subnormal = float_bits(bits_float(magnitude) + 0.5f) - 0x3F000000;
    uint32_t special = magnitude > 0x7F800000 ? 0x7E00 | ((magnitude >> 13) & 0x3FF) : 0x7C00;
    uint32_t finite = magnitude < 0x38800000 ? subnormal : normal;
    return (uint16_t)(sign | (magnitude >= 0x47800000 ? special : finite)); // 2^16 and above: infinity or NaN
}

static inline float from_f16(uint16_t bits) {
    uint32_t sign = ((uint32_t)bits & 0x8000) << 16, magnitude = ((uint32_t)bits & 0x7FFF) << 13;
    uint32_t normal = magnitude + (112u << 23);
    uint32_t special = magnitude | 0x7F800000;
    // Subnormal: put the fraction under the implicit one of 2^-14, then take that one away.
    uint32_t subnormal = float_bits(bits_float(magnitude + (113u << 23)) - 0x1p-14f);
    uint32_t finite = magnitude < (1u << 23) ? subnormal : normal;
    return bits_float(sign | (magnitude >= (31u << 23) ? special : finite));
}

uint16_t f32_to_bf16(float value) {
    return to_bf16(value);
}
uint16_t f32_to_f16(float value) {
    return to_f16(value);
}
float bf16_to_f32(uint16_t bits) {
    return from_bf16(bits);
}
float f16_to_f32(uint16_t bits) {
    return from_f16(bits);
}

// ---- many elements ------------------------------------------------------------------------------

enum { BLOCK = 1 << 16 }; // elements a thread converts at a time

#define DEFINE_BLOCK_CONVERSIONS(name)                                                                       \
    static void name##_block_to_f32(const unsigned char *source, float *destination, size_t count) {         \
        for (size_t i = 0; i < count; i++) {                                                                 \
            uint16_t bits;                                                                                   \
            memcpy(&bits, source + i * sizeof bits, sizeof bits);                                            \
            destination[i] = from_##name(bits);                                                              \
        }                                                                                                    \
    }                                                                                                        \
    static void name##_block_from_f32(const float *source, unsigned char *destination, size_t count) {       \
        for (size_t i = 0; i < count; i++) {                                                                 \
            uint16_t bits = to_##name(source[i]);                                                            \
            memcpy(destination + i * sizeof bits, &bits, sizeof bits);                                       \
        }                                                                                                    \
    }

DEFINE_BLOCK_CONVERSIONS(bf16)
DEFINE_BLOCK_CONVERSIONS(f16)

static void block_to_f32(enum dtype from, const unsigned char *source, float *destination, size_t count) {
    switch (from) {
    case DTYPE_F32:
        memcpy(destination, source, count * sizeof *destination);
        break;
    case DTYPE_F16:
        f16_block_to_f32(source, destination, count);
        break;
    case DTYPE_BF16:
        bf16_block_to_f32(source, destination, count);
        break;
    }
}

static void block_from_f32(enum dtype to, const float *source, unsigned char *destination, size_t count) {
    switch (to) {
    case DTYPE_F32:
        memcpy(destination, source, count * sizeof *source);
        break;
    case DTYPE_F16:
        f16_block_from_f32(source, destination, count);
        break;
    case DTYPE_BF16:
        bf16_block_from_f32(source, destination, count);
        break;
    }
}

void dtype_to_f32(enum dtype from, const void *source, float *destination, size_t count) {
    const unsigned char *bytes = source;
    if (count <= BLOCK) { // not even a team of one, which costs more than a short row
        block_to_f32(from, source, destination, count);
        return;
    }
#pragma omp parallel for schedule(static)
    for (size_t first = 0; first < count; first += BLOCK) {
        size_t n = count - first < BLOCK ? count - first : BLOCK;
        block_to_f32(from, bytes + first * dtype_size(from), destination + first, n);
    }
}

void dtype_from_f32(enum dtype to, const float *source, void *destination, size_t count) {
    unsigned char *bytes = destination;
    if (count <= BLOCK) {
        block_from_f32(to, source, destination, count);
        return;
    }
#pragma omp parallel for schedule(static)
    for (size_t first = 0; first < count; first += BLOCK) {
        size_t n = count - first < BLOCK ? count - first : BLOCK;
        block_from_f32(to, source + first, bytes + first * dtype_size(to), n);
    }
}
