// What a block of the persistent step has in shared memory, and what all blocks share in device memory.
#ifndef CUDA_PERSISTENT_BLOCK_CUH
#define CUDA_PERSISTENT_BLOCK_CUH

#include "cuda/best_token.cuh"
#include "cuda/bulk.cuh"
#include "cuda/deferred_norm.cuh"
#include "cuda/exchange.cuh"
#include "cuda/persistent_plan.h"
#include "cuda/persistent_step.h"

namespace persistent {

enum {
    TILE = PERSISTENT_TILE,     // outputs: half the M of mma.m16n8k16; 16 bytes of a row
    CHUNK_K = 32,               // k of four neighbouring lanes' 16 bytes
    CHUNK_PIECES = CHUNK_K / 8, //
    MULTIPLIERS = 8,            // warps that multiply;
    ASSISTANT = 8,              // one that combines LayerNorm's statistics, attends to the step's own key,
                                // and empties the exchange of the step before;
    FEEDER = 9,                 // one that brings weights
    THREADS = 384,              // three warpgroups, the third with two idle warps;
    MULTIPLIER_REGISTERS = 224, // of the first two, which the third makes room for
    OTHER_REGISTERS = 56,
    WORKER_WARPS = 9,                      // all but the feeder and the idle ones
    MAX_GROUP = 8,                         // tiles of outputs that are finished at once
    FINISHED = 256,                        // outputs, one by each multiplier's thread
    MAX_CHUNKS = NORM_MAX_C / CHUNK_K / 8, // of a warp
    MAX_CHANNEL_TILES = 16,
    MAX_STAGES = 24, // tiles of weights in shared memory
    MAX_ROWS = PERSISTENT_ROWS,
    HEAD_D = PERSISTENT_D,
    KEYS = 32,               // of a warp's portion
    TURNS = 6,               // steps after which buffers that alternate by 2 and by 3 are back
    PARTS = MULTIPLIERS + 1, // partial results of attention
};

enum kind { QKV, ATTPROJ, FC, FCPROJ, HEAD, KINDS };

// The rows' activations around one layer lie in one piece of device memory, in pieces of 8 values: (tiles, B)
// of the residual stream x in front of QKV and y in front of FC, both scaled for their LayerNorms; of QKV's
// outputs, what attention answers, and FC's outputs; and for each piece of x and of y its mean and the sum of
// squares around it. Of the layer behind the last there is only x, which the LM head reads.
struct exchange_layout {
    int x, y, qkv, mixed, inner, x_stats, y_stats, pieces; // offsets in pieces
};
__host__ __device__ constexpr exchange_layout exchange_layout_of(int C, int F, int B) {
    const int c = C / TILE * B, f = F / TILE * B; // C / TILE is a multiple of 8
    return {0, c, 2 * c, 5 * c, 6 * c, 6 * c + f, 6 * c + f + c / 2, 7 * c + f};
}

// One of a layer's products or the LM head: outputs = rows weight^T. With `folded` its LayerNorm is deferred.
struct product {
    layered weight, bias, folded, gain; // gain: of the LayerNorm that reads the residual stream behind it;
                                        // NULL where there is none
    int parts;                          // K = parts * C
    int in, in_stats, out, out_stats;   // offsets in the layer's exchange
};

struct arguments {
    persistent_model m;
    persistent_rows r;
    product products[KINDS];
    exchange_layout layout;
    const block_plan *plans; // (blocks)
    uint4 *pieces;           // (2, L + 1, layout.pieces): exchanges of even and of odd steps
    uint2 *candidates;       // (3, B, blocks): the best token of every block
    int chunks, part_pieces; // of C columns
    int stages, slot_bytes,
        row_bytes; // of the ring: a slot holds a tile's rows of C columns, row_bytes apart
    int group;     // group_of(B)
    int steps, turn;
};

// Of one output: y = norm.scale * sum - norm.shift * folded + bias; gain is the next LayerNorm's.
struct alignas(16) output_terms {
    float bias, folded, gain, unused;
};

struct shared_state {
    uint64_t full[MAX_STAGES], empty[MAX_STAGES], meeting;
    row_norm norms[2][MAX_ROWS];
    float2 weight_and_peak[2][PARTS]; // of attention's partial results: sum, maximum
    float2 partial[2][PARTS][HEAD_D / 2];
    output_terms terms[2][MAX_GROUP * TILE];
    best found[FINISHED / TILE];
    int token[MAX_ROWS], length[MAX_ROWS];
    tile_range tiles[KINDS]; // of the block
    float residual[MAX_CHANNEL_TILES * TILE * MAX_ROWS];
};

// Tiles that are finished at once; they come in pairs.
__host__ __device__ constexpr int group_of(int B) {
    const int most = FINISHED / (TILE * B) / 2 * 2;
    return most < MAX_GROUP ? most : (int)MAX_GROUP;
}
// Bytes of the two buffers in which the warps' sums of a group meet.
__host__ __device__ constexpr int sums_bytes(int B) {
    return 2 * MULTIPLIERS * group_of(B) * TILE * B * (int)sizeof(float);
}

__device__ inline uint4 *exchange_of(const arguments &a, int turn, int layer) {
    return a.pieces + (size_t)((turn & 1) * (a.m.L + 1) + layer) * a.layout.pieces;
}
// A product of several parts of K keeps two tiles' sums in registers: its groups are pairs.
__device__ inline int group_tiles_of(const arguments &a, int parts) {
    return parts == 1 ? a.group : 2;
}

template <typename E>
__device__ inline const E *of_layer(const layered &tensor, int layer) {
    return reinterpret_cast<const E *>(static_cast<const char *>(tensor.first) + layer * tensor.stride);
}

} // namespace persistent

#endif
