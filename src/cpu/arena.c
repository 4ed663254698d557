#define _DEFAULT_SOURCE // madvise
#include "cpu/arena.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

void *arena_take(struct arena *arena, size_t count, size_t size) {
    const int64_t line = 64;
    int64_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes) || bytes > ARENA_TOO_MUCH - line) bytes = ARENA_TOO_MUCH;
    void *piece = arena->base ? arena->base + arena->used : NULL;
    int64_t used = arena->used + (bytes + line - 1) / line * line;
    arena->used = used < ARENA_TOO_MUCH ? used : ARENA_TOO_MUCH;
    return piece;
}

bool arena_reserve(struct arena *arena, int threads) {
    const int64_t page = 2 << 20; // a huge page: fewer address translations when streaming
    if (arena->used >= ARENA_TOO_MUCH) return false;
    int64_t pages = arena->used / page + 1;
    arena->base = aligned_alloc((size_t)page, (size_t)(pages * page));
    if (!arena->base) return false;
    madvise(arena->base, (size_t)(pages * page), MADV_HUGEPAGE); // only a hint
#pragma omp parallel for num_threads(threads)
    for (int64_t i = 0; i < pages; i++) memset(arena->base + i * page, 0, (size_t)page);
    arena->used = 0;
    return true;
}

void arena_free(struct arena *arena) {
    free(arena->base);
    arena->base = NULL;
}
