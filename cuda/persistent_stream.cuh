// The residual stream of the persistent step, of few rows; parts of it serve persistent_add.cuh, too.
//
// Every cluster has all of it, each block of a cluster one eighth of the channels, as f32. Behind attention
// and behind the MLP each cluster has a partial sum for every channel: a block adds up those of its channels
// in a fixed order, so that all clusters get the same bits, and sends the result, scaled for the next
// LayerNorm, to the blocks of its cluster.
#ifndef CUDA_PERSISTENT_STREAM_CUH
#define CUDA_PERSISTENT_STREAM_CUH

#include "cuda/persistent_block.cuh"

namespace persistent {

// Neighbouring lanes that add up a quad: fewer where there are more quads, so that the warps take all at once
// if they can.
template <typename S>
constexpr int quad_lanes() {
    constexpr int QUADS = S::B * S::CHUNKS * (CHUNK_K * MULTIPLIERS / CLUSTER / QUAD); // at most
    int lanes = 4;
    while (lanes > 1 && QUADS * lanes > MULTIPLIERS * WARP) lanes /= 2;
    return lanes;
}
template <typename S>
constexpr int QUAD_LANES = quad_lanes<S>();
template <typename S>
constexpr int WARP_QUADS = WARP / QUAD_LANES<S>;
template <typename S>
constexpr int AT_ONCE = WARP_QUADS<S> *MULTIPLIERS; // quads of all warps

// Clusters that have something to add to the residual stream behind attention; behind the MLP all do.
template <typename S>
__device__ inline int attending_clusters(const arguments &a) {
    return min(S::H(a), a.clusters);
}

// What is added to all rows in front of phase `number`, and the gains of the LayerNorm there: f32 (C). Phases
// are 2 layer, 2 layer + 1, and 2 L for the LM head.
struct phase_terms {
    const float *bias, *gain; // bias NULL: the embedding comes in front
};
__device__ inline phase_terms terms_in_front_of(const arguments &a, int number) {
    const int layer = number / 2;
    const float *bias = number == 0       ? NULL
                        : number % 2 == 1 ? of_layer<float>(a.m.attprojb, layer)
                                          : of_layer<float>(a.m.fcprojb, layer - 1),
                *gain = number % 2 == 1  ? of_layer<float>(a.m.ln2w, layer)
                        : layer == a.m.L ? a.m.lnfw
                                         : of_layer<float>(a.m.ln1w, layer);
    return {bias, gain};
}

// Four channels of a row of the block. Items count them: row * quads + quad.
struct stream_place {
    int row, quad;
};
template <typename S>
__device__ inline stream_place place_of(const arguments &a, int item) {
    const int row = S::B == 1 ? 0 : (int)((unsigned)item / (unsigned)S::quads(a));
    return {row, item - row * S::quads(a)};
}

// Each of `lanes` neighbouring lanes gets the sum over them.
template <int lanes>
__device__ inline float4 add_lanes(float4 sum) {
#pragma unroll
    for (int bit = 1; bit < lanes; bit *= 2) sum = add_lane(sum, bit);
    return sum;
}

__device__ inline float4 gains_of(const stream_terms *quad) {
    return make_float4(quad[0].gain, quad[1].gain, quad[2].gain, quad[3].gain);
}

// The quad for the next LayerNorm to all blocks of the cluster, some from each of the quad's lanes.
template <typename S>
__device__ inline void send_quad(const worker &w, const arguments &a, const stream_place &p, float4 x,
                                 float4 gain) {
    const float unit = SCALED_UNIT<typename S::T>;
    const float d1 = x.y - x.x, d2 = x.z - x.x, d3 = x.w - x.x, shift = (d1 + d2 + d3) / QUAD;
    stream_quad quad;
    quad.scaled[0] = pack_pair<typename S::T>(x.x * gain.x * unit, x.y * gain.y * unit);
    quad.scaled[1] = pack_pair<typename S::T>(x.z * gain.z * unit, x.w * gain.w * unit);
    quad.mean = x.x + shift;
    quad.squares = shift * shift + (d1 - shift) * (d1 - shift) + (d2 - shift) * (d2 - shift) +
                   (d3 - shift) * (d3 - shift);
    stream_quad *to = w.at_offset<stream_quad>(S::at(a).stream + p.row * S::at(a).stream_row) +
                      rank_of_block() * S::quads(a) + p.quad;
#pragma unroll
    for (int rank = 0; rank < CLUSTER; rank += QUAD_LANES<S>)
        send(rank + w.lane % QUAD_LANES<S>, to, reinterpret_cast<const uint4 &>(quad), &w.s->stream);
}

// A lane's share of a quad's partial sums, of so many lanes: those of clusters lane, lane + LANES, ...
template <int LANES>
struct quad_loads {
    static constexpr int LOADS = MAX_CLUSTERS / LANES;
    uint4 part[LOADS];

    // from: of the first cluster, `stride` from each to the next; `last` is the last.
    __device__ void receive(const uint4 *from, int stride, int lane, int last) {
        ::receive(part, [&](int j) { return from + min(lane + j * LANES, last) * stride; });
    }
    __device__ float4 sum(int lane, int last) const {
        float4 sum = make_float4(0, 0, 0, 0);
#pragma unroll
        for (int j = 0; j < LOADS; j++) {
            if (lane + j * LANES <= last)
                sum = add(sum, make_float4(__uint_as_float(part[j].x), __uint_as_float(part[j].y),
                                           __uint_as_float(part[j].z), __uint_as_float(part[j].w)));
        }
        return sum;
    }
};

// Four channels as they are before the partial sums come.
struct quad_before {
    stream_place place;
    float4 x, gain; // x: with the bias
};
template <typename S>
__device__ inline quad_before load_before(const worker &w, const arguments &a, const stream_terms *terms,
                                          int item) {
    quad_before q;
    q.place = place_of<S>(a, item);
    const stream_terms *own = terms + q.place.quad * QUAD;
    const float4 residual = w.at_offset<const float4>(S::at(a).residual)[item];
    q.x = add(residual, make_float4(own[0].bias, own[1].bias, own[2].bias, own[3].bias));
    q.gain = gains_of(own);
    return q;
}

// One item; lanes beyond the last item repeat that. By whole warps.
template <typename S>
__device__ inline void add_partials(worker *w, const arguments &a, const float *partials, int count,
                                    bool sends, const stream_terms *terms, int item) {
    const int items = S::B * S::quads(a), lane = w->lane % QUAD_LANES<S>;
    const quad_before before = load_before<S>(*w, a, terms, min(item, items - 1));
    const uint4 *from = reinterpret_cast<const uint4 *>(partials + before.place.row * S::C(a) +
                                                        rank_of_block() * S::channels(a)) +
                        before.place.quad;
    const int stride = S::B * S::C(a) / QUAD;
    __syncwarp(); // all lanes have read the residual, which one of them will write
    quad_loads<QUAD_LANES<S>> loads;
    loads.receive(from, stride, lane, count - 1);
    const float4 x = add(before.x, add_lanes<QUAD_LANES<S>>(loads.sum(lane, count - 1)));
    if (item < items) {
        if (lane == 0) w->at_offset<float4>(S::at(a).residual)[item] = x;
        if (sends) send_quad<S>(*w, a, before.place, x, before.gain);
    }
    __syncwarp();
}

// Goes on to the stream in front of the next phase, and waits until the cluster has it; where the device has
// it once, until this block's part of it is published: then it is time to poll for the rest.
template <typename S>
__device__ inline void await_stream(worker *w) {
    barrier_wait(&w->s->stream, (uint32_t)w->take_turn(TURN_STREAM));
    if (!S::STREAM_ONCE) return;
    __syncwarp(); // all lanes have seen it
    if (w->lane == 0) barrier_arrive(&w->s->followed);
}

// The same where the cluster has nothing to do with the stream: up to 4 rows nobody sends it any.
template <typename S>
__device__ inline void pass_stream(worker *w) {
    if (S::STREAM_ONCE) await_stream<S>(w);
}

// Adds the partial sums of `count` clusters behind a phase to the block's channels; `sends`: somebody in the
// cluster wants the result. By all multipliers.
template <typename S>
__device__ inline void advance_stream(worker *w, const arguments &a, int turn, int phase, int count,
                                      bool sends) {
    if (S::STREAM_ONCE) return; // the adders do it
    const float *partials = partials_of<S>(a, turn, phase);
    const stream_terms *terms = w->s->channels[w->take_turn(TURN_CHANNELS)];
    const int items = S::B * S::quads(a);
#pragma unroll 1
    for (int first = w->warp * WARP_QUADS<S>; first < items; first += AT_ONCE<S>)
        add_partials<S>(w, a, partials, count, sends, terms, first + w->lane / QUAD_LANES<S>);
}

// The newest token of each row: the block's channels of it.
template <typename S>
__device__ inline void embed(worker *w, const arguments &a, bool sends) {
    if (S::STREAM_ONCE) return;
    using T = typename S::T;
    const T *wte = static_cast<const T *>(a.m.wte), *wpe = static_cast<const T *>(a.m.wpe);
    const stream_terms *terms = w->s->channels[w->take_turn(TURN_CHANNELS)];
    const int items = S::B * S::quads(a);
#pragma unroll 1
    for (int item = w->warp * WARP_QUADS<S> + w->lane / QUAD_LANES<S>; item < items; item += AT_ONCE<S>) {
        const stream_place p = place_of<S>(a, item);
        const int length = w->s->length[p.row], channel = rank_of_block() * S::channels(a) + p.quad * QUAD;
        float4 x = make_float4(0, 0, 0, 0);
        if (length > 0)
            x = add(load_widened(wte + (size_t)w->s->token[p.row] * S::C(a) + channel),
                    load_widened(wpe + (size_t)(length - 1) * S::C(a) + channel));
        if (w->lane % QUAD_LANES<S> == 0) w->at_offset<float4>(S::at(a).residual)[item] = x;
        if (sends) send_quad<S>(*w, a, p, x, gains_of(terms + p.quad * QUAD));
    }
}

// Moments of parts of a row, combined: Chan, Golub and LeVeque (1979). All deviations are taken from a pivot,
// the mean of the first part.
struct norm_sums {
    float pivot, sum, squares;

    // A part of `size` channels.
    template <int size>
    __device__ void add(float mean, float part_squares) {
        const float d = mean - pivot;
        sum += d;
        squares += part_squares + size * d * d;
    }
    template <int lanes>
    __device__ void add_lanes() {
#pragma unroll
        for (int step = lanes / 2; step > 0; step /= 2) {
            sum += __shfl_xor_sync(FULL_WARP, sum, step);
            squares += __shfl_xor_sync(FULL_WARP, squares, step);
        }
    }
    // share: one part's of the row.
    template <typename T>
    __device__ row_norm norm(float share, int size, float epsilon) const {
        const float shift = sum * share, variance = fmaxf(squares * (share / size) - shift * shift, 0.0f),
                    deviation = rsqrtf(variance + epsilon);
        return {deviation / SCALED_UNIT<T>, deviation * (pivot + shift)};
    }
};

// norms[row] of the stream, by the assistant: as many lanes a row as there are.
template <typename S>
__device__ inline void combine_norms(worker *w, const arguments &a) {
    constexpr int lanes = WARP / S::B;
    const int quads = S::C(a) / QUAD, row = w->lane / lanes;
    const stream_quad *stream = w->at_offset<const stream_quad>(S::at(a).stream + row * S::at(a).stream_row);
    norm_sums sums = {stream[0].mean, 0, 0};
#pragma unroll 8
    for (int i = 0; i < (quads + lanes - 1) / lanes; i++) {
        const int quad = w->lane % lanes + i * lanes;
        if (quad >= quads) break;
        sums.add<QUAD>(stream[quad].mean, stream[quad].squares);
    }
    sums.add_lanes<lanes>();
    if (w->lane % lanes == 0) // the share is known when compiled, mostly
        w->s->norms[w->turn(TURN_STREAM)][row] =
            sums.norm<typename S::T>(1.0f / (float)quads, QUAD, a.m.epsilon);
}

} // namespace persistent

#endif
