// The warp that brings a block's weights, and the order in which it does.
#ifndef CUDA_PERSISTENT_FEED_CUH
#define CUDA_PERSISTENT_FEED_CUH

#include "cuda/persistent_block.cuh"

namespace persistent {

struct feeder {
    shared_state *s;
    unsigned char *slots;
    int lane;
    uint64_t policy;
    ring at;

    // Waits until the next slot is free, and promises what it will get.
    template <typename S>
    __device__ unsigned char *next_slot(const arguments &a) {
        barrier_wait(s->empty + at.stage, at.parity ^ 1);
        if (lane == 0) barrier_expect(s->full + at.stage, TILE * 2 * S::C(a));
        __syncwarp();
        return slots + at.stage * S::at(a).slot;
    }
};

// 8 rows of weight (*, C) for every tile.
template <typename S>
__device__ inline void feed_tiles(feeder *f, const arguments &a, const void *weight, const tile_set &tiles) {
    const typename S::T *rows = static_cast<const typename S::T *>(weight) + (size_t)f->lane * S::C(a);
#pragma unroll 1
    for (int tile = 0; tile < tiles.count; tile++) {
        unsigned char *slot = f->next_slot<S>(a);
        if (f->lane < TILE)
            copy_bytes_once(slot + f->lane * S::at(a).tile_row, rows + (size_t)tiles.column(tile) * S::C(a),
                            2 * (uint32_t)S::C(a), f->s->full + f->at.stage, f->policy);
        f->at.advance(a.ring.stages);
    }
}

// 64 inputs, from `input` on, of the block's channels.
template <typename S>
__device__ inline void feed_slice(feeder *f, const arguments &a, const CUtensorMap *map, int input,
                                  int layer) {
    unsigned char *slot = f->next_slot<S>(a);
    if (f->lane == 0)
        copy_slice_once(slot, map, input, rank_of_block() * S::channels(a), layer, f->s->full + f->at.stage,
                        f->policy);
    f->at.advance(a.ring.stages);
}

// In the order in which the multipliers take them (multiply_steps).
template <typename S>
__device__ inline void feed(feeder *f, const arguments &a) {
    using T = typename S::T;
    const int heads = f->s->heads_owned, groups = f->s->groups_owned;
#pragma unroll 1
    for (int step = 0; step < a.steps; step++) {
#pragma unroll 1
        for (int layer = 0; layer < a.m.L; layer++) {
#pragma unroll 1
            for (int item = 0; item < heads; item += S::HEADS_AT_ONCE) {
                const head_set now = heads_of<S>(a, item, heads);
                feed_tiles<S>(f, a, of_layer<T>(a.m.qkvw, layer), qkv_tiles<S>(a, now));
#pragma unroll 1
                for (int i = 0; i < now.count; i++)
                    feed_slice<S>(f, a, &a.attprojw, (now.first + i * a.clusters) * HEAD_D, layer);
            }
            feed_tiles<S>(f, a, of_layer<T>(a.m.fcw, layer), fc_tiles(a, groups));
#pragma unroll 1
            for (int i = 0; i < groups; i++)
                feed_slice<S>(f, a, &a.fcprojw, (a.first_group[cluster_of_block()] + i) * HEAD_D, layer);
        }
        feed_tiles<S>(f, a, a.m.head, vocab_tiles(f->s->vocab_owned));
    }
}

} // namespace persistent

#endif
