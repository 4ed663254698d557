// Attention of one query per row at the speed of memory: keys and values come into shared memory by bulk
// copies, and arithmetic follows behind.
//
// A block takes up to 64 KB of keys and values of one row and head, a segment; each of its warps a chunk of
// it. A warp asks for the whole chunk as soon as it knows the row's length, so all that fits into the
// multiprocessors' shared memory is on its way at any time, and blocks that compute hide behind those that
// wait for memory. Registers would hold less; few blocks of long life would have to be balanced by hand, and
// would leave the next kernel's blocks no room before they all end.
//
// What is computed depends on a row's length alone, and so do its bits: a softmax is over exactly the keys
// of a chunk, the chunks of a segment are merged in order, and so are the segments of a row and head.
//
// All keys and values but the newest come from earlier steps and are asked for before the wait for the
// kernel in front; the queries and the newest token's key and value follow after it.
#include "cuda/attention_kernels.cuh"
#include "cuda/bulk.cuh"
#include "cuda/launch.cuh"
#include "cuda/mma.cuh"

#include <cstddef>

constexpr int CHUNK = 32;               // keys of a warp
constexpr int SEGMENT_BYTES = 64 << 10; // three such blocks fit into a multiprocessor
constexpr int TILE = 16, OCTET = 8;     // keys of a tensor-core product, and of one of its registers

template <typename T, int D>
struct chunk_slot {
    static constexpr int WIDTH = ELEMENTS_PER_16_BYTES<T>;
    static constexpr int PARTS = D / WIDTH; // of 16 bytes, of a head vector
    vec<T, WIDTH> k[CHUNK * PARTS], v[CHUNK * PARTS];
};

// Of a chunk or a segment: weighted values in pairs, then the highest score (base 2) and the sum of
// numerators.
template <int D>
struct partial {
    static constexpr int SCALE = D / 2;
    vec<float, 2> pair[SCALE + 1];
};

template <typename T, int D>
struct block_memory {
    using slot_t = chunk_slot<T, D>;
    static constexpr int SEGMENT = SEGMENT_BYTES / static_cast<int>(sizeof(slot_t)); // chunks
    partial<D> partials[SEGMENT];
    uint64_t full[SEGMENT];             // one phase each: the chunk's cached keys and values are there
    alignas(128) slot_t slots[SEGMENT]; // as many as the block has warps

    static constexpr size_t bytes(int warps) {
        return offsetof(block_memory, slots) + static_cast<size_t>(warps) * sizeof(slot_t);
    }
};

// What a warp works on: `count` keys (none: 0) of the row's `keys`, from key `first` on.
struct chunk {
    int row, head;
    int keys, first, count;
    bool appends; // its last key and value are the newest token's, not yet in the cache
};

__device__ inline int lane_index() {
    return static_cast<int>(threadIdx.x % WARP);
}
__device__ inline int warp_index() {
    return static_cast<int>(threadIdx.x / WARP);
}

// Element offset of the chunk's row and head, in a tensor that is not packed.
__device__ inline int64_t head_offset(const attention_tensor &tensor, const struct chunk &chunk) {
    return chunk.row * tensor.row_stride + chunk.head * tensor.head_stride;
}
// Its key or value `token`.
template <typename T, int D>
__device__ T *cached_at(const attention_tensor &tensor, const struct chunk &chunk, int token) {
    return static_cast<T *>(tensor.data) + head_offset(tensor, chunk) + int64_t{token} * D;
}

// ---- loads, by one warp

// Asks for the chunk's keys and values that earlier steps wrote. Values behind the last key become zero:
// they are multiplied by its weight, zero, and what shared memory holds need not be a number.
template <typename T, int D>
__device__ void fetch_cached(const attention_args &args, const struct chunk &chunk, chunk_slot<T, D> &slot,
                             uint64_t *full) {
    constexpr int PARTS = chunk_slot<T, D>::PARTS;
    if (lane_index() == 0) {
        const unsigned bytes = static_cast<unsigned>(chunk.count - chunk.appends) * D * sizeof(T);
        barrier_init(full, 1);
        barrier_init_fence();
        barrier_expect(full, 2 * bytes);
        if (bytes > 0) {
            copy_bytes(slot.k, cached_at<T, D>(args.k, chunk, chunk.first), bytes, full);
            copy_bytes(slot.v, cached_at<T, D>(args.v, chunk, chunk.first), bytes, full);
        }
    }
#pragma unroll 1
    for (int i = chunk.count * PARTS + lane_index(); i < CHUNK * PARTS; i += WARP) slot.v[i] = {};
    __syncwarp(); // the barrier is ready
}

// Completes the chunk by the newest token's key and value, in shared memory and in the cache.
template <typename T, int D>
__device__ void append_newest(const attention_args &args, const struct chunk &chunk, chunk_slot<T, D> &slot) {
    using slot_t = chunk_slot<T, D>;
    using part_t = vec<T, slot_t::WIDTH>;
    if (lane_index() < 2 * slot_t::PARTS) {
        const bool value = lane_index() >= slot_t::PARTS;
        const int part = lane_index() % slot_t::PARTS;
        const T *from = static_cast<const T *>(value ? args.new_v : args.new_k) + head_offset(args.q, chunk);
        const part_t own = load_fresh(reinterpret_cast<const part_t *>(from) + part);
        (value ? slot.v : slot.k)[(chunk.count - 1) * slot_t::PARTS + part] = own;
        T *to = cached_at<T, D>(value ? args.v : args.k, chunk, chunk.keys - 1);
        reinterpret_cast<part_t *>(to)[part] = own;
    }
    __syncwarp();
}

// ---- arithmetic
//
// Lane 4 g + t knows the scores of keys g, g + 8, ... and reads of a head vector the parts 4 (g % 2) + t and
// t + 4 - 4 (g % 2), in this order (and those eight further on for D = 128). So eight neighbours, of two
// keys, touch all banks once, with keys as with values.

// The part that the lane reads first (side 0) or second of each eight.
__device__ inline int part_of(int side) {
    return lane_index() % 8 ^ side * 4;
}

// The query as the second operand of the products below: as each lane reads a key.
template <typename T, int D>
struct query {
    uint4 part[D / 64][2];

    __device__ void load(const attention_args &args, const struct chunk &chunk) {
        const T *head = static_cast<const T *>(args.q.data) + head_offset(args.q, chunk);
        const uint4 *from = reinterpret_cast<const uint4 *>(head);
#pragma unroll
        for (int i = 0; i < D / 64 * 2; i++) part[i / 2][i % 2] = __ldcg(from + i / 2 * 8 + part_of(i % 2));
    }
};

// score[i] is that of key g + 8 i, scaled.
//
// A tile is K (16, 16) q (16, 8) on tensor cores, summed over D. The order of a head vector's elements within
// the sum is free as long as key and query agree: odd keys take the two halves of 64 elements the other way
// round than even keys, and of the eight columns that hold the query the odd ones do, too.
template <typename T, int D>
__device__ void score_chunk(const chunk_slot<T, D> &slot, const query<T, D> &q, int count, float scale,
                            float (&score)[CHUNK / OCTET]) {
    constexpr int PARTS = chunk_slot<T, D>::PARTS;
    const uint4 *keys = reinterpret_cast<const uint4 *>(slot.k);
    const int g = lane_index() / 4;
    float product[CHUNK / TILE][4] = {}; // key g, columns 2 t and 2 t + 1; then key g + 8
#pragma unroll
    for (int half = 0; half < D / 64 * 2; half++) {
        const uint4 own = q.part[half / 2][half % 2];
        const int part = half / 2 * 8 + part_of(half % 2);
#pragma unroll
        for (int tile = 0; tile < CHUNK / TILE; tile++) {
            const uint4 upper = keys[(tile * TILE + g) * PARTS + part];
            const uint4 lower = keys[(tile * TILE + OCTET + g) * PARTS + part];
            mma_16x8x16<T>(product[tile], {upper.x, lower.x, upper.y, lower.y}, own.x, own.y);
            mma_16x8x16<T>(product[tile], {upper.z, lower.z, upper.w, lower.w}, own.z, own.w);
        }
    }
#pragma unroll
    for (int i = 0; i < CHUNK / OCTET; i++) {
        const float *columns = &product[i / 2][i % 2 * 2];
        const float sum = g % 2 ? columns[1] : columns[0];
        score[i] = g + i * OCTET < count ? sum * scale : -INFINITY;
    }
}

template <typename T, int D>
__device__ void attend_chunk(const chunk_slot<T, D> &slot, const query<T, D> &q, int count, float scale,
                             partial<D> &result) {
    constexpr int PARTS = chunk_slot<T, D>::PARTS, WIDTH = chunk_slot<T, D>::WIDTH;
    constexpr int SCORES = CHUNK / OCTET;
    const int lane = lane_index(), g = lane / 4;
    float weight[SCORES];
    score_chunk(slot, q, count, scale, weight);

    float highest = weight[0], sum = 0;
#pragma unroll
    for (int i = 1; i < SCORES; i++) highest = fmaxf(highest, weight[i]);
#pragma unroll
    for (int bit = 4; bit < WARP; bit *= 2)
        highest = fmaxf(highest, __shfl_xor_sync(FULL_WARP, highest, bit));
#pragma unroll
    for (int i = 0; i < SCORES; i++) sum += weight[i] = exp2_flushed(weight[i] - highest);
#pragma unroll
    for (int bit = 4; bit < WARP; bit *= 2) sum += __shfl_xor_sync(FULL_WARP, sum, bit);
    if (lane == 0) result.pair[partial<D>::SCALE] = {highest, sum};

    // Eight lanes have a pair of neighbouring keys, 2 n and 2 n + 1, of each octet: half of them begin with
    // the one, half with the other.
    const uint4 *values = reinterpret_cast<const uint4 *>(slot.v);
    const int part = part_of(0);
    float o[D / 64][WIDTH] = {};
#pragma unroll
    for (int i = 0; i < SCORES; i++) {
        const float other = __shfl_xor_sync(FULL_WARP, weight[i], 4);
#pragma unroll
        for (int side = 0; side < 2; side++) {
            const float p = side == 0 ? weight[i] : other;
#pragma unroll
            for (int n = 0; n < D / 64; n++) {
                const uint4 v = values[(i * OCTET + (g ^ side)) * PARTS + n * 8 + part];
                const uint32_t pairs[] = {v.x, v.y, v.z, v.w};
#pragma unroll
                for (int e = 0; e < WIDTH; e += 2) {
                    const vec<float, 2> pair = unpack_pair<T>(pairs[e / 2]);
                    o[n][e] += p * pair.at[0];
                    o[n][e + 1] += p * pair.at[1];
                }
            }
        }
    }
#pragma unroll
    for (int n = 0; n < D / 64; n++) {
        const int kept = (n * 8 + part) * WIDTH + reduce_scatter<WIDTH, WARP / 2, 8>(o[n], lane);
        result.pair[kept / 2] = {o[n][0], o[n][1]};
    }
}

// ---- merging, by one warp

// Merges partials 0 .. count - 1 in this order; read(c, i) is pair i of partial c. Each lane gets the pairs
// lane, lane + 32, ... and the scale. AT_ONCE reads are on their way together.
template <int D, int AT_ONCE, typename Read>
__device__ void merge(int count, Read read, vec<float, 2> (&o)[D / 64], vec<float, 2> &scale) {
    constexpr int SCALE = partial<D>::SCALE;
    scale = {-INFINITY, 0};
    for (int first = 0; first < count; first += AT_ONCE) {
#pragma unroll
        for (int i = 0; i < AT_ONCE; i++)
            scale.at[0] = fmaxf(scale.at[0], read(min(first + i, count - 1), SCALE).at[0]);
    }
#pragma unroll
    for (int n = 0; n < D / 64; n++) o[n] = {0, 0};
    for (int first = 0; first < count; first += AT_ONCE) {
#pragma unroll
        for (int i = 0; i < AT_ONCE; i++) {
            const int c = min(first + i, count - 1);
            const vec<float, 2> own = read(c, SCALE);
            const float weight = exp2_flushed(first + i < count ? own.at[0] - scale.at[0] : -INFINITY);
            scale.at[1] += weight * own.at[1];
#pragma unroll
            for (int n = 0; n < D / 64; n++) {
                const vec<float, 2> pair = read(c, lane_index() + n * WARP);
                o[n].at[0] += weight * pair.at[0];
                o[n].at[1] += weight * pair.at[1];
            }
        }
    }
}

// Whether the calling warp is the last of `count`; it then sees what the others wrote before they called.
// The counter is left zero.
__device__ inline bool arrives_last(unsigned *arrivals, int count) {
    bool last = false;
    __syncwarp();
    if (lane_index() == 0) {
        __threadfence();
        last = atomicInc(arrivals, static_cast<unsigned>(count - 1)) == static_cast<unsigned>(count - 1);
        __threadfence();
    }
    return __shfl_sync(FULL_WARP, last, 0);
}

// Merges the segment's chunks and, if it is the last to arrive of a row and head with several, the segments.
// `partials` (B H, gridDim.x) and `arrivals` (B H) are of such rows.
template <typename T, int D>
__device__ void merge_segment(const attention_args &args, const struct chunk &chunk, int segment,
                              const block_memory<T, D> &shared, partial<D> *partials, unsigned *arrivals) {
    constexpr int SEGMENT = block_memory<T, D>::SEGMENT;
    const int chunks = divide_up(chunk.keys, CHUNK), segments = divide_up(chunks, SEGMENT);
    vec<float, 2> o[D / 64], scale;
    merge<D, SEGMENT>(
        min(SEGMENT, chunks - segment * SEGMENT), [&](int c, int i) { return shared.partials[c].pair[i]; }, o,
        scale);

    const int lane = lane_index();
    if (segments > 1) {
        const int64_t item = int64_t{chunk.row} * args.H + chunk.head;
        partial<D> *own = partials + item * static_cast<int>(gridDim.x);
#pragma unroll
        for (int n = 0; n < D / 64; n++) own[segment].pair[lane + n * WARP] = o[n];
        if (lane == 0) own[segment].pair[partial<D>::SCALE] = scale;
        if (!arrives_last(&arrivals[item], segments)) return;
        merge<D, 4>(
            segments, [&](int s, int i) { return load_fresh(&own[s].pair[i]); }, o, scale);
    }
    const float inverse = 1 / scale.at[1];
    T *out = attention_out<T>(args, chunk.row, 0, chunk.head);
#pragma unroll
    for (int n = 0; n < D / 64; n++) {
        const vec<T, 2> pair = {static_cast<T>(o[n].at[0] * inverse), static_cast<T>(o[n].at[1] * inverse)};
        reinterpret_cast<vec<T, 2> *>(out)[lane + n * WARP] = pair;
    }
}

// ---- the kernel

// Grid (segments, heads, rows).
template <typename T, int D>
__global__ void __launch_bounds__(block_memory<T, D>::SEGMENT *WARP, 3)
    stream_kernel(attention_args args, partial<D> *partials, unsigned *arrivals) {
    constexpr int SEGMENT = block_memory<T, D>::SEGMENT;
    extern __shared__ __align__(128) uint4 memory[];
    auto &shared = *reinterpret_cast<block_memory<T, D> *>(memory);
    const int warp = warp_index(), segment = static_cast<int>(blockIdx.x);
    auto &slot = shared.slots[warp];
    if (args.next == NEXT_AT_ONCE) dependency_trigger();
    if (!args.new_k) dependency_wait(); // then k and v may come from the kernel in front

    struct chunk chunk;
    chunk.row = static_cast<int>(blockIdx.z);
    chunk.head = static_cast<int>(blockIdx.y);
    chunk.keys = args.lengths[chunk.row];
    chunk.first = (segment * SEGMENT + warp) * CHUNK;
    chunk.count = max(0, min(CHUNK, chunk.keys - chunk.first));
    chunk.appends = args.new_k && chunk.first + chunk.count == chunk.keys;
    if (chunk.count > 0) fetch_cached(args, chunk, slot, &shared.full[warp]);

    dependency_wait();
    if (args.next == NEXT_AFTER_WAIT) dependency_trigger();
    if (chunk.keys <= segment * SEGMENT * CHUNK) return;
    if (chunk.count > 0) {
        query<T, D> q;
        q.load(args, chunk);
        if (chunk.appends) append_newest(args, chunk, slot);
        barrier_wait(&shared.full[warp], 0);
        attend_chunk(slot, q, chunk.count, args.scale * LOG2E, shared.partials[warp]);
    }
    __syncthreads();
    if (warp == 0) merge_segment(args, chunk, segment, shared, partials, arrivals);
}

// ---- the host's side

static int max_segments_of(int D, int max_keys) {
    return divide_up(max_keys, SEGMENT_BYTES / (2 * 2 * D));
}

static size_t arrivals_bytes(int B, int H) {
    return (sizeof(unsigned) * static_cast<size_t>(B) * static_cast<size_t>(H) + 15) / 16 * 16;
}

size_t attention_stream_workspace_bytes(int B, int H, int D, int max_keys) {
    size_t segments = static_cast<size_t>(max_segments_of(D, max_keys));
    if (segments == 1) return 0;
    size_t partial_bytes = sizeof(float) * static_cast<size_t>(D + 2);
    return arrivals_bytes(B, H) + static_cast<size_t>(B) * static_cast<size_t>(H) * segments * partial_bytes;
}

// Whether the code that this device runs was compiled for one that has bulk copies.
static bool has_bulk_copies() {
    struct cudaFuncAttributes attributes = {};
    if (cudaFuncGetAttributes(&attributes, stream_kernel<__nv_bfloat16, 64>) == cudaSuccess)
        return attributes.ptxVersion >= 90;
    cudaGetLastError(); // the answer is no; nobody else is to find this error
    return false;
}

bool attention_stream_supports(const struct attention_args *args) {
    return args->dtype != DTYPE_F32 && (args->D == 64 || args->D == 128) && args->max_queries == 1 &&
           args->lengths && !args->q.starts && !args->k.starts && !args->v.starts &&
           args->k.token_stride == args->D && args->v.token_stride == args->D &&
           attention_is_aligned(*args) && is_aligned_16(args->out) && has_bulk_copies();
}

template <typename T, int D>
static cudaError_t launch(const struct attention_args &args, cudaStream_t stream) {
    using memory_t = block_memory<T, D>;
    cudaError_t code = cudaFuncSetAttribute(stream_kernel<T, D>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                            static_cast<int>(sizeof(memory_t)));
    if (code == cudaSuccess)
        code = cudaFuncSetAttribute(stream_kernel<T, D>, cudaFuncAttributePreferredSharedMemoryCarveout,
                                    cudaSharedmemCarveoutMaxShared);
    if (code != cudaSuccess) return code;
    const int segments = max_segments_of(D, args.max_keys);
    const int warps = min(memory_t::SEGMENT, divide_up(args.max_keys, CHUNK));
    unsigned *arrivals = static_cast<unsigned *>(args.workspace);
    partial<D> *partials = nullptr;
    if (segments > 1)
        partials = reinterpret_cast<partial<D> *>(static_cast<char *>(args.workspace) +
                                                  arrivals_bytes(args.B, args.H));
    return launch_dependent(stream_kernel<T, D>, dim3(segments, args.H, args.B), dim3(warps * WARP),
                            memory_t::bytes(warps), 1, stream, args, partials, arrivals);
}

cudaError_t attention_stream_launch(const struct attention_args &args, cudaStream_t stream) {
    bool half = args.dtype == DTYPE_F16;
    if (args.D == 64)
        return half ? launch<__half, 64>(args, stream) : launch<__nv_bfloat16, 64>(args, stream);
    return half ? launch<__half, 128>(args, stream) : launch<__nv_bfloat16, 128>(args, stream);
}
