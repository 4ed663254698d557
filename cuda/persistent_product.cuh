// Products of the persistent step.
//
// Weights' outputs are the M of mma.m16n8k16, the rows its N. A *tile* is 8 outputs over all C inputs: of the
// heads, of the hidden units, of the vocabulary. Each warp takes every eighth chunk of K, the warps' sums
// meet in shared memory, and one thread per output and row finishes them. A *slice* is the block's C / 8
// channels over 64 inputs, a head's or a group's: each warp has outputs of its own, whose sums are what the
// cluster adds to the residual stream.
//
// Tiles and slices are as many bytes: the ring's slots take either. A warp loads some of them into registers
// before the activations are there: the slots are free again that much earlier, unless they are kept.
#ifndef CUDA_PERSISTENT_PRODUCT_CUH
#define CUDA_PERSISTENT_PRODUCT_CUH

#include "cuda/persistent_add.cuh"

namespace persistent {

// ---- the ring

// Slot i of those that come next.
__device__ inline int slot_at(const worker &w, const arguments &a, int i) {
    const int slot = w.at.stage + i;
    return slot < 0 ? slot + a.ring.stages : slot - (slot >= a.ring.stages ? a.ring.stages : 0);
}

// Waits until the next `count` slots (at most a warp's lanes) are full.
__device__ inline void await_slots(const worker &w, const arguments &a, int count) {
    const int i = min(w.lane, count - 1), slot = slot_at(w, a, i);
    barrier_wait(w.s->full + slot, w.at.parity ^ (uint32_t)(slot < w.at.stage));
    __syncwarp();
}

enum { MOST_LOADED = 4 }; // slots at once

// Gives back `count` slots, at most as many as a warp has lanes, of those that come next from the first-th
// on, or if that is negative of those before. `loaded`: of every load from them some word, combined; which
// lane gives a slot back depends on that, so that none can do so while loads are still on their way to the
// registers: an arrival alone does not wait for them.
__device__ inline void give_back(const worker &w, const arguments &a, int first, int count, uint32_t loaded) {
    const int i = w.lane ^ (int)(__shfl_sync(FULL_WARP, loaded, 0) & 1);
    __syncwarp();
    if (i < count) barrier_arrive(w.s->empty + slot_at(w, a, first + i));
}

// Those that the warp has kept.
template <typename S>
__device__ inline void give_kept_back(worker *w, const arguments &a) {
    if (!S::KEEPS_SLOTS) return;
    give_back(*w, a, -w->kept, w->kept, w->kept_loaded);
    w->kept = 0;
}

// Goes on to the slots behind the next `count`, which are given back or kept: what would fill them would
// stand in the line in front of the memory before the stream that this warp is about to wait for.
template <typename S>
__device__ inline void leave_slots(worker *w, const arguments &a, int count, uint32_t loaded) {
    if (!S::KEEPS_SLOTS) give_back(*w, a, 0, count, loaded);
    w->at.advance(a.ring.stages, count);
    if (!S::KEEPS_SLOTS) return;
    w->kept += count;
    w->kept_loaded ^= loaded;
    if (w->kept + MOST_LOADED > a.ring.stages) give_kept_back<S>(w, a); // the next load may need all others
}

// ---- tiles

template <typename S>
constexpr int TILES_AT_ONCE =
    S::B == 1 || S::CHUNKS >= 7 ? 2 : 4; // measured; of 7 chunks no registers for more

// The k of a warp's chunks, warp + i * MULTIPLIERS, of the stream. Lanes without a row repeat the last: they
// only make columns of the products that nobody reads.
template <typename S>
__device__ inline void load_rows(uint32_t (&x)[S::CHUNKS][KS][2], const arguments &a, const worker &w) {
    const shared_layout at = S::at(a);
    const unsigned char *from =
        w.at_offset<const unsigned char>(at.stream) + min(w.lane / 4, S::B - 1) * at.stream_row +
        (w.warp * (CHUNK_K / QUAD) + w.lane % 4 / 2) * (int)sizeof(stream_quad) + w.lane % 2 * 4;
#pragma unroll
    for (int i = 0; i < S::CHUNKS; i++) {
        if (!S::has_chunk(a, w.warp, i)) break;
#pragma unroll
        for (int j = 0; j < KS * 2; j++) // 8 k each
            x[i][j / 2][j % 2] = *reinterpret_cast<const uint32_t *>(
                from + (i * MULTIPLIERS * CHUNK_K + j * 8) / QUAD * (int)sizeof(stream_quad));
    }
}

// The warp's chunks of the tiles taken at once, two of which are the M of a product.
template <typename S>
struct tile_weights {
    uint32_t at[TILES_AT_ONCE<S> / 2][S::CHUNKS][KS][4];
};

// The next tiles of those that are left, when they are there: ahead of what they will be multiplied with.
// Tiles and chunks that do not exist repeat others.
template <typename S>
__device__ inline void load_tiles(tile_weights<S> *weights, worker *w, const arguments &a, int left) {
    const int count = min(left, TILES_AT_ONCE<S>);
    const shared_layout at = S::at(a);
    const int matrix = w->lane / 8; // of load_matrices: tile matrix % 2, k from 8 (matrix / 2) on
    const unsigned char *from =
        w->at_offset<const unsigned char>(a.ring.slots) + w->lane % 8 * at.tile_row + matrix / 2 * 16;
    uint32_t loaded = 0;
    await_slots(*w, a, count);
#pragma unroll
    for (int pair = 0; pair < TILES_AT_ONCE<S> / 2; pair++) {
        const unsigned char *tile = from + slot_at(*w, a, min(2 * pair + matrix % 2, count - 1)) * at.slot;
#pragma unroll
        for (int i = 0; i < S::CHUNKS; i++) {
            const int chunk = S::has_chunk(a, w->warp, i) ? w->warp + i * MULTIPLIERS : 0;
#pragma unroll
            for (int k = 0; k < KS; k++) {
                load_matrices(weights->at[pair][i][k], tile + chunk * (CHUNK_K * 2) + k * 32);
                loaded ^= weights->at[pair][i][k][0];
            }
        }
    }
    leave_slots<S>(w, a, count, loaded);
}

// `count` tiles of weights times rows: the warp's sums (count, B, TILE).
template <typename S>
__device__ inline void multiply_tiles(const tile_weights<S> &weights, const uint32_t (&x)[S::CHUNKS][KS][2],
                                      int count, float *to, const arguments &a, const worker &w) {
    constexpr int PAIRS = TILES_AT_ONCE<S> / 2;
    float sums[PAIRS][KS][4] = {};
#pragma unroll
    for (int i = 0; i < S::CHUNKS; i++) {
        if (!S::has_chunk(a, w.warp, i)) break;
#pragma unroll
        for (int k = 0; k < KS; k++) {
#pragma unroll
            for (int pair = 0; pair < PAIRS; pair++)
                mma_16x8x16<typename S::T>(sums[pair][k], weights.at[pair][i][k], x[i][k][0], x[i][k][1]);
        }
    }
    const int row = w.lane % 4 * 2;
    float *own = to + row * TILE + w.lane / 4;
#pragma unroll
    for (int tile = 0; tile < TILES_AT_ONCE<S>; tile++) {
#pragma unroll
        for (int i = 0; i < min(S::B, 2); i++) {
            const int at = tile % 2 * 2 + i;
            if (row + i < S::B && tile < count)
                own[(tile * S::B + i) * TILE] = sums[tile / 2][0][at] + sums[tile / 2][1][at];
        }
    }
}

// The rows in front of a phase, when they are there; `awaits`: the first time in this phase.
template <typename S>
__device__ inline void take_rows(uint32_t (&x)[S::CHUNKS][KS][2], worker *w, const arguments &a, int turn,
                                 int phase, bool awaits) {
    if (awaits) await_stream<S>(w);
    if constexpr (S::STREAM_ONCE)
        receive_rows<S>(x, a, *w, turn, phase);
    else
        load_rows<S>(x, a, *w);
}

// The products of the stream in front of a phase with the block's tiles: finish(tile, active, y) for each
// output, by all lanes of its warp. `awaits`: the phase's first. The first TILES_AT_ONCE tiles are in
// `weights` already. By all multipliers; the assistant meets them for each group.
template <typename S, typename Finish>
__device__ inline void run_tiles(worker *w, const arguments &a, int turn, int phase, int tiles,
                                 tile_weights<S> &weights, bool awaits, Finish finish) {
    constexpr int WARP_SUMS = S::GROUP * TILE * S::B;
    uint32_t x[S::CHUNKS][KS][2];
    take_rows<S>(x, w, a, turn, phase, awaits);
    give_kept_back<S>(w, a);
#pragma unroll 1
    for (int group = 0; group < tiles; group += S::GROUP) {
        const int count = min((int)S::GROUP, tiles - group), buffer = w->take_turn(TURN_SUMS);
        float *sums = w->at_offset<float>(S::at(a).sums) + buffer * (MULTIPLIERS * WARP_SUMS);
#pragma unroll 1
        for (int tile = 0; tile < count; tile += TILES_AT_ONCE<S>) {
            multiply_tiles<S>(weights, x, count - tile, sums + w->warp * WARP_SUMS + tile * (TILE * S::B), a,
                              *w);
            const int left = tiles - group - tile - TILES_AT_ONCE<S>;
            if (left > 0) {
                load_tiles<S>(&weights, w, a, left);
                give_kept_back<S>(w, a);
            }
        }
        meet();
        if (w->warp * WARP >= count * (TILE * S::B)) continue;
        const bool active = tile_of<S>(*w) < count;
        const float *finished = sums + (active ? w->warp * WARP + w->lane : 0);
        float y = 0;
#pragma unroll
        for (int i = 0; i < MULTIPLIERS; i++) y += finished[i * WARP_SUMS];
        const output_terms t = w->s->outputs[buffer][active ? tile_of<S>(*w) * TILE + n_of(*w) : 0];
        const row_norm norm = w->s->norms[w->turn(TURN_STREAM)][row_of<S>(*w)];
        finish(group + tile_of<S>(*w), active, norm.scale * y - norm.shift * t.folded + t.bias);
    }
}

// Starts to copy what the outputs of a group need besides their sums, by the assistant: the multipliers would
// wait for loads wherever their code branches.
template <typename S>
__device__ inline void copy_outputs(worker *w, const tile_set &tiles, int group, const float *bias,
                                    const float *folded) {
    output_terms *terms = w->s->outputs[w->take_turn(TURN_SUMS)];
#pragma unroll
    for (int i = w->lane; i < S::GROUP * TILE; i += WARP) {
        const int column = tiles.column(min(group + i / TILE, tiles.count - 1)) + i % TILE;
        copy_async_4(&terms[i].bias, bias + column, true);
        copy_async_4(&terms[i].folded, folded + column, true);
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
};

// A warp's outputs of the block's C / 8 channels: pairs of tiles warp, warp + MULTIPLIERS.
template <typename S>
constexpr int WARP_PAIRS = (S::CHUNKS * CHUNK_K * MULTIPLIERS / CLUSTER + PAIR_OUTPUTS * MULTIPLIERS - 1) /
                           (PAIR_OUTPUTS * MULTIPLIERS);

// Slices taken at once: of attention's projection, of FC2.
enum { HEADS_PROJECTED = 1 };
template <typename S>
constexpr int GROUPS_PROJECTED = 4 / WARP_PAIRS<S>;
// Whether a head's slice is loaded before the stream comes, like the three tiles in front of it in the ring.
template <typename S>
constexpr bool SLICE_AHEAD = S::ROW_PER_BLOCK &&TILES_AT_ONCE<S> >= 3;

template <typename S>
struct slice_sums {
    float at[WARP_PAIRS<S>][2][4]; // in two chains
};
// The warp's outputs of the slices taken at once.
template <typename S, int BATCH>
struct slice_weights {
    uint32_t at[BATCH][WARP_PAIRS<S>][K_STEPS][4];
};

// The next slices of those that are left, when they are there: ahead of their inputs. Slices and outputs that
// do not exist repeat the last.
template <typename S, int BATCH>
__device__ inline void load_slices(slice_weights<S, BATCH> *weights, worker *w, const arguments &a,
                                   int left) {
    const int count = min(left, BATCH);
    const int outputs = S::channels(a), i8 = w->lane % 8,
              swizzle = (w->lane / 16 ^ i8) * 16; // of the lane's piece of k = 0 .. 15
    const unsigned char *slots = w->at_offset<const unsigned char>(a.ring.slots) + i8 * SLICE_BYTES;
    uint32_t loaded = 0;
    await_slots(*w, a, count);
#pragma unroll
    for (int i = 0; i < BATCH; i++) {
        const unsigned char *slice = slots + slot_at(*w, a, min(i, count - 1)) * S::at(a).slot;
#pragma unroll
        for (int pair = 0; pair < WARP_PAIRS<S>; pair++) {
            const int first = (w->warp + pair * MULTIPLIERS) * PAIR_OUTPUTS + w->lane / 8 % 2 * TILE;
            const unsigned char *from = slice + min(first, outputs - TILE) * SLICE_BYTES;
#pragma unroll
            for (int k = 0; k < K_STEPS; k++) {
                load_matrices(weights->at[i][pair][k], from + (swizzle ^ (k * 32)));
                loaded ^= weights->at[i][pair][k][0];
            }
        }
    }
    leave_slots<S>(w, a, count, loaded);
}

// The inputs of slices: 64 a row, row_bytes apart from row to row, those of the next slice slice_bytes
// behind.
struct slice_inputs {
    const unsigned char *rows;
    int row_bytes, slice_bytes;
};

// Adds up to BATCH slices times the inputs from slice `first` on.
template <typename S, int BATCH>
__device__ inline void multiply_slices(slice_sums<S> *sums, const slice_weights<S, BATCH> &weights,
                                       const slice_inputs &inputs, int first, int count, const worker &w) {
    using T = typename S::T;
    const unsigned char *input = inputs.rows + first * inputs.slice_bytes +
                                 min(w.lane % 8, S::B - 1) * inputs.row_bytes + w.lane / 8 * 16;
#pragma unroll
    for (int i = 0; i < BATCH; i++) {
        if (i >= count) break;
        uint32_t x[2][4]; // 32 k each
        load_matrices(x[0], input + i * inputs.slice_bytes);
        load_matrices(x[1], input + i * inputs.slice_bytes + 64);
#pragma unroll
        for (int k = 0; k < K_STEPS; k++) {
#pragma unroll
            for (int pair = 0; pair < WARP_PAIRS<S>; pair++)
                mma_16x8x16<T>(sums->at[pair][k % 2], weights.at[i][pair][k], x[k / 2][k % 2 * 2],
                               x[k / 2][k % 2 * 2 + 1]);
        }
    }
}

// All `count` slices, of which the first BATCH are loaded.
template <typename S, int BATCH>
__device__ inline void add_slices(slice_sums<S> *sums, const slice_weights<S, BATCH> &loaded,
                                  const slice_inputs &inputs, int count, const arguments &a, worker *w) {
    multiply_slices<S, BATCH>(sums, loaded, inputs, 0, count, *w);
#pragma unroll 1
    for (int i = BATCH; i < count; i += BATCH) {
        slice_weights<S, BATCH> weights;
        load_slices<S, BATCH>(&weights, w, a, count - i);
        multiply_slices<S, BATCH>(sums, weights, inputs, i, count - i, *w);
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
