// Both ends of a deferred LayerNorm inside kernels: see deferred_norm.h.
#ifndef CUDA_DEFERRED_NORM_CUH
#define CUDA_DEFERRED_NORM_CUH

#include "cuda/deferred_norm.h"
#include "cuda/device.cuh"
#include "cuda/mma.cuh"

constexpr int SEGMENT_THREADS = NORM_SEGMENT / 4; // a thread has four neighbouring channels of a row

// Residuals of GPT-2 reach thousands in a few channels; times a gain they would leave f16's range.
template <typename T>
constexpr float SCALED_UNIT = std::is_same_v<T, __half> ? 1.0f / 64 : 1.0f;

// Stores four channels of row b from channel c on, and with its neighbours the statistics of their segment.
template <typename T>
__device__ inline void store_deferred(const deferred_rows &rows, int B, int C, int b, int c, float4 x,
                                      float4 gain) {
    const size_t at = (size_t)b * C + c;
    *reinterpret_cast<float4 *>(rows.x + at) = x;
    const float unit = SCALED_UNIT<T>;
    *reinterpret_cast<uint2 *>(static_cast<T *>(rows.scaled) + at) =
        make_uint2(pack_pair<T>(x.x * gain.x * unit, x.y * gain.y * unit),
                   pack_pair<T>(x.z * gain.z * unit, x.w * gain.w * unit));
    // Both sums in one pass, of differences from the segment's first channel.
    const unsigned lanes = 0xffffu << (threadIdx.x % WARP & SEGMENT_THREADS); // that hold the segment
    const float first = __shfl_sync(lanes, x.x, 0, SEGMENT_THREADS);
    const float d0 = x.x - first, d1 = x.y - first, d2 = x.z - first, d3 = x.w - first;
    float sum = (d0 + d1) + (d2 + d3), squares = (d0 * d0 + d1 * d1) + (d2 * d2 + d3 * d3);
#pragma unroll
    for (int step = SEGMENT_THREADS / 2; step > 0; step /= 2) {
        sum += __shfl_xor_sync(lanes, sum, step);
        squares += __shfl_xor_sync(lanes, squares, step);
    }
    const float mean = sum / NORM_SEGMENT;
    if (c % NORM_SEGMENT == 0)
        rows.stats[(size_t)(c / NORM_SEGMENT) * B + b] =
            make_float2(first + mean, fmaxf(squares - sum * mean, 0.0f));
}

template <typename T>
__device__ inline float4 load_widened(const T *from) {
    const auto v = *reinterpret_cast<const vec<T, 4> *>(from);
    return make_float4(static_cast<float>(v.at[0]), static_cast<float>(v.at[1]), static_cast<float>(v.at[2]),
                       static_cast<float>(v.at[3]));
}

// Row b at the beginning of a step, by a block of at least C / 4 threads: x = wte[token] + wpe[position] for
// a LayerNorm with weight `gain`; zeros for token < 0.
template <typename T>
__device__ inline void embed_deferred(const deferred_rows &rows, int B, int C, int b, int token, int position,
                                      const float *gain, const T *wte, const T *wpe) {
    const int c = 4 * static_cast<int>(threadIdx.x);
    if (c >= C) return;
    float4 x = make_float4(0, 0, 0, 0);
    if (token >= 0) {
        const float4 te = load_widened(wte + (size_t)token * C + c),
                     pe = load_widened(wpe + (size_t)position * C + c);
        x = make_float4(te.x + pe.x, te.y + pe.y, te.z + pe.z, te.w + pe.w);
    }
    store_deferred<T>(rows, B, C, b, c, x, load_four(gain + c));
}

// What a product's sum is put right with: y = scale * sum - shift * S + b'.
struct row_norm {
    float scale, shift;
};

constexpr int NORM_LANES = 4; // neighbouring lanes that combine a row's segments

// Of row b, by NORM_LANES lanes that take the row's segments in turn; all lanes of the warp must be there.
// Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances"
// (1979).
template <typename T>
__device__ inline row_norm combine_segments(const float2 *stats, int B, int C, int b, float epsilon) {
    constexpr int MOST = NORM_MAX_C / NORM_SEGMENT / NORM_LANES; // segments of a lane
    const int segments = C / NORM_SEGMENT, lane = static_cast<int>(threadIdx.x) % NORM_LANES;
    auto sum_lanes = [](float value) {
        value += __shfl_xor_sync(FULL_WARP, value, 1);
        return value + __shfl_xor_sync(FULL_WARP, value, 2);
    };
    float2 part[MOST];
    float sum = 0, squares = 0;
#pragma unroll
    for (int i = 0; i < MOST; i++) {
        const int segment = lane + i * NORM_LANES;
        part[i] = segment < segments ? __ldcg(stats + (size_t)segment * B + b) : make_float2(0, 0);
    }
#pragma unroll
    for (int i = 0; i < MOST; i++) sum += part[i].x;
    const float mean = sum_lanes(sum) * (1.0f / static_cast<float>(segments));
#pragma unroll
    for (int i = 0; i < MOST; i++) {
        const float d = part[i].x - mean;
        squares += lane + i * NORM_LANES < segments ? part[i].y + NORM_SEGMENT * d * d : 0;
    }
    const float deviation = rsqrtf(sum_lanes(squares) * (1.0f / static_cast<float>(C)) + epsilon);
    return {deviation / SCALED_UNIT<T>, deviation * mean};
}

#endif
