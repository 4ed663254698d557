// The warp that brings a block's weights, and the order in which it does.
#ifndef CUDA_PERSISTENT_FEED_CUH
#define CUDA_PERSISTENT_FEED_CUH

#include "cuda/persistent_block.cuh"

namespace persistent {

// Tiles of every product in turn: two together, part of K after part of K. The multipliers take them in the
// same order (persistent_product.cuh).
template <typename T>
__device__ inline void feed(const arguments &a, shared_state *s, unsigned char *slots) {
    const uint64_t policy = evict_first_policy();
    const int C = a.m.C, lane = threadIdx.x % WARP, products = HEAD * a.m.L + 1;
    ring at;
#pragma unroll 1
    for (int done = 0, i = 0; done < a.steps * products; done++, i = i + 1 == products ? 0 : i + 1) {
        const int layer = i / HEAD;
        const product &p = a.products[i + 1 == products ? (int)HEAD : i % HEAD];
        const tile_range tiles = s->tiles[i + 1 == products ? (int)HEAD : i % HEAD];
        const T *weight = of_layer<T>(p.weight, layer);
        const int parts = p.parts;
#pragma unroll 1
        for (int pair = 0; pair < tiles.count; pair += 2) {
#pragma unroll 1
            for (int part = 0; part < parts; part++) {
#pragma unroll 1
                for (int tile = pair; tile < min(pair + 2, tiles.count); tile++, at.advance(a.stages)) {
                    barrier_wait(s->empty + at.stage, at.parity ^ 1);
                    if (lane == 0) barrier_expect(s->full + at.stage, TILE * C * (int)sizeof(T));
                    __syncwarp();
                    const size_t row = (size_t)(tiles.first + tile) * TILE + lane;
                    if (lane < TILE)
                        copy_bytes_once(slots + at.stage * a.slot_bytes + lane * a.row_bytes,
                                        weight + (row * parts + part) * C, C * (int)sizeof(T),
                                        s->full + at.stage, policy);
                }
            }
        }
    }
}

} // namespace persistent

#endif
