// What a block of the persistent step has in shared memory, and what all blocks share in device memory.
#ifndef CUDA_PERSISTENT_BLOCK_CUH
#define CUDA_PERSISTENT_BLOCK_CUH

#include "cuda/best_token.cuh"
#include "cuda/bulk.cuh"
#include "cuda/cluster.cuh"
#include "cuda/deferred_norm.cuh"
#include "cuda/exchange.cuh"
#include "cuda/persistent_step.h"

namespace persistent {

enum {
    TILE = 8,                      // outputs: half the M of mma.m16n8k16; 16 bytes of a row
    CHUNK_K = 32,                  // k of four neighbouring lanes' 16 bytes
    KS = CHUNK_K / 16,             // products of a chunk
    QUAD = 4,                      // channels of the residual stream that a lane adds up
    CLUSTER = 8,                   // blocks, each of which owns one eighth of the channels
    MAX_CLUSTERS = 16,             //
    MULTIPLIERS = 8,               // warps that multiply;
    ASSISTANT = 8,                 // one that combines LayerNorm's statistics, fetches biases and gains, and
                                   // empties the exchange of the step before;
    FEEDER = 9,                    // one that brings weights
    ADDER = 10,                    // and two that add up partial sums, or are idle
    ADDER_WARPS = 2,               //
    THREADS = 384,                 // three warpgroups:
    MULTIPLIER_REGISTERS = 224,    // of the first two, which the third makes room for
    OTHER_REGISTERS = 56,          //
    WORKER_WARPS = 9,              // multipliers and assistant
    MAX_GROUP = 8,                 // tiles of outputs that are finished at once, at most
    FINISHED = 256,                // outputs, one by each multiplier's thread
    MAX_C = NORM_MAX_C,            //
    MAX_STAGES = 24,               // slots of weights in shared memory
    MAX_ROWS = PERSISTENT_ROWS,    //
    MAX_QUERIES = MULTIPLIERS,     // of attention at once: rows times heads
    HEAD_D = PERSISTENT_D,         // channels of a head; hidden units of a group
    HEAD_PIECES = HEAD_D / TILE,   // 16-byte pieces of them: one from each block of a cluster
    KEYS = 16,                     // of a warp's portion
    PARTS = MULTIPLIERS * CLUSTER, // partial results of attention, of all queries together
    SLICE_BYTES = HEAD_D * 2,      // of a row of weights of a slice, or of a row's inputs to it
    SLOT_BYTES = 128,              // slots begin at multiples of this
    TURNS = 6,                     // steps after which buffers that alternate by 2 and by 3 are back
};
static_assert(HEAD_PIECES == CLUSTER, "each block computes one piece of a head and of a group");

// Which cluster this block is in, and which of the cluster's blocks it is.
__device__ inline int cluster_of_block() {
    return (int)blockIdx.x / CLUSTER;
}
__device__ inline int rank_of_block() {
    return (int)blockIdx.x % CLUSTER;
}

// Of `total` things that are dealt out one by one: i owns i, i + owners, ...
__host__ __device__ constexpr int count_of(int total, int owners, int i) {
    return (total - i + owners - 1) / owners;
}

// Four channels of a row of the residual stream: scaled for the next LayerNorm, and their statistics.
struct alignas(16) stream_quad {
    uint32_t scaled[2];  // T, pairs
    float mean, squares; // sum of squared differences from the mean
};
// Of one output: y = norm.scale * sum - norm.shift * folded + bias.
struct output_terms {
    float bias, folded;
};
// Of one channel of the residual stream: the bias of the product that adds to it, the next LayerNorm's gain.
struct stream_terms {
    float bias, gain;
};

struct shared_state {
    uint64_t full[MAX_STAGES], empty[MAX_STAGES];
    uint64_t stream, qkv, attention, inner; // what the blocks of the cluster send each other is there; where
                                            // the device has the stream once, this block's part of it is out
    // STREAM_ONCE: all workers have gone on to the stream that this block announced last; the adders have
    // emptied what they published in the step before; the multipliers have chosen the step's tokens.
    uint64_t followed, emptied, chosen;
    row_norm norms[2][MAX_ROWS];      // of this phase and of the one before
    float4 weight_and_peak[PARTS];    // of attention's partial results: sum, maximum
    float4 values[PARTS][HEAD_D / 4]; //
    // Of some queries, row after row of a head: query, key and value, now and the next time.
    uint4 heads[2][MAX_QUERIES][3 * HEAD_PIECES + 1];
    uint4 attended[MAX_QUERIES][HEAD_PIECES + 1]; // what attention answers them
    output_terms outputs[2][MAX_GROUP * TILE];
    alignas(16) stream_terms channels[2][MAX_C / CLUSTER];
    best found[MAX_ROWS][MAX_GROUP];
    int token[MAX_ROWS], length[MAX_ROWS];
    int heads_owned, groups_owned, vocab_owned; // by the cluster, the cluster, and the block, in tiles
};

// Offsets in shared memory, in bytes. A row of 16-bit values is a few bytes longer than its values, so that
// neighbouring rows lie in different banks.
struct shared_layout {
    int sums;           // f32 (2, MULTIPLIERS, group_of(B) * TILE * B): products by warp
    int residual;       // f32 (B, C / 8) or less: the block's channels of the residual stream
    int stream;         // (B, stream_row bytes): C / 4 stream_quads; not if the device has the stream once
    int stream_row;     //
    int inner;          // T (2, B, ring_layout.inner_row bytes): the cluster's hidden units
    int tile_row, slot; // bytes of a row of a tile, and of a slot of the ring
};
__host__ __device__ constexpr int round_up(int bytes, int to) {
    return (bytes + to - 1) / to * to;
}
// Tiles of outputs that are finished at once, of all rows.
__host__ __device__ constexpr int group_of(int B) {
    return MAX_GROUP * TILE * B <= FINISHED ? MAX_GROUP : FINISHED / (TILE * B);
}
// Whether the residual stream is there once in the device, a part of it in every block (persistent_add.cuh),
// instead of once in every cluster (persistent_stream.cuh): a hop more between blocks, but of many rows every
// cluster would read and send too much.
__host__ __device__ constexpr bool has_stream_once(int B) {
    return B > 4;
}
__host__ __device__ constexpr shared_layout shared_layout_of(int B, int C) {
    shared_layout at = {};
    at.sums = round_up((int)sizeof(shared_state), 16);
    at.residual = at.sums + 2 * MULTIPLIERS * group_of(B) * TILE * B * (int)sizeof(float);
    at.stream = at.residual + B * C / CLUSTER * (int)sizeof(float);
    at.stream_row = (C / QUAD + 1) * (int)sizeof(stream_quad);
    at.inner = at.stream + (has_stream_once(B) ? 0 : B * at.stream_row);
    at.tile_row = 2 * C + 16;     // C a multiple of 64: the same pieces of 8 rows lie in different banks
    at.slot = TILE * at.tile_row; // a multiple of SLOT_BYTES
    return at;
}
struct ring_layout {
    int inner_row;      // bytes
    int slots;          // where the ring of weights begins
    int stages;         // its slots
    int in_flight;      // of which so many are on their way at most,
    int in_flight_head; // in the LM head
    int bytes;          // of shared memory in all
};

struct arguments {
    const char *attproj, *fcproj; // slices, packed (pack_slices.h)
    persistent_model m;
    persistent_rows r;
    ring_layout ring;
    float *partials;   // (2, 2 L, clusters, B, C): what clusters add to the residual stream, in even and odd
                       // steps, behind every attention and every MLP
    uint4 *stream;     // (2, 2 L + 1) of stream_of, and
    uint2 *moments;    // of moments_of: what adders publish in front of every phase, in even and odd steps
    uint2 *candidates; // (3, B, blocks): the best token of every block
    int clusters;
    int first_group[MAX_CLUSTERS + 1]; // of 64 hidden units: cluster c owns first_group[c] to [c + 1]
    int steps, turn;
};

// What a kernel knows of its sizes when it is compiled. C = 0: any, known when it runs.
template <typename Element, int C_, int B_>
struct shape {
    using T = Element;
    static constexpr int B = B_;
    static constexpr int GROUP = group_of(B);
    static constexpr bool STREAM_ONCE = has_stream_once(B);
    static constexpr bool ROW_PER_BLOCK =
        B == CLUSTER;                                // each block of a cluster attends for a row of its own
    static constexpr bool KEEPS_SLOTS = STREAM_ONCE; // of weights, until the stream is there (leave_slots)
    // Of a warp, at most; heads of a cluster.
    static constexpr int CHUNKS = ((C_ ? C_ : MAX_C) / CHUNK_K + MULTIPLIERS - 1) / MULTIPLIERS;
    static constexpr int HEADS_AT_ONCE = MAX_QUERIES / B;

    __device__ static int C(const arguments &a) { return C_ ? C_ : a.m.C; }
    __device__ static int H(const arguments &a) { return C(a) / HEAD_D; }
    __device__ static int channels(const arguments &a) { return C(a) / CLUSTER; } // of the block
    __device__ static int quads(const arguments &a) { return C(a) / (CLUSTER * QUAD); }
    __device__ static shared_layout at(const arguments &a) { return shared_layout_of(B, C(a)); }
    // Whether this warp has its i-th chunk of the columns.
    __device__ static bool has_chunk(const arguments &a, int warp, int i) {
        return C_ != 0 && C_ % (CHUNK_K * MULTIPLIERS) == 0 ? true : warp + i * MULTIPLIERS < C(a) / CHUNK_K;
    }
};

// A product's outputs that a block computes: tiles of 8 outputs. Three tiles lie `stride` outputs apart; the
// next three begin `jump` further than the stride would have it.
struct tile_set {
    int first, stride, jump, count;
    __device__ int column(int tile) const { return first + tile * stride + tile / 3 * jump; }
};

// Query, key and value of some heads of the cluster.
struct head_set {
    int first, count; // first, first + clusters, ...
};
template <typename S>
__device__ inline head_set heads_of(const arguments &a, int item, int owned) {
    return {cluster_of_block() + item * a.clusters, min(S::HEADS_AT_ONCE, owned - item)};
}
template <typename S>
__device__ inline tile_set qkv_tiles(const arguments &a, const head_set &heads) {
    return {heads.first * HEAD_D + rank_of_block() * TILE, S::C(a), a.clusters * HEAD_D - 3 * S::C(a),
            3 * heads.count};
}
__device__ inline tile_set fc_tiles(const arguments &a, int owned) {
    return {a.first_group[cluster_of_block()] * HEAD_D + rank_of_block() * TILE, HEAD_D, 0, owned};
}
__device__ inline tile_set vocab_tiles(int owned) {
    return {(int)blockIdx.x * TILE, (int)gridDim.x * TILE, 0, owned};
}

template <typename E>
__device__ inline const E *of_layer(const layered &tensor, int layer) {
    return reinterpret_cast<const E *>(static_cast<const char *>(tensor.first) + layer * tensor.stride);
}

// The partial sums behind attention (phase 2 layer) or behind the MLP (2 layer + 1) of a step.
template <typename S>
__device__ inline float *partials_of(const arguments &a, int turn, int phase) {
    return a.partials + (size_t)((turn & 1) * 2 * a.m.L + phase) * a.clusters * (S::B * S::C(a));
}

// The best tokens of all blocks in a step, row after row.
template <typename S>
__device__ inline uint2 *candidates_of(const arguments &a, int turn) {
    return a.candidates + (size_t)(turn % 3) * S::B * gridDim.x;
}

// What all workers alternate in step with each other: buffers, and the parities of barriers.
enum turn_of { TURN_SUMS, TURN_CHANNELS, TURN_STREAM, TURN_QKV, TURN_ATTENTION, TURN_INNER };

// A thread of the workers, and where it is in what all of them do in the same order. Whatever can be had from
// shared or constant memory stays there: spilled registers come back from beyond the L1, 700 cycles away.
struct worker {
    shared_state *s;
    int warp, lane;
    ring at; // the next weights
    uint32_t turns = 0;
    int kept = 0;             // slots in front of these that it has not given back yet
    uint32_t kept_loaded = 0; // some words from them, combined

    // Which of two buffers, or which parity of a barrier, it is now.
    __device__ int turn(turn_of what) const { return (int)(turns >> what & 1); }
    // The same, and the other from now on.
    __device__ int take_turn(turn_of what) {
        const int now = turn(what);
        turns ^= 1u << what;
        return now;
    }
    template <typename E>
    __device__ E *at_offset(int offset) const {
        return reinterpret_cast<E *>(reinterpret_cast<unsigned char *>(s) + offset);
    }
};

// Of a group of tiles, the output that a multiplier's thread finishes, if there are so many tiles: output n
// of a tile, of a row. Worked out again each time: registers are scarce.
__device__ inline int n_of(const worker &w) {
    return w.lane % TILE;
}
template <typename S>
__device__ inline int row_of(const worker &w) {
    return (w.warp * (WARP / TILE) + w.lane / TILE) % S::B;
}
template <typename S>
__device__ inline int tile_of(const worker &w) {
    return (w.warp * (WARP / TILE) + w.lane / TILE) / S::B;
}

// Where all workers of the block wait for each other, in shared memory's order. Not barrier_sync: warps come
// from different instructions, which synccheck takes for divergence where the barrier is an aligned one.
__device__ inline void meet() {
    __syncwarp();
    asm volatile("barrier.sync 1, %0;" ::"n"(WORKER_WARPS * WARP) : "memory");
}

// Stores 16 bytes (uint4, float4) at the same place of block `rank` of the cluster, counted by its copy of
// `barrier`.
template <typename Piece>
__device__ inline void send(int rank, void *to, Piece piece, uint64_t *barrier) {
    cluster_store(cluster_address(shared_address(to), rank), piece,
                  cluster_address(shared_address(barrier), rank));
}

__device__ inline float4 add(float4 a, float4 b) {
    return make_float4(a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w);
}
// The sum with that of the lane whose number differs in this bit.
__device__ inline float4 add_lane(float4 sum, int bit) {
    return add(sum,
               make_float4(__shfl_xor_sync(FULL_WARP, sum.x, bit), __shfl_xor_sync(FULL_WARP, sum.y, bit),
                           __shfl_xor_sync(FULL_WARP, sum.z, bit), __shfl_xor_sync(FULL_WARP, sum.w, bit)));
}

} // namespace persistent

#endif
