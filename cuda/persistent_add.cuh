// The residual stream of the persistent step where the device has it once (shape::STREAM_ONCE).
//
// Two warps of every block, its *adders*, own chunks of 32 channels of a row, a lane a channel, as f32.
// Behind attention and behind the MLP each cluster has a partial sum for every channel: a chunk's adder adds
// them up in a fixed order and publishes the result, scaled for the next LayerNorm, and the chunk's moments.
// All blocks poll for them, the multipliers straight into the operands of their products, the assistants for
// LayerNorm's statistics; but not before an adder of their own is through, about when all are: polls slow
// down what they wait for.
#ifndef CUDA_PERSISTENT_ADD_CUH
#define CUDA_PERSISTENT_ADD_CUH

#include "cuda/persistent_stream.cuh"

namespace persistent {

// What is published in front of a phase: 16-byte pieces (B, C / 32, 4). Word j of a chunk's piece q has
// channels 8 j + 2 q and 8 j + 2 q + 1, as mma wants them of four lanes.
template <typename S>
__device__ inline uint4 *stream_of(const arguments &a, int turn, int phase) {
    return a.stream + (size_t)((turn & 1) * (2 * a.m.L + 1) + phase) * (S::B * S::C(a) / TILE);
}
// Mean and sum of squared differences of a chunk's channels, f32: (B, C / 32).
template <typename S>
__device__ inline uint2 *moments_of(const arguments &a, int turn, int phase) {
    return a.moments + (size_t)((turn & 1) * (2 * a.m.L + 1) + phase) * (S::B * S::C(a) / CHUNK_K);
}

// ---- the adders

// A lane of an adder, and the chunk that it is at.
template <typename S>
struct adder {
    const arguments &a;
    shared_state *s;
    int number, lane; // number: among the block's adders
    int row, chunk;
    bool owned;         // else another's, watched
    uint32_t announced; // phases that the block's workers have been told of, by its first adder
    float *residual;    // of the lane's channel, in shared memory

    __device__ int chunks() const { return S::C(a) / CHUNK_K; } // of a row
    __device__ int channel() const {
        return chunk * CHUNK_K + lane % 8 * QUAD + lane / 16 * 2 + lane / 8 % 2;
    }
    // Chunks of all rows are dealt out to all adders. A block's first adder watches another's chunk if it has
    // none, so that the block's readers know when it is time.
    template <typename Each>
    __device__ void for_each_chunk(Each each) {
        const int all_adders = ADDER_WARPS * (int)gridDim.x, items = S::B * chunks();
        int i = (int)blockIdx.x + number * (int)gridDim.x;
        if (number > 0 && i >= items) return;
        // Where the cluster has nothing to add behind a phase, its sums do not wait for this block's workers:
        // the next announcement does, or they could miss one.
        if (number == 0 && announced > 0) barrier_wait(&s->followed, (announced - 1) & 1);
        residual = reinterpret_cast<float *>(reinterpret_cast<unsigned char *>(s) + S::at(a).residual) +
                   number * WARP + lane;
#pragma unroll 1
        do {
            owned = i < items;
            const int item = owned ? i : (int)((unsigned)i % (unsigned)items);
            row = (int)((unsigned)item / (unsigned)chunks());
            chunk = item - row * chunks();
            each();
            residual += ADDER_WARPS * WARP;
            i += all_adders;
        } while (i < items);
        if (number == 0 && lane == 0) barrier_arrive(&s->stream);
        announced++;
    }

    // Four lanes, 8 and 16 apart, have parts of the same quad: of their sum the channel that is this lane's.
    __device__ float sum_of_channel(float4 part) const {
        const bool upper = lane & 16, odd = lane & 8;
        const float2 low = make_float2(part.x, part.y), high = make_float2(part.z, part.w),
                     given = upper ? low : high;
        float2 kept = upper ? high : low;
        kept.x += __shfl_xor_sync(FULL_WARP, given.x, 16);
        kept.y += __shfl_xor_sync(FULL_WARP, given.y, 16);
        return (odd ? kept.y : kept.x) + __shfl_xor_sync(FULL_WARP, odd ? kept.x : kept.y, 8);
    }

    // The channel's partial sums of `count` clusters, when all are there.
    __device__ float sum_partials(const float *partials, int count) const {
        const uint4 *from =
            reinterpret_cast<const uint4 *>(partials + row * S::C(a) + chunk * CHUNK_K) + lane % 8;
        const int stride = S::B * S::C(a) / QUAD;
        quad_loads<4> loads;
        loads.receive(from, stride, lane / 8, count - 1);
        return sum_of_channel(loads.sum(lane / 8, count - 1));
    }

    __device__ void publish_chunk(int turn, int phase, float x, float gain) const {
        const float scaled = x * gain * SCALED_UNIT<typename S::T>,
                    next = __shfl_xor_sync(FULL_WARP, scaled, 8);
        const int quad = lane % 8, at = row * chunks() + chunk,
                  piece = at * 4 + quad % 2 * 2 + lane / 16; // of word quad / 2
        // Both sums in one pass, of differences from the chunk's first channel.
        const float d = x - __shfl_sync(FULL_WARP, x, 0), sum = warp_sum(d), squares = warp_sum(d * d),
                    mean = sum * (1.0f / CHUNK_K);
        if (!owned) return;
        if (lane == 0)
            publish(
                moments_of<S>(a, turn, phase) + at,
                make_uint2(__float_as_uint(x + mean), __float_as_uint(fmaxf(squares - sum * mean, 0.0f))));
        if ((lane & 8) == 0)
            publish(reinterpret_cast<uint32_t *>(stream_of<S>(a, turn, phase) + piece) + quad / 2,
                    pack_pair<typename S::T>(scaled, next));
    }
    // What was published in front of this phase in the step before.
    __device__ void empty_old(int turn, int phase) const {
        if (!owned) return;
        const int at = row * chunks() + chunk;
        if (lane < 4) publish_empty(stream_of<S>(a, turn + 1, phase) + at * 4 + lane);
        if (lane == 4) publish(moments_of<S>(a, turn + 1, phase) + at, make_uint2(EMPTY, EMPTY));
    }

    __device__ void embed(int turn) {
        using T = typename S::T;
        const float *gain = terms_in_front_of(a, 0).gain;
        for_each_chunk([&] {
            const int length = s->length[row];
            float x = 0;
            if (length > 0)
                x = static_cast<float>(
                        static_cast<const T *>(a.m.wte)[(size_t)s->token[row] * S::C(a) + channel()]) +
                    static_cast<float>(
                        static_cast<const T *>(a.m.wpe)[(size_t)(length - 1) * S::C(a) + channel()]);
            *residual = x;
            publish_chunk(turn, 0, x, gain[channel()]);
            empty_old(turn, 0);
        });
    }
    // Behind `phase` - 1, whose partial sums come from `count` clusters.
    __device__ void add(int turn, int phase, int count) {
        const phase_terms terms = terms_in_front_of(a, phase);
        for_each_chunk([&] {
            const float gain = terms.gain[channel()], before = *residual + terms.bias[channel()],
                        x = before + sum_partials(partials_of<S>(a, turn, phase - 1), count);
            publish_chunk(turn, phase, x, gain);
            *residual = x;
            empty_old(turn, phase);
        });
    }
};

template <typename S>
__device__ inline void add_steps(shared_state *s, int number, int lane, const arguments &a) {
    adder<S> own = {a, s, number, lane, 0, 0, false, 0, NULL};
    int turn = a.turn;
#pragma unroll 1
    for (int step = 0; step < a.steps; step++) {
        own.embed(turn);
#pragma unroll 1
        for (int phase = 1; phase <= 2 * a.m.L; phase++)
            own.add(turn, phase, phase % 2 == 1 ? attending_clusters<S>(a) : a.clusters);
        __syncwarp(); // all lanes have
        if (lane == 0) barrier_arrive(&s->emptied);
        if (!a.r.draws) barrier_wait(&s->chosen, step & 1);
        turn = turn + 1 == TURNS ? 0 : turn + 1;
    }
}

// ---- the readers

// The k of a multiplier's chunks, as load_rows has them.
template <typename S>
__device__ inline void receive_rows(uint32_t (&x)[S::CHUNKS][KS][2], const arguments &a, const worker &w,
                                    int turn, int phase) {
    const uint4 *from =
        stream_of<S>(a, turn, phase) + min(w.lane / 4, S::B - 1) * (S::C(a) / TILE) + w.lane % 4;
    uint4 pieces[S::CHUNKS];
    receive(pieces, [&](int i) {
        const int chunk = S::has_chunk(a, w.warp, i) ? w.warp + i * MULTIPLIERS : 0;
        return from + chunk * 4;
    });
#pragma unroll
    for (int i = 0; i < S::CHUNKS; i++) {
        x[i][0][0] = pieces[i].x, x[i][0][1] = pieces[i].y;
        x[i][1][0] = pieces[i].z, x[i][1][1] = pieces[i].w;
    }
}

// norms[row] from the published moments, by the assistant: as many lanes a row as there are.
template <typename S>
__device__ inline void receive_norms(worker *w, const arguments &a, int turn, int phase) {
    constexpr int LANES = WARP / S::B, MOST = S::CHUNKS * MULTIPLIERS / 2 / LANES,
                  PIECES_AT_ONCE = MOST < 4 ? MOST : 4;
    const int pieces = S::C(a) / (2 * CHUNK_K), row = w->lane / LANES, lane = w->lane % LANES;
    const uint4 *from = reinterpret_cast<const uint4 *>(moments_of<S>(a, turn, phase)) + row * pieces;
    norm_sums sums = {};
#pragma unroll 1
    for (int first = 0; first < pieces; first += LANES * PIECES_AT_ONCE) {
        uint4 part[PIECES_AT_ONCE];
        receive(part, [&](int i) { return from + min(first + lane + i * LANES, pieces - 1); });
        if (first == 0) sums.pivot = __shfl_sync(FULL_WARP, __uint_as_float(part[0].x), row * LANES);
#pragma unroll
        for (int i = 0; i < PIECES_AT_ONCE; i++) {
            if (first + lane + i * LANES >= pieces) break;
            sums.add<CHUNK_K>(__uint_as_float(part[i].x), __uint_as_float(part[i].y));
            sums.add<CHUNK_K>(__uint_as_float(part[i].z), __uint_as_float(part[i].w));
        }
    }
    sums.add_lanes<LANES>();
    if (lane == 0)
        w->s->norms[w->turn(TURN_STREAM)][row] =
            sums.norm<typename S::T>(1.0f / (float)(2 * pieces), CHUNK_K, a.m.epsilon);
}

} // namespace persistent

#endif
