// Attention of the persistent step: a cluster takes some heads of all rows at once.
//
// The cached keys of a query are dealt out to the warps of all the cluster's blocks, 16 at a time. Keys and
// values come straight into registers while the query is still on its way. Every warp sends its partial
// result to all blocks of the cluster, each of which merges them and adds the step's own key and value. Where
// there are as many rows as blocks (shape::ROW_PER_BLOCK), a row's keys are dealt out to the warps of one
// block, which merges their partial results by itself and sends the cluster what attention answers.
#ifndef CUDA_PERSISTENT_ATTENTION_CUH
#define CUDA_PERSISTENT_ATTENTION_CUH

#include "cuda/persistent_block.cuh"

namespace persistent {

enum {
    KEY_TILES = KEYS / TILE,       // of the score product
    D_CHUNKS = HEAD_D / CHUNK_K,   //
    CHUNK_PIECES = CHUNK_K / TILE, //
    PART_BYTES = (HEAD_D + 4) * 4, // of a partial result, as it is sent
    MULTIPLIERS_LOG = 3,           //
};

static_assert(1 << MULTIPLIERS_LOG == MULTIPLIERS, "its logarithm");

// A portion of keys and values. Lane (n, quarter) has of key 8 j + n the pieces `quarter` of both chunks;
// of values 8 j + 2 quarter and the one behind it piece n.
struct cached_keys {
    uint4 k[KEY_TILES][D_CHUNKS], v[KEY_TILES][2];
};

// k, v (*, D): zeros from key `count` on.
template <typename T>
__device__ inline void load_keys(cached_keys &keys, const T *k, const T *v, int first, int count, int lane) {
    const int n = lane / 4, quarter = lane % 4;
    const uint4 zero = make_uint4(0, 0, 0, 0);
#pragma unroll
    for (int j = 0; j < KEY_TILES; j++) {
        const int key = first + TILE * j + n;
        const uint4 *from = reinterpret_cast<const uint4 *>(k + (size_t)key * HEAD_D) + quarter;
#pragma unroll
        for (int c = 0; c < D_CHUNKS; c++)
            keys.k[j][c] = key < count ? __ldcg(from + c * CHUNK_PIECES) : zero;
    }
#pragma unroll
    for (int j = 0; j < KEY_TILES; j++) {
        const int key = first + TILE * j + 2 * quarter;
        const uint4 *from = reinterpret_cast<const uint4 *>(v + (size_t)key * HEAD_D) + n;
#pragma unroll
        for (int i = 0; i < 2; i++) keys.v[j][i] = key + i < count ? __ldcg(from + i * HEAD_PIECES) : zero;
    }
}

// Scores of a query against some keys, and what they make of their values: out = values / weight. Lane
// (n, quarter) has channels 8 (2 quarter + i) + d in values[d][i], the same for all n.
struct partial {
    float peak, weight; // maximum of the scores; sum of 2^(score - peak)
    float values[TILE][2];
};

// Maximum of the scores, and of what was before. The scores get scaled to powers of two.
__device__ inline float scale_scores(float (&scores)[KEY_TILES][2], float peak, float scale, int first,
                                     int count, int lane) {
#pragma unroll
    for (int j = 0; j < KEY_TILES; j++) {
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const int key = first + TILE * j + 2 * (lane % 4) + i;
            scores[j][i] = key < count ? scores[j][i] * scale : -INFINITY;
            peak = fmaxf(peak, scores[j][i]);
        }
    }
    peak = fmaxf(peak, __shfl_xor_sync(FULL_WARP, peak, 1));
    return fmaxf(peak, __shfl_xor_sync(FULL_WARP, peak, 2));
}

// Of two neighbouring keys' words the low or the high halves, as the product wants its k.
__device__ inline uint32_t low_halves(uint32_t first, uint32_t second) {
    return __byte_perm(first, second, 0x5410);
}
__device__ inline uint32_t high_halves(uint32_t first, uint32_t second) {
    return __byte_perm(first, second, 0x7632);
}

// Adds a warp's keys. q[c] is piece `quarter` of chunk c. All lanes of a quarter get the same.
template <typename T>
__device__ inline void attend_keys(partial *p, const cached_keys &keys, const uint4 (&q)[D_CHUNKS],
                                   float scale, int first, int count, int lane) {
    // Rows 0 .. 7 have half of the query's channels, 8 .. 15 the others: of the first half's products with
    // the keys rows 0 .. 7 count, of the second half's rows 8 .. 15.
    float halves[2][KEY_TILES][4] = {};
#pragma unroll
    for (int c = 0; c < D_CHUNKS; c++) {
#pragma unroll
        for (int j = 0; j < KEY_TILES; j++) {
            const uint32_t both[4] = {q[c].x, q[c].z, q[c].y, q[c].w};
            mma_16x8x16<T>(halves[0][j], both, keys.k[j][c].x, keys.k[j][c].y);
            mma_16x8x16<T>(halves[1][j], both, keys.k[j][c].z, keys.k[j][c].w);
        }
    }
    float scores[KEY_TILES][2];
#pragma unroll
    for (int j = 0; j < KEY_TILES; j++) {
#pragma unroll
        for (int i = 0; i < 2; i++) scores[j][i] = halves[0][j][i] + halves[1][j][2 + i];
    }
    const float peak = scale_scores(scores, p->peak, scale, first, count, lane);
    const float base = peak == -INFINITY ? 0 : peak, before = exp2_flushed(p->peak - base);
    uint32_t weights[4] = {};
#pragma unroll
    for (int j = 0; j < KEY_TILES; j++)
        weights[2 * j] = pack_pair<T>(exp2_flushed(scores[j][0] - base), exp2_flushed(scores[j][1] - base));
    const uint32_t ones = pack_pair<T>(1, 1);
    float sum[4] = {p->weight * before};
    mma_16x8x16<T>(sum, weights, ones, ones);
    p->peak = peak;
    p->weight = sum[0];
#pragma unroll
    for (int word = 0; word < 4; word++) {
        const auto of_key = [&](int j, int i) {
            const uint32_t words[4] = {keys.v[j][i].x, keys.v[j][i].y, keys.v[j][i].z, keys.v[j][i].w};
            return words[word];
        };
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float(&channel)[2] = p->values[2 * word + half];
            float c[4] = {channel[0] * before, channel[1] * before};
            const auto pair = half == 0 ? low_halves : high_halves;
            mma_16x8x16<T>(c, weights, pair(of_key(0, 0), of_key(0, 1)), pair(of_key(1, 0), of_key(1, 1)));
            channel[0] = c[0];
            channel[1] = c[1];
        }
    }
}

// ---- whose keys are whose

// The queries at once are those of all rows of a head, then of the next. Warps of a block that share a
// query's keys:
__device__ inline int warps_log_of(int queries) { // as a power of two
    return queries > 4 ? 0 : queries > 2 ? 1 : queries > 1 ? 2 : MULTIPLIERS_LOG;
}
// A query's cached keys in this warp: portions part, part + parts, ... of KEYS keys each; none: -1. Its
// partial result is number `part` of the query's, which is sent if it is one of the first parts_sent.
struct key_share {
    int query, row, head, cached, part, parts, warps_log;
};
template <typename S>
__device__ inline key_share share_of(const worker &w, const arguments &a, const head_set &heads) {
    if (S::ROW_PER_BLOCK) {
        const int row = rank_of_block();
        return {row, row, heads.first, max(w.s->length[row] - 1, 0), w.warp, MULTIPLIERS, MULTIPLIERS_LOG};
    }
    const int log = warps_log_of(heads.count * S::B), query = w.warp >> log, i = query / S::B;
    key_share share = {query,
                       query - i * S::B,
                       heads.first + i * a.clusters,
                       -1,
                       (w.warp - (query << log)) * CLUSTER + rank_of_block(),
                       CLUSTER << log,
                       log};
    if (i < heads.count) share.cached = max(w.s->length[share.row] - 1, 0);
    return share;
}
// Of a query with so many cached keys. At least one comes from every block, if only to say that it has the
// query: none may send the next heads' before.
__device__ inline int parts_sent(int cached, int parts) {
    return min(max((int)((unsigned)(cached + KEYS - 1) / KEYS), (int)CLUSTER), parts);
}

// A row's and head's keys in the cache; its values lie kv_stride bytes behind.
template <typename S>
__device__ inline typename S::T *keys_of(const arguments &a, int layer, int row, int head) {
    using T = typename S::T;
    T *cache = reinterpret_cast<T *>(static_cast<char *>(a.r.kv) + 2 * (int64_t)layer * a.r.kv_stride);
    return cache + ((size_t)row * S::H(a) + head) * a.r.max_tokens * HEAD_D;
}
template <typename T>
__device__ inline T *values_behind(const arguments &a, T *keys) {
    return keys + a.r.kv_stride / (int64_t)sizeof(T);
}

// Portion `portion` of a row's keys, if it has that.
template <typename S>
__device__ inline void load_portion(const worker &w, const arguments &a, int layer, const key_share &share,
                                    int portion, cached_keys &keys) {
    if (portion * KEYS >= share.cached) return;
    const typename S::T *k = keys_of<S>(a, layer, share.row, share.head);
    load_keys(keys, k, values_behind(a, k), portion * KEYS, share.cached, w.lane);
}

// Portions of a warp at once: its part, and parts further.
template <typename S>
constexpr int PORTIONS_AT_ONCE = S::ROW_PER_BLOCK ? 2 : 1;
template <typename S>
struct key_portions {
    cached_keys portion[PORTIONS_AT_ONCE<S>];
};
template <typename S>
__device__ inline void load_portions(const worker &w, const arguments &a, int layer, const key_share &share,
                                     int first, key_portions<S> &keys) {
#pragma unroll
    for (int i = 0; i < PORTIONS_AT_ONCE<S>; i++)
        load_portion<S>(w, a, layer, share, first + i * share.parts, keys.portion[i]);
}

// Brings a warp's first portion of the next layer into the L2: 32 lines, one a lane.
template <typename S>
__device__ inline void prefetch_portion(const worker &w, const arguments &a, int layer,
                                        const key_share &share) {
    const int key = share.part * KEYS + w.lane / 2;
    if (key >= share.cached) return;
    const typename S::T *k = keys_of<S>(a, layer, share.row, share.head) + key * HEAD_D;
    prefetch_line(w.lane % 2 == 0 ? k : values_behind(a, k));
}
// The same of all warps of a block that has a row, by one warp.
template <typename S>
__device__ inline void prefetch_row(const worker &w, const arguments &a, int layer) {
    if (!S::ROW_PER_BLOCK || w.s->heads_owned == 0) return;
    const int row = rank_of_block(),
              keys = min(w.s->length[row] - 1, MULTIPLIERS * PORTIONS_AT_ONCE<S> * KEYS);
    if (keys <= 0 || w.lane > 1) return;
    typename S::T *k = keys_of<S>(a, layer, row, cluster_of_block());
    prefetch_bytes(w.lane == 0 ? k : values_behind(a, k), (uint32_t)keys * SLICE_BYTES);
}

__device__ inline float score_scale(const arguments &a, int layer) {
    return LOG2E *
           (a.m.attention_scale_inverse ? a.m.attention_scale / (float)(layer + 1) : a.m.attention_scale);
}

// ---- partial results

// To all blocks of the cluster that merge it, a block from four lanes.
template <typename S>
__device__ inline void send_part(const worker &w, int part, const partial &p) {
    const int rank = w.lane / 4, quarter = w.lane % 4;
    float4 *values = w.s->values[part] + quarter * 4;
    const auto put = [&](float4 *to, float4 piece) {
        if (!S::ROW_PER_BLOCK)
            send(rank, to, piece, &w.s->attention);
        else if (rank == 0) // to the own block
            *to = piece;
    };
    if (quarter == 0) put(w.s->weight_and_peak + part, make_float4(p.weight, p.peak, 0, 0));
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const int d = i % 2 * 4;
        put(values + i, make_float4(p.values[d][i / 2], p.values[d + 1][i / 2], p.values[d + 2][i / 2],
                                    p.values[d + 3][i / 2]));
    }
}

// The warp's cached keys, whose first portions are loaded already.
template <typename S>
__device__ inline void attend_cached(const worker &w, const arguments &a, int layer, const key_share &share,
                                     const uint4 *query, key_portions<S> &keys) {
    partial p = {-INFINITY, 0, {}};
    const int quarter = w.lane % 4;
    const float scale = score_scale(a, layer);
    uint4 q[D_CHUNKS];
#pragma unroll
    for (int c = 0; c < D_CHUNKS; c++) q[c] = query[c * CHUNK_PIECES + quarter];
#pragma unroll 1
    for (int portion = share.part; portion * KEYS < share.cached;
         portion += PORTIONS_AT_ONCE<S> * share.parts) {
        if (portion != share.part) load_portions<S>(w, a, layer, share, portion, keys);
#pragma unroll
        for (int i = 0; i < PORTIONS_AT_ONCE<S>; i++) {
            const int first = (portion + i * share.parts) * KEYS;
            if (i > 0 && first >= share.cached) break;
            attend_keys<typename S::T>(&p, keys.portion[i], q, scale, first, share.cached, w.lane);
        }
    }
    send_part<S>(w, share.query * share.parts + share.part, p);
}

// The highest of a warp's values, by way of integers of the same order; no NaN.
__device__ inline float highest_of_warp(float value) {
    const int bits = __float_as_int(value), ordered = bits ^ (bits >> 31 & 0x7fffffff),
              highest = __reduce_max_sync(FULL_WARP, ordered);
    return __int_as_float(highest ^ (highest >> 31 & 0x7fffffff));
}

// What four channels of all parts of a query make together.
struct merged {
    float weight;
    float4 values;
    __device__ void add_scaled(float factor, float other_weight, float4 other) {
        weight += factor * other_weight;
        values = make_float4(values.x + factor * other.x, values.y + factor * other.y,
                             values.z + factor * other.z, values.w + factor * other.w);
    }
    // Of the lanes that differ in this bit of their number.
    __device__ void add_lanes(int bit) {
        weight += __shfl_xor_sync(FULL_WARP, weight, bit);
        values = add_lane(values, bit);
    }
};

// A query's answer, by its warps: each has some quads of channels, as many lanes add up a quad as there are.
template <typename S>
__device__ inline void merge_parts(const worker &w, const arguments &a, int layer, const key_share &share,
                                   const uint4 *head, int parity) {
    using T = typename S::T;
    constexpr int LANE_PARTS = 4; // WARP * 4 = HEAD_D / QUAD * CLUSTER: of a lane, at most
    constexpr int QUADS_LOG = 4;  // HEAD_D / QUAD is 16
    const int quads_log = QUADS_LOG - share.warps_log, sharers = WARP >> quads_log,
              first = w.lane >> quads_log, part_of_head = w.warp & ((1 << share.warps_log) - 1),
              quad = (part_of_head << quads_log) + w.lane - (first << quads_log),
              count = parts_sent(share.cached, share.parts);
    const uint32_t *own = reinterpret_cast<const uint32_t *>(head) + w.lane;
    const auto q = unpack_pair<T>(own[0]), k = unpack_pair<T>(own[HEAD_D / 2]);
    const uint2 v = reinterpret_cast<const uint2 *>(head + 2 * HEAD_PIECES)[quad];
    const float score = warp_sum(q.at[0] * k.at[0] + q.at[1] * k.at[1]) * score_scale(a, layer);
    const float4 *weight_and_peak = w.s->weight_and_peak + share.query * share.parts,
                 *values = w.s->values[share.query * share.parts] + quad;
    if (S::ROW_PER_BLOCK)
        meet();
    else
        barrier_wait(&w.s->attention, (uint32_t)parity);
    float2 parts[LANE_PARTS];
    float peak = score;
#pragma unroll
    for (int i = 0; i < LANE_PARTS; i++) {
        const int part = first + i * sharers;
        parts[i] = make_float2(0, -INFINITY);
        if (part < count) parts[i] = *reinterpret_cast<const float2 *>(weight_and_peak + part);
        peak = fmaxf(peak, parts[i].y);
    }
    peak = highest_of_warp(peak);
    merged all = {};
    if (first == 0) {
        const auto low = unpack_pair<T>(v.x), high = unpack_pair<T>(v.y);
        all.add_scaled(exp2_flushed(score - peak), 1,
                       make_float4(low.at[0], low.at[1], high.at[0], high.at[1]));
    }
#pragma unroll
    for (int i = 0; i < LANE_PARTS; i++) {
        const int part = first + i * sharers;
        if (i * sharers >= count) break;
        if (part < count)
            all.add_scaled(exp2_flushed(parts[i].y - peak), parts[i].x, values[part * (HEAD_D / QUAD)]);
    }
    all.add_lanes(16);
    if (share.warps_log >= 1) all.add_lanes(8);
    if (share.warps_log >= 2) all.add_lanes(4);
    if (share.warps_log >= 3) all.add_lanes(2);
    const float inverse = w.s->length[share.row] > 0 ? __fdividef(1.0f, all.weight) : 0;
    const uint2 answer = make_uint2(pack_pair<T>(all.values.x * inverse, all.values.y * inverse),
                                    pack_pair<T>(all.values.z * inverse, all.values.w * inverse));
    if (S::ROW_PER_BLOCK) { // two quads a warp, in even and odd lanes
        const uint4 piece =
            make_uint4(__shfl_sync(FULL_WARP, answer.x, 0), __shfl_sync(FULL_WARP, answer.y, 0),
                       __shfl_sync(FULL_WARP, answer.x, 1), __shfl_sync(FULL_WARP, answer.y, 1));
        if (w.lane < CLUSTER) send(w.lane, w.s->attended[share.query] + w.warp, piece, &w.s->attention);
        barrier_wait(&w.s->attention, (uint32_t)parity);
    } else if (first == 0) {
        reinterpret_cast<uint2 *>(w.s->attended[share.query])[quad] = answer;
    }
}

// By all multipliers, when the heads' queries, keys and values have been sent: the cached keys.
template <typename S>
__device__ inline void attend(worker *w, const arguments &a, int layer, const key_share &share,
                              key_portions<S> &keys) {
    const int turn = w->turn(TURN_QKV);
    barrier_wait(&w->s->qkv, (uint32_t)turn);
    if (share.cached >= 0 && share.part < parts_sent(share.cached, share.parts))
        attend_cached<S>(*w, a, layer, share, w->s->heads[turn][share.query], keys);
}

// And what the cluster's blocks have sent of them, with the step's own key and value.
template <typename S>
__device__ inline void merge(worker *w, const arguments &a, int layer, const key_share &share) {
    const int parity = w->take_turn(TURN_ATTENTION), turn = w->take_turn(TURN_QKV);
    if (share.cached >= 0) merge_parts<S>(*w, a, layer, share, w->s->heads[turn][share.query], parity);
    if (!S::ROW_PER_BLOCK) meet();
}

// Bytes of partial results that every block gets for some heads, or of answers.
template <typename S>
__device__ inline int attention_bytes(const worker &w, const arguments &a, const head_set &heads) {
    if (S::ROW_PER_BLOCK) return S::B * SLICE_BYTES;
    const int parts = (int)CLUSTER << warps_log_of(heads.count * S::B);
    int sent = 0;
#pragma unroll 1
    for (int row = 0; row < S::B; row++) sent += parts_sent(max(w.s->length[row] - 1, 0), parts);
    return heads.count * sent * PART_BYTES;
}

} // namespace persistent

#endif
