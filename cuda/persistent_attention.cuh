// Attention of the persistent step: a block takes one row and head after the other.
//
// Keys and values of the cache come straight into registers, 32 keys a warp, while the query is still on its
// way; the step's own key and value come out of the exchange. Partial results are merged in a fixed order.
#ifndef CUDA_PERSISTENT_ATTENTION_CUH
#define CUDA_PERSISTENT_ATTENTION_CUH

#include "cuda/persistent_product.cuh"

namespace persistent {

enum {
    KEY_TILES = KEYS / TILE,         // of the score product
    D_CHUNKS = HEAD_D / CHUNK_K,     //
    D_PIECES = HEAD_D / TILE,        //
    BLOCK_KEYS = MULTIPLIERS * KEYS, // that a block takes at once
};

// A warp's 32 keys and values. Lane (n, quarter) has of key 8 j + n the pieces `quarter` of both chunks;
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
        for (int i = 0; i < 2; i++) keys.v[j][i] = key + i < count ? __ldcg(from + i * D_PIECES) : zero;
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

// One warp's share of the cached keys.
template <typename T>
__device__ inline void attend_cached(const worker &w, cached_keys &keys, const T *k, const T *v,
                                     const uint4 *query, int B, float scale, int count,
                                     float2 *weight_and_peak, float2 *values) {
    partial p = {-INFINITY, 0, {}};
    const int quarter = w.lane % 4;
    int first = w.warp * KEYS;
    if (first < count) {
        uint4 q[D_CHUNKS];
#pragma unroll
        for (int c = 0; c < D_CHUNKS; c++) q[c] = peek(query + (c * CHUNK_PIECES + quarter) * B);
#pragma unroll
        for (int c = 0; c < D_CHUNKS; c++) {
            while (__any_sync(FULL_WARP, is_empty(q[c])))
                q[c] = peek(query + (c * CHUNK_PIECES + quarter) * B);
        }
#pragma unroll 1
        for (;;) {
            attend_keys<T>(&p, keys, q, scale, first, count, w.lane);
            first += BLOCK_KEYS;
            if (first >= count) break;
            load_keys(keys, k, v, first, count, w.lane);
        }
    }
    const float2 channels = gather_channels(p.values, quarter);
    const float weight = sum_quarters(p.weight);
    values[w.lane] = channels;
    if (w.lane == 0) *weight_and_peak = make_float2(weight, p.peak);
}

// The step's own key and value, by one warp: lane i has channels 2 i and 2 i + 1.
template <typename T>
__device__ inline void attend_own(const worker &w, const uint4 *query, int head_pieces, int B, float scale,
                                  float2 *weight_and_peak, float2 *values) {
    const uint32_t *own = reinterpret_cast<const uint32_t *>(query + w.lane / 4 * B) + w.lane % 4;
    uint32_t word[3]; // of q, k, v
#pragma unroll
    for (int i = 0; i < 3; i++) word[i] = peek(own + (size_t)i * head_pieces * 4);
#pragma unroll
    for (int i = 0; i < 3; i++) {
        if (is_empty(word[i])) word[i] = await(own + (size_t)i * head_pieces * 4);
    }
    const auto q = unpack_pair<T>(word[0]), k = unpack_pair<T>(word[1]), v = unpack_pair<T>(word[2]);
    const float score = warp_sum(q.at[0] * k.at[0] + q.at[1] * k.at[1]) * scale;
    values[w.lane] = make_float2(v.at[0], v.at[1]);
    if (w.lane == 0) *weight_and_peak = make_float2(1, score);
}

// Channels 2 lane and 2 lane + 1 of all partial results together.
__device__ inline float2 merge_partials(const float2 *weight_and_peak, const float2 (*values)[HEAD_D / 2],
                                        int lane) {
    float2 parts[PARTS];
    float peak = -INFINITY, weight = 0;
    float2 sum = make_float2(0, 0);
#pragma unroll
    for (int i = 0; i < PARTS; i++) {
        parts[i] = weight_and_peak[i];
        peak = fmaxf(peak, parts[i].y);
    }
#pragma unroll
    for (int i = 0; i < PARTS; i++) {
        const float factor = exp2_flushed(parts[i].y - peak);
        const float2 v = values[i][lane];
        weight += factor * parts[i].x;
        sum.x += factor * v.x;
        sum.y += factor * v.y;
    }
    const float inverse = __fdividef(1.0f, weight);
    return make_float2(sum.x * inverse, sum.y * inverse);
}

__device__ inline float score_scale(const arguments &a, int layer) {
    return LOG2E *
           (a.m.attention_scale_inverse ? a.m.attention_scale / (float)(layer + 1) : a.m.attention_scale);
}

// A block's heads are blockIdx.x, blockIdx.x + gridDim.x, ... of all rows' heads; those of free rows have
// length 0. The assistant and the multipliers take them in the same order, and meet after each.
struct row_head {
    int row, head, length;
};
__device__ inline row_head row_head_of(const worker &w, const arguments &a, int item) {
    const int row = item / a.m.H;
    return {row, item - row * a.m.H, row < a.r.B ? w.s->length[row] : 0};
}

__device__ inline const uint4 *query_of(const arguments &a, const uint4 *exchange, const row_head &r) {
    return exchange + a.layout.qkv + r.head * D_PIECES * a.r.B + r.row;
}

// A row's and head's keys in the cache; its values lie kv_stride bytes behind.
template <typename T>
__device__ inline const T *keys_of(const arguments &a, int layer, const row_head &r) {
    const T *cache =
        reinterpret_cast<const T *>(static_cast<const char *>(a.r.kv) + 2 * (int64_t)layer * a.r.kv_stride);
    return cache + ((size_t)r.row * a.m.H + r.head) * a.r.max_tokens * HEAD_D;
}

template <typename T>
__device__ inline void load_first_keys(const worker &w, const arguments &a, int layer, const row_head &r,
                                       cached_keys &keys) {
    const T *k = keys_of<T>(a, layer, r);
    load_keys(keys, k, k + a.r.kv_stride / (int64_t)sizeof(T), w.warp * KEYS, r.length - 1, w.lane);
}

// By all multipliers. `first` is the block's first head, whose first keys are here already.
template <typename T>
__device__ inline void attend(worker *w, const arguments &a, uint4 *exchange, int layer,
                              const row_head &first, cached_keys &keys) {
    row_head r = first;
#pragma unroll 1
    for (int item = blockIdx.x; item < a.r.B * a.m.H; item += gridDim.x) {
        if (item != (int)blockIdx.x) r = row_head_of(*w, a, item);
        uint32_t *out = reinterpret_cast<uint32_t *>(exchange + a.layout.mixed +
                                                     (r.head * D_PIECES + w->lane / 4) * a.r.B + r.row) +
                        w->lane % 4;
        if (r.length == 0) {
            if (w->warp == 0) publish(out, 0);
            continue;
        }
        if (item != (int)blockIdx.x) load_first_keys<T>(*w, a, layer, r, keys);
        const int turn = w->take_turn(TURN_ATTENTION);
        float2 *weight_and_peak = w->s->weight_and_peak[turn], (*values)[HEAD_D / 2] = w->s->partial[turn];
        const T *k = keys_of<T>(a, layer, r);
        attend_cached<T>(*w, keys, k, k + a.r.kv_stride / (int64_t)sizeof(T), query_of(a, exchange, r), a.r.B,
                         score_scale(a, layer), r.length - 1, weight_and_peak + w->warp, values[w->warp]);
        meet(w);
        if (w->warp == 0) {
            const float2 channels = merge_partials(weight_and_peak, values, w->lane);
            publish(out, pack_pair<T>(channels.x, channels.y));
        }
    }
}

// By the assistant.
template <typename T>
__device__ inline void assist_attention(worker *w, const arguments &a, uint4 *exchange, int layer) {
#pragma unroll 1
    for (int item = blockIdx.x; item < a.r.B * a.m.H; item += gridDim.x) {
        const row_head r = row_head_of(*w, a, item);
        if (r.length == 0) continue;
        const int turn = w->take_turn(TURN_ATTENTION);
        attend_own<T>(*w, query_of(a, exchange, r), a.part_pieces, a.r.B, score_scale(a, layer),
                      w->s->weight_and_peak[turn] + ASSISTANT, w->s->partial[turn][ASSISTANT]);
        meet(w);
    }
}

} // namespace persistent

#endif
