// One block of memory, divided into aligned pieces: lay out once to count, reserve, lay out again to hand
// out.
#ifndef CPU_ARENA_H
#define CPU_ARENA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct arena {
    char *base; // NULL while counting
    int64_t used;
};

// `count` zeroed elements, aligned to a cache line; NULL while counting. `used` stops at ARENA_TOO_MUCH
// instead of overflowing.
#define ARENA_TOO_MUCH ((int64_t)1 << 60)
void *arena_take(struct arena *arena, size_t count, size_t size);

// Takes `used` bytes from the system, for real: every page is written, so that the first use of a piece costs
// what later uses cost. Then starts over at the base. False when the system refuses; nothing is held then.
bool arena_reserve(struct arena *arena, int threads);
void arena_free(struct arena *arena);

#endif
