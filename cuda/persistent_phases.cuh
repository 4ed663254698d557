// A step of the persistent kernel as the warps see it that multiply.
#ifndef CUDA_PERSISTENT_PHASES_CUH
#define CUDA_PERSISTENT_PHASES_CUH

#include "cuda/persistent_attention.cuh"
#include "cuda/persistent_product.cuh"
#include "cuda/persistent_stream.cuh"

namespace persistent {

// ---- attention: from the residual stream to what the cluster's heads add to it

// The newest token's key or value: the block's piece of a head, by one lane.
template <typename S>
__device__ inline void append(const worker &w, const arguments &a, int layer, int head, bool value,
                              uint4 piece) {
    const int length = w.s->length[row_of<S>(w)];
    if (length == 0) return;
    typename S::T *to = keys_of<S>(a, layer, row_of<S>(w), head);
    if (value) to = values_behind(a, to);
    reinterpret_cast<uint4 *>(to + (size_t)(length - 1) * HEAD_D)[rank_of_block()] = piece;
}

// Queries, keys and values of some heads, to the cluster.
template <typename S>
__device__ inline void run_qkv(worker *w, const arguments &a, int turn, int layer, const head_set &heads,
                               tile_weights<S> &weights, bool awaits) {
    run_tiles<S>(w, a, turn, 2 * layer, 3 * heads.count, weights, awaits,
                 [&](int tile, bool active, float y) {
                     const int head = tile / 3, part = tile % 3; // query, key, value
                     const uint4 piece = piece_of<typename S::T>(y);
                     if (!active) return;
                     uint4 *query = w->s->heads[w->turn(TURN_QKV)][head * S::B + row_of<S>(*w)];
                     if (!S::ROW_PER_BLOCK || n_of(*w) == row_of<S>(*w))
                         send(n_of(*w), query + part * HEAD_PIECES + rank_of_block(), piece, &w->s->qkv);
                     if (n_of(*w) == 0 && part > 0)
                         append<S>(*w, a, layer, heads.first + head * a.clusters, part == 2, piece);
                 });
}

template <typename S>
__device__ inline void attention_phase(worker *w, const arguments &a, int turn, int layer) {
    constexpr int ROW_BYTES = sizeof w->s->attended[0];
    const int owned = w->s->heads_owned;
    head_set heads = heads_of<S>(a, 0, owned);
    key_share share = share_of<S>(*w, a, heads);
    key_portions<S> keys;
    if (!S::ROW_PER_BLOCK) // while the stream is on its way
        load_portions<S>(*w, a, layer, share, share.part, keys);
    if (layer == 0)
        embed<S>(w, a, owned > 0);
    else
        advance_stream<S>(w, a, turn, 2 * layer - 1, a.clusters, owned > 0);
    if (owned == 0) { // the assistant brings the next phase's gains all the same
        pass_stream<S>(w);
        meet();
        return;
    }
    const slice_inputs attended = {reinterpret_cast<const unsigned char *>(w->s->attended), ROW_BYTES,
                                   S::B * ROW_BYTES};
    slice_sums<S> sums = {};
#pragma unroll 1
    for (int item = 0;;) {
        tile_weights<S> tiles;
        slice_weights<S, HEADS_PROJECTED> slices;
        load_tiles<S>(&tiles, w, a, 3 * heads.count);
        if (SLICE_AHEAD<S>) load_slices<S>(&slices, w, a, heads.count);
        if (S::ROW_PER_BLOCK) load_portions<S>(*w, a, layer, share, share.part, keys);
        run_qkv<S>(w, a, turn, layer, heads, tiles, item == 0);
        attend<S>(w, a, layer, share, keys);
        if (!SLICE_AHEAD<S>) load_slices<S>(&slices, w, a, heads.count);
        merge<S>(w, a, layer, share);
        add_slices<S>(&sums, slices, attended, heads.count, a, w);
        item += S::HEADS_AT_ONCE;
        if (item >= owned) break;
        heads = heads_of<S>(a, item, owned);
        share = share_of<S>(*w, a, heads);
        if (!S::ROW_PER_BLOCK) load_portions<S>(*w, a, layer, share, share.part, keys);
    }
    publish_slices<S>(sums, a, partials_of<S>(a, turn, 2 * layer), *w);
    if (S::B == 1 && layer + 1 < a.m.L) // more rows: measured to be slower
        prefetch_portion<S>(*w, a, layer + 1, share_of<S>(*w, a, heads_of<S>(a, 0, owned)));
}

// ---- MLP: the same for the cluster's groups of hidden units

template <typename S>
__device__ inline void mlp_phase(worker *w, const arguments &a, int turn, int layer) {
    const int owned = w->s->groups_owned, inner_turn = w->take_turn(TURN_INNER);
    unsigned char *inner = w->at_offset<unsigned char>(S::at(a).inner) + inner_turn * S::B * a.ring.inner_row;
    advance_stream<S>(w, a, turn, 2 * layer, attending_clusters<S>(a), owned > 0);
    slice_sums<S> sums = {};
    if (owned == 0) {
        pass_stream<S>(w);
        meet();
    } else {
        tile_weights<S> tiles;
        slice_weights<S, GROUPS_PROJECTED<S>> slices;
        load_tiles<S>(&tiles, w, a, owned);
        const auto finish = [&](int tile, bool active, float y) {
            const uint4 piece = piece_of<typename S::T>(gelu_tanh(y));
            uint4 *units = reinterpret_cast<uint4 *>(inner + row_of<S>(*w) * a.ring.inner_row);
            if (active) send(n_of(*w), units + tile * HEAD_PIECES + rank_of_block(), piece, &w->s->inner);
        };
        run_tiles<S>(w, a, turn, 2 * layer + 1, owned, tiles, true, finish);
        load_slices<S>(&slices, w, a, owned);
        barrier_wait(&w->s->inner, (uint32_t)inner_turn);
        add_slices<S>(&sums, slices, {inner, a.ring.inner_row, SLICE_BYTES}, owned, a, w);
    }
    publish_slices<S>(sums, a, partials_of<S>(a, turn, 2 * layer + 1), *w);
}

// ---- LM head

// The best logit that this thread finished.
template <typename S>
__device__ inline best head_phase(worker *w, const arguments &a, int turn) {
    best found = {-INFINITY, a.m.V};
    advance_stream<S>(w, a, turn, 2 * a.m.L - 1, a.clusters, true);
    const tile_set tiles = vocab_tiles(w->s->vocab_owned);
    if (tiles.count == 0) { // of a small vocabulary
        await_stream<S>(w);
        return found;
    }
    const auto finish = [&](int tile, bool active, float y) {
        const int id = tiles.column(tile) + n_of(*w);
        if (!active || id >= a.m.V) return;
        if (a.r.logits && row_of<S>(*w) < a.r.B) a.r.logits[(size_t)row_of<S>(*w) * a.r.ld + id] = y;
        if (y > found.value) found = {y, id}; // ids rise: the first of equals stays
    };
    tile_weights<S> weights;
    load_tiles<S>(&weights, w, a, tiles.count);
    run_tiles<S>(w, a, turn, 2 * a.m.L, tiles.count, weights, true, finish);
    return found;
}

// The best token of all blocks for a row, by one warp: polls their candidates. What all blocks did in the
// step is visible then.
__device__ inline best best_of_blocks(const uint2 *candidates, int blocks, int vocab, int lane) {
    constexpr int MOST = MAX_CLUSTERS * CLUSTER / WARP;
    uint2 pair[MOST];
    bool missing;
#pragma unroll
    for (uint2 &one : pair) one = make_uint2(0, EMPTY);
    do {
        missing = false;
#pragma unroll
        for (int i = 0; i < MOST; i++) {
            const int block = min(lane + i * WARP, blocks - 1);
            acquire_if(is_empty(pair[i].y), pair[i], candidates + block);
        }
#pragma unroll
        for (const uint2 &one : pair) missing |= is_empty(one.y);
    } while (__any_sync(FULL_WARP, missing));
    best winner = {-INFINITY, vocab};
#pragma unroll
    for (const uint2 &one : pair) winner = better(winner, {__uint_as_float(one.x), (int)one.y});
    return best_of_lanes<WARP>(winner);
}

// Every block tells all others its best token of each row, and all take the same best: the barrier that ends
// a step. The assistant tells.
template <typename S>
__device__ inline void choose_tokens(worker *w, const arguments &a, int turn, best found) {
    const int blocks = (int)gridDim.x;
    shared_state *s = w->s;
    found = best_of_lanes<TILE>(found);
    if (n_of(*w) == 0 && tile_of<S>(*w) < S::GROUP) s->found[row_of<S>(*w)][tile_of<S>(*w)] = found;
    meet();
    if (w->warp < S::B) { // one warp a row
        const best winner =
            best_of_blocks(candidates_of<S>(a, turn) + w->warp * blocks, blocks, a.m.V, w->lane);
        const int length = s->length[w->warp];
        __syncwarp(); // all lanes have read what one of them writes
        if (w->lane == 0 && length > 0 && length < a.r.max_tokens) {
            const int token = winner.id < a.m.V ? winner.id : 0; // all NaN: still an id
            s->token[w->warp] = token;
            s->length[w->warp] = length + 1;
            if (blockIdx.x == 0) {
                a.r.tokens[(size_t)w->warp * a.r.max_tokens + length] = token;
                a.r.lengths[w->warp] = length + 1;
            }
        }
    }
    if (S::STREAM_ONCE && w->lane == 0) barrier_arrive(&s->chosen);
    meet();
}

template <typename S>
__device__ inline void multiply_steps(worker *w, const arguments &a) {
    int turn = a.turn;
    meet(); // the assistant has brought the first gains
#pragma unroll 1
    for (int step = 0; step < a.steps; step++) {
#pragma unroll 1
        for (int layer = 0; layer < a.m.L; layer++) {
            attention_phase<S>(w, a, turn, layer);
            mlp_phase<S>(w, a, turn, layer);
        }
        const best found = head_phase<S>(w, a, turn);
        if (!a.r.draws) choose_tokens<S>(w, a, turn, found);
        turn = turn + 1 == TURNS ? 0 : turn + 1;
    }
}

} // namespace persistent

#endif
