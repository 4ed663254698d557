// The assistant of the persistent step: one warp of a block that goes through the same phases as those that
// multiply (persistent_phases.cuh), and has ready what they need when they meet.
#ifndef CUDA_PERSISTENT_ASSIST_CUH
#define CUDA_PERSISTENT_ASSIST_CUH

#include "cuda/persistent_attention.cuh"
#include "cuda/persistent_product.cuh"
#include "cuda/persistent_stream.cuh"

namespace persistent {

// Bytes that the blocks of the cluster will send this one.
__device__ inline void expect(const worker &w, uint64_t *barrier, int bytes) {
    if (w.lane == 0) barrier_expect(barrier, (uint32_t)bytes);
}
template <typename S>
__device__ inline void expect_stream(const worker &w, const arguments &a) {
    if (!S::STREAM_ONCE) expect(w, &w.s->stream, S::B * S::C(a) / QUAD * (int)sizeof(stream_quad));
}

// Starts to copy what the block's channels need in front of phase `number`.
template <typename S>
__device__ inline void copy_channels(worker *w, const arguments &a, int number) {
    if (S::STREAM_ONCE) return; // the adders have their own
    stream_terms *terms = w->s->channels[w->take_turn(TURN_CHANNELS)];
    const auto [bias, gain] = terms_in_front_of(a, number);
#pragma unroll 1
    for (int i = w->lane; i < S::channels(a); i += WARP) {
        const int channel = rank_of_block() * S::channels(a) + i;
        copy_async_4(&terms[i].bias, bias ? bias + channel : gain, bias != NULL);
        copy_async_4(&terms[i].gain, gain + channel, true);
    }
}

// Waits for all copies and meets the multipliers, who see them then.
__device__ inline void meet_with_copies() {
    copy_async_commit();
    copy_async_wait<0>();
    meet();
}

// Beside run_tiles; `awaits`: the phase's first, in front of which the stream comes.
template <typename S>
__device__ inline void assist_tiles(worker *w, const arguments &a, int turn, int phase, const tile_set &tiles,
                                    const float *bias, const float *folded, bool awaits) {
    if (tiles.count > 0) copy_outputs<S>(w, tiles, 0, bias, folded);
    if (awaits) {
        await_stream<S>(w);
        if constexpr (S::STREAM_ONCE)
            receive_norms<S>(w, a, turn, phase);
        else
            combine_norms<S>(w, a);
    }
#pragma unroll 1
    for (int group = 0; group < tiles.count; group += S::GROUP) {
        if (group > 0) copy_outputs<S>(w, tiles, group, bias, folded);
        meet_with_copies();
    }
}

// Empties what the block published behind this phase in the step before.
template <typename S>
__device__ inline void empty_old(const worker &w, const arguments &a, int turn, int number) {
    const int pieces = S::quads(a);
    float *old = partials_of<S>(a, turn + 1, number) + cluster_of_block() * (S::B * S::C(a)) +
                 rank_of_block() * S::channels(a);
#pragma unroll 1
    for (int row = 0; row < S::B; row++, old += S::C(a)) {
        for (int i = w.lane; i < pieces; i += WARP) publish_empty(reinterpret_cast<uint4 *>(old) + i);
    }
}

template <typename S>
__device__ inline void assist_attention(worker *w, const arguments &a, int turn, int layer) {
    shared_state *s = w->s;
    const int owned = s->heads_owned;
    if (owned > 0) expect_stream<S>(*w, a);
#pragma unroll 1
    for (int item = 0; item < owned; item += S::HEADS_AT_ONCE) {
        const head_set heads = heads_of<S>(a, item, owned);
        expect(*w, &s->qkv, heads.count * (S::ROW_PER_BLOCK ? 1 : S::B) * 3 * SLICE_BYTES);
        expect(*w, &s->attention, attention_bytes<S>(*w, a, heads));
        if (item == 0) copy_channels<S>(w, a, 2 * layer + 1);
        assist_tiles<S>(w, a, turn, 2 * layer, qkv_tiles<S>(a, heads), of_layer<float>(a.m.qkv_biases, layer),
                        of_layer<float>(a.m.qkv_sums, layer), item == 0);
        if (item == 0 && layer + 1 < a.m.L) prefetch_row<S>(*w, a, layer + 1);
        meet(); // partial results are merged or, ROW_PER_BLOCK, there to be merged
        if (S::ROW_PER_BLOCK) barrier_wait(&s->attention, (uint32_t)w->take_turn(TURN_ATTENTION));
    }
    if (owned == 0) {
        pass_stream<S>(w);
        copy_channels<S>(w, a, 2 * layer + 1);
        meet_with_copies();
    }
    empty_old<S>(*w, a, turn, 2 * layer);
}

template <typename S>
__device__ inline void assist_mlp(worker *w, const arguments &a, int turn, int layer) {
    const int owned = w->s->groups_owned;
    if (owned > 0) {
        expect_stream<S>(*w, a);
        expect(*w, &w->s->inner, S::B * owned * SLICE_BYTES);
    }
    copy_channels<S>(w, a, 2 * layer + 2);
    if (owned > 0)
        assist_tiles<S>(w, a, turn, 2 * layer + 1, fc_tiles(a, owned), of_layer<float>(a.m.fc_biases, layer),
                        of_layer<float>(a.m.fc_sums, layer), true);
    else {
        pass_stream<S>(w);
        meet_with_copies();
    }
    empty_old<S>(*w, a, turn, 2 * layer + 1);
}

// Candidates of step t are emptied in step t + 2, when all blocks have been past them. The fence comes
// after all that the block has written but for logits: what it has emptied, keys and values.
template <typename S>
__device__ inline void assist_head(worker *w, const arguments &a, int turn, int step) {
    expect_stream<S>(*w, a);
    copy_channels<S>(w, a, 0);
    if (w->lane < S::B)
        publish(candidates_of<S>(a, turn + 1) + w->lane * gridDim.x + blockIdx.x, make_uint2(EMPTY, EMPTY));
    if (S::STREAM_ONCE)
        barrier_wait(&w->s->emptied, step & 1);
    else
        __syncwarp();
    fence_blocks();
    prefetch_row<S>(*w, a, 0);
    assist_tiles<S>(w, a, turn, 2 * a.m.L, vocab_tiles(w->s->vocab_owned), a.m.head_biases, a.m.head_sums,
                    true);
}

// Beside choose_tokens: the block's best token of each row to all others.
template <typename S>
__device__ inline void assist_choice(const worker &w, const arguments &a, int turn) {
    meet_with_copies(); // a small vocabulary leaves blocks without a tile to meet at
    const int row = w.lane / S::GROUP;
    const best winner = best_of_lanes<S::GROUP>(w.s->found[min(row, S::B - 1)][w.lane % S::GROUP]);
    if (w.lane % S::GROUP == 0 && row < S::B)
        publish(candidates_of<S>(a, turn) + row * gridDim.x + blockIdx.x,
                make_uint2(__float_as_uint(winner.value), (uint32_t)winner.id));
    meet();
}

template <typename S>
__device__ inline void assist_steps(worker *w, const arguments &a) {
    int turn = a.turn;
    copy_channels<S>(w, a, 0);
    meet_with_copies();
#pragma unroll 1
    for (int step = 0; step < a.steps; step++) {
#pragma unroll 1
        for (int layer = 0; layer < a.m.L; layer++) {
            assist_attention<S>(w, a, turn, layer);
            assist_mlp<S>(w, a, turn, layer);
        }
        assist_head<S>(w, a, turn, step);
        if (!a.r.draws) assist_choice<S>(*w, a, turn);
        turn = turn + 1 == TURNS ? 0 : turn + 1;
    }
}

} // namespace persistent

#endif
