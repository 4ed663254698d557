// Products of the persistent step.
//
// Weights' outputs are the M of mma.m16n8k16, the rows its N. A *tile* is 8 outputs over all C inputs: of the
// heads, of the hidden units, of the vocabulary. Each warp takes every eighth chunk of K, the warps' sums
// meet in shared memory, and one thread per output and row finishes them. A *slice* is the block's C / 8
// channels over 64 inputs, a head's or a group's: each warp has outputs of its own, whose sums are what the
// cluster adds to the residual stream.
//
// Tiles and slices are as many bytes: the ring's slots take either.
#ifndef CUDA_PERSISTENT_PRODUCT_CUH
#define CUDA_PERSISTENT_PRODUCT_CUH

#include "cuda/persistent_block.cuh"

namespace persistent {

// Chunk warp + i * MULTIPLIERS of the stream's columns: lane (row, quarter) has 8 of its k. Lanes without a
// row repeat the last: they only make columns of the products that nobody reads.
template <typename S>
__device__ inline void load_rows(uint4 (&x)[S::CHUNKS], const arguments &a, const worker &w) {
    const shared_layout at = S::at(a);
    const stream_quad *from =
        w.at_offset<const stream_quad>(at.stream + min(w.lane / 4, S::B - 1) * at.stream_row) +
        w.warp * (CHUNK_K / QUAD) + w.lane % 4 * 2;
#pragma unroll
    for (int i = 0; i < S::CHUNKS; i++) {
        if (!S::has_chunk(a, w.warp, i)) break;
        const stream_quad *quad = from + i * (MULTIPLIERS * CHUNK_K / QUAD);
        const uint2 low = *reinterpret_cast<const uint2 *>(quad[0].scaled),
                    high = *reinterpret_cast<const uint2 *>(quad[1].scaled);
        x[i] = make_uint4(low.x, low.y, high.x, high.y);
    }
}

// The next up to MOST slots of the ring, once their weights are there.
template <typename S, int MOST>
struct next_slots {
    int count, stage[MOST];

    __device__ next_slots(worker *w, const arguments &a, int count_now) : count(count_now) {
        const int stages = a.ring.stages;
        bool there = true;
        uint32_t parity[MOST];
#pragma unroll
        for (int i = 0; i < MOST; i++) {
            const bool wraps = w->at.stage + i >= stages;
            stage[i] = w->at.stage + i - (wraps ? stages : 0);
            parity[i] = w->at.parity ^ wraps;
            there &= barrier_try(w->s->full + stage[i], parity[i]) || i >= count;
        }
        if (!there) {
#pragma unroll
            for (int i = 0; i < MOST; i++) {
                if (i < count) barrier_wait(w->s->full + stage[i], parity[i]);
            }
        }
        const bool wraps = w->at.stage + count >= stages;
        w->at.stage += count - (wraps ? stages : 0);
        w->at.parity ^= wraps;
    }
    __device__ const unsigned char *weights(const worker &w, const arguments &a, int i) const {
        return w.at_offset<const unsigned char>(a.ring.slots) + stage[i] * S::at(a).slot;
    }
    __device__ void release(const worker &w) const {
        __syncwarp();
#pragma unroll
        for (int i = 0; i < MOST; i++) {
            if (w.lane == 0 && i < count) barrier_arrive(w.s->empty + stage[i]);
        }
    }
};

// ---- tiles

enum { TILES_AT_ONCE = 4 };

// The next `count` tiles of weights times rows: the warp's sums (count, B, TILE).
template <typename S>
__device__ inline void multiply_tiles(worker *w, const arguments &a, const uint4 (&x)[S::CHUNKS], int count,
                                      float *to) {
    constexpr int PAIRS = TILES_AT_ONCE / 2; // two tiles are the M of a product
    using T = typename S::T;
    const next_slots<S, TILES_AT_ONCE> slots(w, a, count);
    const int lane_offset = w->lane / 4 * S::at(a).tile_row + w->lane % 4 * 16 + w->warp * (CHUNK_K * 2);
    float sums[PAIRS][2][4] = {}; // in two chains
#pragma unroll
    for (int i = 0; i < S::CHUNKS; i++) {
        if (!S::has_chunk(a, w->warp, i)) break;
        uint4 weight[TILES_AT_ONCE] = {};
#pragma unroll
        for (int tile = 0; tile < TILES_AT_ONCE; tile++)
            if (tile < count)
                weight[tile] = *reinterpret_cast<const uint4 *>(slots.weights(*w, a, tile) + lane_offset +
                                                                i * (MULTIPLIERS * CHUNK_K * 2));
#pragma unroll
        for (int pair = 0; pair < PAIRS; pair++) {
            const uint4 &one = weight[2 * pair], &other = weight[2 * pair + 1];
            mma_16x8x16<T>(sums[pair][0], {one.x, other.x, one.y, other.y}, x[i].x, x[i].y);
            mma_16x8x16<T>(sums[pair][1], {one.z, other.z, one.w, other.w}, x[i].z, x[i].w);
        }
    }
    slots.release(*w);
    const int row = w->lane % 4 * 2;
    float *own = to + row * TILE + w->lane / 4;
#pragma unroll
    for (int tile = 0; tile < TILES_AT_ONCE; tile++) {
#pragma unroll
        for (int i = 0; i < min(S::B, 2); i++) {
            const int at = tile % 2 * 2 + i;
            if (row + i < S::B && tile < count)
                own[(tile * S::B + i) * TILE] = sums[tile / 2][0][at] + sums[tile / 2][1][at];
        }
    }
}

// The products of the stream with the block's tiles: finish(tile, active, y) for each output, by all lanes of
// its warp. By all multipliers, once the stream is there; the assistant meets them for each group.
template <typename S, typename Finish>
__device__ inline void run_tiles(worker *w, const arguments &a, int tiles, Finish finish) {
    constexpr int WARP_SUMS = GROUP * TILE * S::B;
    uint4 x[S::CHUNKS];
    load_rows<S>(x, a, *w);
#pragma unroll 1
    for (int group = 0; group < tiles; group += GROUP) {
        const int count = min((int)GROUP, tiles - group), turn = w->take_turn(TURN_SUMS);
        float *sums = w->at_offset<float>(S::at(a).sums) + turn * (MULTIPLIERS * WARP_SUMS);
#pragma unroll 1
        for (int tile = 0; tile < count; tile += TILES_AT_ONCE)
            multiply_tiles<S>(w, a, x, min(count - tile, (int)TILES_AT_ONCE),
                              sums + w->warp * WARP_SUMS + tile * (TILE * S::B));
        meet(w);
        if (w->warp * WARP >= count * (TILE * S::B)) continue;
        const bool active = tile_of<S>(*w) < count;
        const float *finished = sums + (active ? w->warp * WARP + w->lane : 0);
        float y = 0;
#pragma unroll
        for (int i = 0; i < MULTIPLIERS; i++) y += finished[i * WARP_SUMS];
        const output_terms t = w->s->outputs[turn][active ? tile_of<S>(*w) * TILE + n_of(*w) : 0];
        const row_norm norm = w->s->norms[row_of<S>(*w)];
        finish(group + tile_of<S>(*w), active, norm.scale * y - norm.shift * t.folded + t.bias);
    }
}

// What the outputs of a group need besides their sums, by the assistant: the multipliers would wait for these
// loads wherever their code branches.
template <typename S>
__device__ inline void load_outputs(worker *w, const arguments &a, const tile_set &tiles, int group,
                                    const float *bias, const float *folded) {
    output_terms *terms = w->s->outputs[w->take_turn(TURN_SUMS)];
#pragma unroll 1
    for (int i = w->lane; i < GROUP * TILE; i += WARP) {
        const int column = tiles.column(min(group + i / TILE, tiles.count - 1)) + i % TILE;
        terms[i] = {bias[column], folded[column]};
    }
}

// The tile's 8 neighbouring outputs of a row, in each of their lanes.
template <typename T>
__device__ inline uint4 piece_of(float y) {
    const uint32_t pair = pack_pair<T>(y, __shfl_down_sync(FULL_WARP, y, 1, TILE));
    return make_uint4(__shfl_sync(FULL_WARP, pair, 0, TILE), __shfl_sync(FULL_WARP, pair, 2, TILE),
                      __shfl_sync(FULL_WARP, pair, 4, TILE), __shfl_sync(FULL_WARP, pair, 6, TILE));
}

// ---- slices

enum {
    PAIR_OUTPUTS = 2 * TILE,
    K_STEPS = HEAD_D / 16,
    SLICES_AT_ONCE = 4,
};

// A warp's outputs of the block's C / 8 channels: pairs of tiles warp, warp + MULTIPLIERS.
template <typename S>
constexpr int WARP_PAIRS = (S::CHUNKS * CHUNK_K * MULTIPLIERS / CLUSTER + PAIR_OUTPUTS * MULTIPLIERS - 1) /
                           (PAIR_OUTPUTS * MULTIPLIERS);

template <typename S>
struct slice_sums {
    float at[WARP_PAIRS<S>][2][4]; // in two chains
};

// Adds the next COUNT slices times 64 inputs of each row for each. The inputs of a slice are row_bytes apart
// from row to row, those of the next slice begin slice_bytes behind.
template <typename S, int COUNT>
__device__ inline void multiply_slices(slice_sums<S> *sums, const unsigned char *rows, int row_bytes,
                                       int slice_bytes, const arguments &a, worker *w) {
    using T = typename S::T;
    const int outputs = S::channels(a), i8 = w->lane % 8,
              swizzle = (w->lane / 16 ^ i8) * 16; // of the lane's piece of k = 0 .. 15
    const unsigned char *input = rows + min(i8, S::B - 1) * row_bytes + w->lane / 8 * 16;
    uint32_t x[COUNT][2][4]; // 32 k each
#pragma unroll
    for (int i = 0; i < COUNT; i++) {
        load_matrices(x[i][0], input + i * slice_bytes);
        load_matrices(x[i][1], input + i * slice_bytes + 64);
    }
    const next_slots<S, COUNT> slots(w, a, COUNT);
#pragma unroll
    for (int pair = 0; pair < WARP_PAIRS<S>; pair++) {
        const int first = (w->warp + pair * MULTIPLIERS) * PAIR_OUTPUTS;
        if (first >= outputs) break;
        const int offset = (min(first + w->lane / 8 % 2 * TILE, outputs - TILE) + i8) * SLICE_BYTES;
#pragma unroll
        for (int i = 0; i < COUNT; i++) {
            const unsigned char *weights = slots.weights(*w, a, i) + offset;
#pragma unroll
            for (int k = 0; k < K_STEPS; k++) {
                uint32_t weight[4];
                load_matrices(weight, weights + (swizzle ^ (k * 32)));
                mma_16x8x16<T>(sums->at[pair][k % 2], weight, x[i][k / 2][k % 2 * 2],
                               x[i][k / 2][k % 2 * 2 + 1]);
            }
        }
    }
    slots.release(*w);
}

template <typename S>
__device__ inline void add_slices(slice_sums<S> *sums, const unsigned char *rows, int row_bytes,
                                  int slice_bytes, int count, const arguments &a, worker *w) {
#pragma unroll 1
    for (int i = 0; i < count; i += SLICES_AT_ONCE, rows += SLICES_AT_ONCE * slice_bytes) {
        if (count - i >= 4)
            multiply_slices<S, 4>(sums, rows, row_bytes, slice_bytes, a, w);
        else if (count - i == 3)
            multiply_slices<S, 3>(sums, rows, row_bytes, slice_bytes, a, w);
        else if (count - i == 2)
            multiply_slices<S, 2>(sums, rows, row_bytes, slice_bytes, a, w);
        else
            multiply_slices<S, 1>(sums, rows, row_bytes, slice_bytes, a, w);
    }
}

// Hands the cluster's partial sums of the block's channels to the other clusters.
template <typename S>
__device__ inline void publish_slices(const slice_sums<S> &sums, const arguments &a, float *partials,
                                      const worker &w) {
    const int outputs = S::channels(a), row = w.lane % 4 * 2, first = w.warp * PAIR_OUTPUTS + w.lane / 4;
    float *to = partials + (cluster_of_block() * S::B + row) * S::C(a) + rank_of_block() * outputs + first;
#pragma unroll
    for (int i = 0; i < WARP_PAIRS<S>; i++) {
#pragma unroll
        for (int j = 0; j < 4; j++) {
            const int offset = i * MULTIPLIERS * PAIR_OUTPUTS + j / 2 * TILE;
            if (first + offset < outputs && row + j % 2 < S::B)
                publish(reinterpret_cast<uint32_t *>(to + j % 2 * S::C(a) + offset),
                        __float_as_uint(sums.at[i][0][j] + sums.at[i][1][j]));
        }
    }
}

} // namespace persistent

#endif
