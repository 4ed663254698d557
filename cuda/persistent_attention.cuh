// Attention of the persistent step: a cluster takes some heads of all rows at once.
//
// The cached keys of a query are dealt out to the warps of all the cluster's blocks, 16 at a time. Keys and
// values come straight into registers while the query is still on its way. Every warp sends its partial
// result to all blocks of the cluster, each of which merges them and adds the step's own key and value.
#ifndef CUDA_PERSISTENT_ATTENTION_CUH
#define CUDA_PERSISTENT_ATTENTION_CUH

#include "cuda/persistent_block.cuh"

namespace persistent {

enum {
    KEY_TILES = KEYS / TILE,       // of the score product
    D_CHUNKS = HEAD_D / CHUNK_K,   //
    CHUNK_PIECES = CHUNK_K / TILE, //
    PART_BYTES = (HEAD_D + 4) * 4, // of a partial result, as it is sent
};

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

// Scores of a query against some keys, and what they make of their values: out = values / weight.
struct partial {
    float peak, weight; // maximum of the scores; sum of 2^(score - peak)
    float values[TILE]; // lane (n, quarter): of channels 8 n .. of its own keys
};

// Adds a warp's keys. q[c] is piece `quarter` of chunk c; scores are scaled to powers of two.
template <typename T>
__device__ inline void attend_keys(partial *p, const cached_keys &keys, const uint4 (&q)[D_CHUNKS],
                                   float scale, int first, int count, int lane) {
    float scores[KEY_TILES][4] = {};
#pragma unroll
    for (int c = 0; c < D_CHUNKS; c++) {
#pragma unroll
        for (int j = 0; j < KEY_TILES; j++) { // the same query in all rows: every lane gets its keys' scores
            mma_16x8x16<T>(scores[j], {q[c].x, 0, q[c].y, 0}, keys.k[j][c].x, keys.k[j][c].y);
            mma_16x8x16<T>(scores[j], {q[c].z, 0, q[c].w, 0}, keys.k[j][c].z, keys.k[j][c].w);
        }
    }
    float peak = p->peak;
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
    peak = fmaxf(peak, __shfl_xor_sync(FULL_WARP, peak, 2));
    const float base = peak == -INFINITY ? 0 : peak, before = exp2_flushed(p->peak - base);
    p->peak = peak;
    p->weight *= before;
#pragma unroll
    for (int d = 0; d < TILE; d++) p->values[d] *= before;
#pragma unroll
    for (int j = 0; j < KEY_TILES; j++) {
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const float weight = exp2_flushed(scores[j][i] - base);
            p->weight += weight;
            const uint32_t words[4] = {keys.v[j][i].x, keys.v[j][i].y, keys.v[j][i].z, keys.v[j][i].w};
#pragma unroll
            for (int d = 0; d < 4; d++) {
                const auto pair = unpack_pair<T>(words[d]);
                p->values[2 * d] += weight * pair.at[0];
                p->values[2 * d + 1] += weight * pair.at[1];
            }
        }
    }
}

// The sum over the four lanes that share channels: lane (n, quarter) gets channels 8 n + 2 quarter and the
// next.
__device__ inline float2 gather_channels(const float (&values)[TILE], int quarter) {
    float half[4], pair[2];
    const bool upper = quarter & 2, odd = quarter & 1;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const float other = __shfl_xor_sync(FULL_WARP, upper ? values[i] : values[4 + i], 2);
        half[i] = (upper ? values[4 + i] : values[i]) + other;
    }
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const float other = __shfl_xor_sync(FULL_WARP, odd ? half[i] : half[2 + i], 1);
        pair[i] = (odd ? half[2 + i] : half[i]) + other;
    }
    return make_float2(pair[0], pair[1]);
}

__device__ inline float sum_quarters(float value) {
    value += __shfl_xor_sync(FULL_WARP, value, 1);
    return value + __shfl_xor_sync(FULL_WARP, value, 2);
}

// ---- whose keys are whose

// The queries at once are those of all rows of a head, then of the next. Warps of a block that share a
// query's keys:
__device__ inline int warps_a_query(int queries) {
    return queries > 4 ? 1 : queries > 2 ? 2 : queries > 1 ? 4 : 8;
}
// A query's cached keys in this warp: portions part, part + parts, ... of KEYS keys each; none: -1. Its
// partial result is number `part` of the query's, which is sent if it is one of the first parts_sent.
struct key_share {
    int query, row, head, cached, part, parts;
};
template <typename S>
__device__ inline key_share share_of(const worker &w, const arguments &a, const head_set &heads) {
    const int warps = warps_a_query(heads.count * S::B), query = w.warp / warps, i = query / S::B;
    key_share share = {query,
                       query - i * S::B,
                       heads.first + i * a.clusters,
                       -1,
                       w.warp % warps * CLUSTER + rank_of_block(),
                       warps * CLUSTER};
    if (i < heads.count) share.cached = max(w.s->length[share.row] - 1, 0);
    return share;
}
// Of a query with so many cached keys. At least one comes from every block, if only to say that it has the
// query: none may send the next heads' before.
__device__ inline int parts_sent(int cached, int parts) {
    return min(max((cached + KEYS - 1) / KEYS, (int)CLUSTER), parts);
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

// Brings a warp's first portion of the next layer into the L2: 32 lines, one a lane.
template <typename S>
__device__ inline void prefetch_portion(const worker &w, const arguments &a, int layer,
                                        const key_share &share) {
    const int key = share.part * KEYS + w.lane / 2;
    if (key >= share.cached) return;
    const typename S::T *k = keys_of<S>(a, layer, share.row, share.head) + key * HEAD_D;
    prefetch_line(w.lane % 2 == 0 ? k : values_behind(a, k));
}

__device__ inline float score_scale(const arguments &a, int layer) {
    return LOG2E *
           (a.m.attention_scale_inverse ? a.m.attention_scale / (float)(layer + 1) : a.m.attention_scale);
}

// ---- partial results

// To all blocks of the cluster; lane i has channels 2 i and 2 i + 1.
__device__ inline void send_part(const worker &w, int part, float weight, float peak, float2 channels) {
    float4 *values = w.s->values[part];
    reinterpret_cast<float2 *>(values)[w.lane] = channels;
    if (w.lane < CLUSTER)
        send(w.lane % CLUSTER, w.s->weight_and_peak + part,
             make_uint4(__float_as_uint(weight), __float_as_uint(peak), 0, 0), &w.s->attention);
    __syncwarp();
#pragma unroll
    for (int i = 0; i < HEAD_D / 4 / (WARP / CLUSTER); i++) {
        float4 *four = values + i * (WARP / CLUSTER) + w.lane / CLUSTER;
        send(w.lane % CLUSTER, four, *reinterpret_cast<const uint4 *>(four), &w.s->attention);
    }
}

// The warp's cached keys, whose first portion is loaded already.
template <typename S>
__device__ inline void attend_cached(const worker &w, const arguments &a, int layer, const key_share &share,
                                     const uint4 *query, cached_keys &keys) {
    partial p = {-INFINITY, 0, {}};
    const int quarter = w.lane % 4;
    const float scale = score_scale(a, layer);
    uint4 q[D_CHUNKS];
#pragma unroll
    for (int c = 0; c < D_CHUNKS; c++) q[c] = query[c * CHUNK_PIECES + quarter];
#pragma unroll 1
    for (int portion = share.part; portion * KEYS < share.cached; portion += share.parts) {
        if (portion != share.part) load_portion<S>(w, a, layer, share, portion, keys);
        attend_keys<typename S::T>(&p, keys, q, scale, portion * KEYS, share.cached, w.lane);
    }
    const float2 channels = gather_channels(p.values, quarter);
    send_part(w, share.query * share.parts + share.part, sum_quarters(p.weight), p.peak, channels);
}

// The highest of a warp's values, by way of integers of the same order; no NaN.
__device__ inline float highest_of_warp(float value) {
    const int bits = __float_as_int(value), ordered = bits ^ (bits >> 31 & 0x7fffffff),
              highest = __reduce_max_sync(FULL_WARP, ordered);
    return __int_as_float(highest ^ (highest >> 31 & 0x7fffffff));
}

// All of a query together, by one warp: lane i answers channels 2 i and 2 i + 1.
template <typename S>
__device__ inline void merge_parts(const worker &w, const arguments &a, int layer, int query, int length,
                                   int parts, const uint4 *head, int parity) {
    using T = typename S::T;
    const shared_state &s = *w.s;
    const int count = parts_sent(length - 1, parts);
    const uint32_t *own = reinterpret_cast<const uint32_t *>(head) + w.lane;
    const auto q = unpack_pair<T>(own[0]), k = unpack_pair<T>(own[HEAD_D / 2]),
               v = unpack_pair<T>(own[2 * (HEAD_D / 2)]);
    const float score = warp_sum(q.at[0] * k.at[0] + q.at[1] * k.at[1]) * score_scale(a, layer);
    const float4 *weight_and_peak = s.weight_and_peak + query * parts;
    const float2 *values = reinterpret_cast<const float2 *>(s.values[query * parts]) + w.lane;
    barrier_wait(&w.s->attention, (uint32_t)parity);
    float peaks[2] = {-INFINITY, -INFINITY};
    if (w.lane < count) peaks[0] = weight_and_peak[w.lane].y;
    if (w.lane + WARP < count) peaks[1] = weight_and_peak[w.lane + WARP].y;
    const float peak = highest_of_warp(fmaxf(fmaxf(peaks[0], peaks[1]), score));
    const float factors[2] = {exp2_flushed(peaks[0] - peak), exp2_flushed(peaks[1] - peak)};
    float weight = exp2_flushed(score - peak);
    float2 sum = make_float2(weight * v.at[0], weight * v.at[1]);
#pragma unroll
    for (int half = 0; half < 2; half++) {
#pragma unroll 8
        for (int i = half * WARP; i < min(count, (half + 1) * WARP); i++) {
            const float factor = __shfl_sync(FULL_WARP, factors[half], i % WARP);
            const float2 part = values[i * (HEAD_D / 2)];
            weight += factor * weight_and_peak[i].x;
            sum.x += factor * part.x;
            sum.y += factor * part.y;
        }
    }
    const float inverse = length > 0 ? __fdividef(1.0f, weight) : 0;
    reinterpret_cast<uint32_t *>(w.s->attended[query])[w.lane] =
        pack_pair<T>(sum.x * inverse, sum.y * inverse);
}

// By all multipliers, when the heads' queries, keys and values have been sent. The last warps, which have
// the fewest keys, merge.
template <typename S>
__device__ inline void attend(worker *w, const arguments &a, int layer, const head_set &heads,
                              const key_share &share, cached_keys &keys) {
    const int parity = w->take_turn(TURN_ATTENTION), turn = w->take_turn(TURN_QKV),
              query = MULTIPLIERS - 1 - w->warp, i = query / S::B;
    barrier_wait(&w->s->qkv, (uint32_t)turn);
    if (share.cached >= 0 && share.part < parts_sent(share.cached, share.parts))
        attend_cached<S>(*w, a, layer, share, w->s->heads[turn][share.query], keys);
    if (i < heads.count)
        merge_parts<S>(*w, a, layer, query, w->s->length[query - i * S::B], share.parts,
                       w->s->heads[turn][query], parity);
    meet(w);
}

// Bytes of partial results that every block gets for some heads.
template <typename S>
__device__ inline int attention_bytes(const worker &w, const arguments &a, const head_set &heads) {
    const int parts = warps_a_query(heads.count * S::B) * CLUSTER;
    int sent = 0;
#pragma unroll 1
    for (int row = 0; row < S::B; row++) sent += parts_sent(w.s->length[row] - 1, parts);
    return heads.count * sent * PART_BYTES;
}

} // namespace persistent

#endif
