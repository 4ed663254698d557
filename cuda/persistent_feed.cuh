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
    ring fill;   // the next slot
    ring flight; // the oldest of those that are on their way,
    int flying;  // of so many,
    int most;    // at most, for now

    // The next slot, once it is free and not too many are on their way; promises what it will get.
    template <typename S>
    __device__ unsigned char *next_slot(const arguments &a, uint64_t **full) {
        while (flying >= most) {
            barrier_wait(s->full + flight.stage, flight.parity);
            flight.advance(a.ring.stages);
            flying--;
        }
        barrier_wait(s->empty + fill.stage, fill.parity ^ 1);
        *full = s->full + fill.stage;
        if (lane == 0) barrier_expect(*full, TILE * 2 * (uint32_t)S::C(a));
        __syncwarp();
        unsigned char *slot = slots + fill.stage * S::at(a).slot;
        fill.advance(a.ring.stages);
        flying++;
        return slot;
    }
};

// 8 rows of weight (*, C) for every tile.
template <typename S>
__device__ inline void feed_tiles(feeder *f, const arguments &a, const void *weight, const tile_set &tiles) {
    const typename S::T *rows = static_cast<const typename S::T *>(weight) + (size_t)f->lane * S::C(a);
#pragma unroll 1
    for (int tile = 0; tile < tiles.count; tile++) {
        uint64_t *full;
        unsigned char *slot = f->next_slot<S>(a, &full);
        if (f->lane < TILE)
            copy_bytes_once(slot + f->lane * S::at(a).tile_row, rows + (size_t)tiles.column(tile) * S::C(a),
                            2 * (uint32_t)S::C(a), full, f->policy);
    }
}

// The block's eighths of `count` slices, the first of which is slice `first` of the model, the next `stride`
// further.
template <typename S>
__device__ inline void feed_slices(feeder *f, const arguments &a, const char *packed, int first, int stride,
                                   int count) {
    const uint32_t bytes = TILE * 2 * (uint32_t)S::C(a);
#pragma unroll 1
    for (int i = 0; i < count; i++) {
        uint64_t *full;
        unsigned char *slot = f->next_slot<S>(a, &full);
        const int slice = first + i * stride;
        if (f->lane == 0)
            copy_bytes_once(slot, packed + ((size_t)slice * CLUSTER + rank_of_block()) * bytes, bytes, full,
                            f->policy);
    }
}

// In the order in which the multipliers take them (multiply_steps).
template <typename S>
__device__ inline void feed(feeder *f, const arguments &a) {
    using T = typename S::T;
    const int heads = f->s->heads_owned, groups = f->s->groups_owned;
#pragma unroll 1
    for (int step = 0; step < a.steps; step++) {
        f->most = a.ring.in_flight;
#pragma unroll 1
        for (int layer = 0; layer < a.m.L; layer++) {
#pragma unroll 1
            for (int item = 0; item < heads; item += S::HEADS_AT_ONCE) {
                const head_set now = heads_of<S>(a, item, heads);
                feed_tiles<S>(f, a, of_layer<T>(a.m.qkvw, layer), qkv_tiles<S>(a, now));
                feed_slices<S>(f, a, a.attproj, layer * S::H(a) + now.first, a.clusters, now.count);
            }
            feed_tiles<S>(f, a, of_layer<T>(a.m.fcw, layer), fc_tiles(a, groups));
            feed_slices<S>(f, a, a.fcproj, layer * (a.m.F / HEAD_D) + a.first_group[cluster_of_block()], 1,
                           groups);
        }
        f->most = a.ring.in_flight_head;
        feed_tiles<S>(f, a, a.m.head, vocab_tiles(f->s->vocab_owned));
    }
}

} // namespace persistent

#endif
