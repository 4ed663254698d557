// The three number formats weights are stored and computed in, and their conversions.
#ifndef BASE_DTYPE_H
#define BASE_DTYPE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum dtype { DTYPE_F32, DTYPE_F16, DTYPE_BF16 };

size_t dtype_size(enum dtype dtype);      // bytes per element
const char *dtype_name(enum dtype dtype); // "f32", "f16", "bf16"

// Rounds to nearest, ties to even; NaN stays NaN, overflow becomes infinity.
uint16_t f32_to_bf16(float value);
uint16_t f32_to_f16(float value);
// Exact.
float bf16_to_f32(uint16_t bits);
float f16_to_f32(uint16_t bits);

// Converts `count` elements of `from` into f32 (exact) and back, threaded with OpenMP when there are many.
// Pointers may be unaligned on the dtype side.
void dtype_to_f32(enum dtype from, const void *source, float *destination, size_t count);
void dtype_from_f32(enum dtype to, const float *source, void *destination, size_t count);

#ifdef __cplusplus
}
#endif
#endif
