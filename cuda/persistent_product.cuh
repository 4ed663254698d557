// A product of the persistent step: a block's tiles of 8 outputs times all rows.
//
// Two tiles' outputs are the M of mma.m16n8k16, the rows its N. Each warp takes every eighth chunk of K; its
// rows come straight from the exchange into registers. The warps' sums meet in shared memory, where one
// thread per output and row finishes them.
//
// All products of a step run through one piece of code: five copies were 182 KB.
#ifndef CUDA_PERSISTENT_PRODUCT_CUH
#define CUDA_PERSISTENT_PRODUCT_CUH

#include "cuda/persistent_block.cuh"

namespace persistent {

// What all workers alternate in step with each other.
enum turn_of { TURN_SUMS, TURN_NORMS, TURN_ATTENTION, TURN_MEETING };

// A thread of the workers, and where it is in what all of them do in the same order. Whatever can be had from
// shared or constant memory stays there: spilled registers come back from beyond the L1, 700 cycles away.
struct worker {
    shared_state *s;
    const unsigned char *slots;
    float *sums; // (2, MULTIPLIERS, group * TILE * B)
    int warp, lane;
    int slot_lane;    // where in a slot this lane's first weights lie
    int tile, row, n; // of a group: the output that this thread finishes, if tile < group
    ring at;          // next tile of weights
    uint32_t turns = 0;

    // Which of two buffers, or which parity of a barrier, it is now: takes turns.
    __device__ int take_turn(turn_of what) {
        const uint32_t now = turns >> what & 1;
        turns ^= 1u << what;
        return (int)now;
    }
};

// Where all workers wait for each other, in shared memory's order.
__device__ inline void meet(worker *w) {
    __syncwarp();
    if (w->lane == 0) barrier_arrive(&w->s->meeting);
    barrier_wait(&w->s->meeting, w->take_turn(TURN_MEETING));
}

struct output {
    int tile, column; // column = TILE * tile + n
    int residual;     // where shared_state.residual has it
    bool active;      // all threads of a warp take part in what needs neighbours, but only these store
};

__device__ inline output output_of(const worker &w, const tile_range &tiles, int group, int group_tiles) {
    output o;
    o.active = w.tile < min(group_tiles, tiles.count - group);
    o.tile = tiles.first + group + (o.active ? w.tile : 0);
    o.column = o.tile * TILE + w.n;
    o.residual = (group + (o.active ? w.tile : 0)) * (TILE * MAX_ROWS) + w.row * TILE + w.n;
    return o;
}

// Whether a warp has a chunk i of `chunks` in all. The sizes of GPT-2 that have a kernel of their own fill
// it.
template <int CHUNKS>
__device__ inline bool has_chunk(const worker &w, int i, int chunks) {
    return CHUNKS < MAX_CHUNKS || w.warp + i * MULTIPLIERS < chunks;
}

// ---- rows out of the exchange: x[i] is chunk warp + i * MULTIPLIERS of C columns, lane (row, quarter) 8 of
// its k

// Lanes without a row repeat the last: they only make columns of the products that nobody reads.
template <int CHUNKS>
__device__ inline void peek_rows(uint4 (&x)[CHUNKS], const uint4 *pieces, int B, int chunks,
                                 const worker &w) {
    const uint4 *from = pieces + (CHUNK_PIECES * w.warp + w.lane % 4) * B + min(w.lane / 4, B - 1);
#pragma unroll
    for (int i = 0; i < CHUNKS; i++) {
        if (has_chunk<CHUNKS>(w, i, chunks)) x[i] = peek(from + i * (CHUNK_PIECES * MULTIPLIERS) * B);
    }
}

// No branch per chunk: the time around this loop is how late the last warp of all blocks notices its rows.
template <int CHUNKS>
__device__ inline void await_rows(uint4 (&x)[CHUNKS], const uint4 *pieces, int B, int chunks,
                                  const worker &w) {
    for (;;) {
        uint32_t highest = 0;
#pragma unroll
        for (int i = 0; i < CHUNKS; i++) {
            const uint32_t found = max(max(x[i].x, x[i].y), max(x[i].z, x[i].w));
            highest = max(highest, has_chunk<CHUNKS>(w, i, chunks) ? found : 0);
        }
        if (!__any_sync(FULL_WARP, highest == EMPTY)) return;
        peek_rows(x, pieces, B, chunks, w);
    }
}

// ---- the next one or two tiles of weights times rows: sums (2 tiles' outputs, row), in two chains

template <typename T, int CHUNKS, bool TWO>
__device__ inline void multiply_tiles(float (&sums)[2][4], const uint4 (&x)[CHUNKS], const arguments &a,
                                      worker *w) {
    const ring at = w->at;
    ring second = at;
    second.advance(a.stages);
    const unsigned char *from = w->slots + w->slot_lane;
    barrier_wait(w->s->full + at.stage, at.parity);
    if (TWO) barrier_wait(w->s->full + second.stage, second.parity);
#pragma unroll
    for (int i = 0; i < CHUNKS; i++) {
        if (!has_chunk<CHUNKS>(*w, i, a.chunks)) break;
        const unsigned char *chunk = from + i * (MULTIPLIERS * CHUNK_K * 2);
        const uint4 one = *reinterpret_cast<const uint4 *>(chunk + at.stage * a.slot_bytes);
        uint4 other = make_uint4(0, 0, 0, 0);
        if (TWO) other = *reinterpret_cast<const uint4 *>(chunk + second.stage * a.slot_bytes);
        mma_16x8x16<T>(sums[0], {one.x, other.x, one.y, other.y}, x[i].x, x[i].y);
        mma_16x8x16<T>(sums[1], {one.z, other.z, one.w, other.w}, x[i].z, x[i].w);
    }
    __syncwarp();
    if (w->lane == 0) {
        barrier_arrive(w->s->empty + at.stage);
        if (TWO) barrier_arrive(w->s->empty + second.stage);
    }
    w->at = second;
    if (TWO) w->at.advance(a.stages);
}

template <typename T, int CHUNKS>
__device__ inline void multiply_pair(float (&sums)[2][4], const uint4 (&x)[CHUNKS], bool two,
                                     const arguments &a, worker *w) {
    if (two)
        multiply_tiles<T, CHUNKS, true>(sums, x, a, w);
    else
        multiply_tiles<T, CHUNKS, false>(sums, x, a, w);
}

// Of tiles `tile` and tile + 1 of the group.
__device__ inline void store_sums(const float (&sums)[2][4], int tile, bool two, int B, int group, float *to,
                                  const worker &w) {
    const int n = w.lane / 4, row = w.lane % 4 * 2;
    float *own = to + w.warp * (group * TILE * B) + (tile * B + row) * TILE + n;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const float sum = sums[0][i] + sums[1][i];
        if (row + i % 2 < B && (i < 2 || two)) own[i / 2 * B * TILE + i % 2 * TILE] = sum;
    }
}

// ---- what an output needs besides its sum, and LayerNorm: by the assistant

// Of output `output` of the group: the multipliers would wait for these loads wherever their code
// branches.
__device__ inline output_terms load_terms(const arguments &a, int kind, int layer, const tile_range &tiles,
                                          int group, int output) {
    const product &p = a.products[kind];
    const int column = (tiles.first + min(group + output / TILE, tiles.count - 1)) * TILE + output % TILE;
    output_terms t = {of_layer<float>(p.bias, layer)[column], 0, 0, 0};
    if (p.folded.first) t.folded = of_layer<float>(p.folded, layer)[column];
    if (p.gain.first)
        t.gain = (kind == FCPROJ && layer + 1 == a.m.L ? a.m.lnfw : of_layer<float>(p.gain, layer))[column];
    return t;
}

// norms[row] out of the statistics of the row's pieces: as many lanes a row as there are for a power of two
// of rows. All deviations are taken from the mean of the row's first piece.
template <typename T>
__device__ inline void combine_norms(const uint2 *stats, const arguments &a, row_norm *norms, int lane) {
    constexpr int AT_ONCE = 4;
    const int B = a.r.B, tiles = a.m.C / TILE;
    const int lanes = B > 4 ? 4 : B > 2 ? 8 : B > 1 ? 16 : 32, row = min(lane / lanes, B - 1);
    uint2 pivot = peek(stats + row);
    float sum = 0, squares = 0;
#pragma unroll 1
    for (int first = lane % lanes; first < tiles; first += AT_ONCE * lanes) {
        uint2 piece[AT_ONCE];
#pragma unroll
        for (int i = 0; i < AT_ONCE; i++)
            piece[i] = peek(stats + min(first + i * lanes, tiles - 1) * B + row);
        if (is_empty(pivot)) pivot = await(stats + row);
#pragma unroll
        for (int i = 0; i < AT_ONCE; i++) {
            if (first + i * lanes >= tiles) break;
            if (is_empty(piece[i])) piece[i] = await(stats + (first + i * lanes) * B + row);
            const float d = __uint_as_float(piece[i].x) - __uint_as_float(pivot.x);
            sum += d;
            squares += __uint_as_float(piece[i].y) + TILE * d * d;
        }
    }
#pragma unroll 1
    for (int step = lanes / 2; step > 0; step /= 2) {
        sum += __shfl_xor_sync(FULL_WARP, sum, step);
        squares += __shfl_xor_sync(FULL_WARP, squares, step);
    }
    sum /= (float)tiles;
    const float mean = __uint_as_float(pivot.x) + sum,
                variance = fmaxf(squares / (float)a.m.C - sum * sum, 0.0f),
                deviation = rsqrtf(variance + a.m.epsilon);
    if (lane % lanes == 0) norms[row] = {deviation / SCALED_UNIT<T>, deviation * mean};
}

// ---- the product

// The block's outputs of product `kind` out of the layer's exchange; target = prepare(output) early, then
// finish(output, target, y, gain) for each.
// By all multipliers.
template <typename T, int CHUNKS, typename Prepare, typename Finish>
__device__ inline void run_product(worker *w, const arguments &a, const uint4 *exchange, int kind, int layer,
                                   Prepare prepare, Finish finish) {
    constexpr int SETS = CHUNKS > 3 ? 2 : 4; // parts whose rows are held in registers at once
    const product &p = a.products[kind];
    const tile_range tiles = w->s->tiles[kind];
    if (tiles.count == 0) return;
    const int B = a.r.B, parts = p.parts, group_tiles = group_tiles_of(a, parts);
    const bool normed = p.folded.first;
    const row_norm *norms = w->s->norms[normed ? w->take_turn(TURN_NORMS) : 0];
    uint4 x[SETS][CHUNKS];
#pragma unroll 1
    for (int group = 0; group < tiles.count; group += group_tiles) {
        const int count = min(group_tiles, tiles.count - group);
        const int sums_turn = w->take_turn(TURN_SUMS);
        float *sums = w->sums + sums_turn * (MULTIPLIERS * a.group * TILE * B);
        const output o = output_of(*w, tiles, group, group_tiles);
        const output_terms *terms = w->s->terms[sums_turn];
        const auto target = prepare(o);
        if (parts == 1 && group == 0) peek_rows(x[0], exchange + p.in, B, a.chunks, *w);
#pragma unroll 1
        for (int tile = 0; tile < count; tile += 2) {
            float sum[2][4] = {};
#pragma unroll 1
            for (int part = 0; part < parts; part += SETS) {
                const uint4 *pieces = exchange + p.in + part * a.part_pieces;
#pragma unroll
                for (int i = 0; i < SETS; i++) {
                    if (parts > 1 && part + i < parts)
                        peek_rows(x[i], pieces + i * a.part_pieces, B, a.chunks, *w);
                }
#pragma unroll
                for (int i = 0; i < SETS; i++) {
                    if (part + i >= parts) break;
                    await_rows(x[i], pieces + i * a.part_pieces, B, a.chunks, *w);
                    multiply_pair<T, CHUNKS>(sum, x[i], tile + 1 < count, a, w);
                }
            }
            store_sums(sum, tile, tile + 1 < count, B, a.group, sums, *w);
        }
        meet(w);
        if (w->warp * WARP < count * TILE * B) {
            const float *own = sums + (o.active ? w->warp * WARP + w->lane : 0);
            float y = 0;
#pragma unroll
            for (int i = 0; i < MULTIPLIERS; i++) y += own[i * (a.group * TILE * B)];
            const output_terms t = terms[o.active ? w->tile * TILE + w->n : 0];
            if (normed) y = norms[w->row].scale * y - norms[w->row].shift * t.folded;
            finish(o, target, y + t.bias, t.gain);
        }
    }
}

} // namespace persistent

#endif
