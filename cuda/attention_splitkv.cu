// Attention of few queries against long caches: the keys are split over warps and blocks.
//
// The unit of work is a chunk of 32 keys, taken by one warp: all its loads are issued before the first use,
// its softmax is over exactly these keys, and its result (numerators' maximum, their sum, weighted values)
// goes to a partial. The partials of a query are merged in chunk order. How many warps and blocks share the
// chunks is chosen from the load of the device; it changes nothing in the result, which is therefore
// independent of batch and neighbours.
#include "cuda/attention_kernels.cuh"
#include "cuda/launch.cuh"

constexpr int CHUNK = WARP;  // keys
constexpr int MAX_WARPS = 8; // of a block: enough loads in flight to saturate its multiprocessor

// LANES lanes hold one head vector, each PARTS vectors of WIDTH elements; a warp holds 32 / LANES keys at a
// time.
template <typename T, int WIDTH, int LANES, int PARTS>
struct fragment {
    vec<T, WIDTH> part[PARTS];

    __device__ static int element(int lane, int i) { // of the head vector, for the lane's i-th
        return (i / WIDTH * LANES + lane) * WIDTH + i % WIDTH;
    }
    __device__ void load(const T *vector, int lane, int D) {
#pragma unroll
        for (int p = 0; p < PARTS; p++) {
            int d = element(lane, p * WIDTH);
            if (PARTS == 1 || d < D)
                part[p] = load_fresh(reinterpret_cast<const vec<T, WIDTH> *>(vector + d));
            else
                part[p] = {};
        }
    }
    __device__ void store(T *vector, int lane, int D) const {
#pragma unroll
        for (int p = 0; p < PARTS; p++) {
            int d = element(lane, p * WIDTH);
            if (PARTS == 1 || d < D) *reinterpret_cast<vec<T, WIDTH> *>(vector + d) = part[p];
        }
    }
    // Values pass here as they were loaded: without it the compiler widens them to f32 as soon as they
    // arrive, which takes twice the registers all through the scores and the softmax.
    __device__ void hold() {
        if constexpr (sizeof(part[0]) == sizeof(uint4)) {
#pragma unroll
            for (int p = 0; p < PARTS; p++) {
                uint4 &raw = reinterpret_cast<uint4 &>(part[p]);
                asm volatile("" : "+r"(raw.x), "+r"(raw.y), "+r"(raw.z), "+r"(raw.w));
            }
        }
    }
    __device__ float at(int i) const {
        return static_cast<float>(part[i / WIDTH].at[i % WIDTH]);
    }
};

// Partial results of one chunk: weighted values (D), then the highest score (base 2) and the sum of
// numerators.
__device__ inline int partial_stride(int D) {
    return D + 2;
}

template <typename T>
struct row_view {
    const T *q;
    T *k, *v;
    const T *new_k, *new_v; // of the newest token, NULL: it is in k and v
    int visible;            // keys this query sees
    int D;
    int64_t k_stride, v_stride;

    __device__ const T *key(int t) const { return new_k && t == visible - 1 ? new_k : k + t * k_stride; }
    __device__ const T *value(int t) const { return new_v && t == visible - 1 ? new_v : v + t * v_stride; }
};

// What one warp holds of a chunk: as many of its keys and values as fit into registers at once.
template <typename T, int WIDTH, int LANES, int PARTS>
struct chunk_load {
    using fragment_t = fragment<T, WIDTH, LANES, PARTS>;
    static constexpr int GROUPS = WARP / LANES; // keys side by side; each group of lanes takes LANES keys
    static constexpr int BATCH = PARTS > 1 ? 2 : LANES < 8 ? LANES : 8;
    fragment_t k[BATCH], v[BATCH];

    // Keys behind the last one are read as the last one and weigh nothing.
    __device__ static int token(const row_view<T> &view, int chunk, int j) {
        const int group = static_cast<int>(threadIdx.x) % WARP / LANES;
        return min(chunk * CHUNK + group + j * GROUPS, view.visible - 1);
    }
    __device__ void load_keys(const row_view<T> &view, int chunk, int j0) {
#pragma unroll
        for (int j = 0; j < BATCH; j++)
            k[j].load(view.key(token(view, chunk, j0 + j)), static_cast<int>(threadIdx.x) % LANES, view.D);
    }
    __device__ void load_values(const row_view<T> &view, int chunk, int j0) {
#pragma unroll
        for (int j = 0; j < BATCH; j++)
            v[j].load(view.value(token(view, chunk, j0 + j)), static_cast<int>(threadIdx.x) % LANES, view.D);
    }
};

// `load` holds the chunk's first batch of keys and values.
template <typename T, int WIDTH, int LANES, int PARTS>
__device__ void attend_chunk(const row_view<T> &view, const float (&q)[PARTS * WIDTH],
                             chunk_load<T, WIDTH, LANES, PARTS> &load, int chunk, float *partial) {
    using load_t = chunk_load<T, WIDTH, LANES, PARTS>;
    constexpr int GROUPS = load_t::GROUPS, BATCH = load_t::BATCH, E = PARTS * WIDTH;
    int warp_lane = static_cast<int>(threadIdx.x) % WARP;
    int group = warp_lane / LANES, lane = warp_lane % LANES;
    int first = chunk * CHUNK + group, last = view.visible - 1;

    float score[LANES];
#pragma unroll
    for (int j0 = 0; j0 < LANES; j0 += BATCH) {
        if (j0 > 0) load.load_keys(view, chunk, j0);
#pragma unroll
        for (int j = 0; j < BATCH; j++) {
            score[j0 + j] = 0;
            load.k[j].hold();
#pragma unroll
            for (int i = 0; i < E; i++) score[j0 + j] += q[i] * load.k[j].at(i);
        }
    }

    // Lane j of a group gets the score of the group's key j: 32 lanes, 32 keys.
    reduce_scatter<LANES, LANES / 2, 1>(score, lane);
    float own = first + lane * GROUPS <= last ? score[0] : -INFINITY;
    float highest = warp_max(own);
    float weight = exp2f(own - highest);
    float sum = warp_sum(weight);

    float o[E] = {};
#pragma unroll
    for (int j0 = 0; j0 < LANES; j0 += BATCH) {
        if (j0 > 0) load.load_values(view, chunk, j0);
#pragma unroll
        for (int j = 0; j < BATCH; j++) {
            float p = __shfl_sync(FULL_WARP, weight, j0 + j, LANES);
            load.v[j].hold();
#pragma unroll
            for (int i = 0; i < E; i++) o[i] += p * load.v[j].at(i);
        }
    }

    int kept = 0;
    if constexpr (GROUPS > 1) kept = reduce_scatter<E, WARP / 2, LANES>(o, warp_lane);
#pragma unroll
    for (int i = 0; i < E / GROUPS; i++) {
        int d = fragment<T, WIDTH, LANES, PARTS>::element(lane, kept + i);
        if (PARTS == 1 || d < view.D) partial[d] = o[i];
    }
    if (warp_lane == 0) {
        partial[view.D] = highest;
        partial[view.D + 1] = sum;
    }
}

// Stores the newest token's key and value; called by the whole warp that took its chunk.
template <typename T, int WIDTH, int LANES, int PARTS>
__device__ void append_newest(const row_view<T> &view) {
    int lane = static_cast<int>(threadIdx.x) % WARP;
    if (lane >= LANES) return;
    fragment<T, WIDTH, LANES, PARTS> k, v;
    k.load(view.new_k, lane, view.D);
    v.load(view.new_v, lane, view.D);
    k.store(view.k + (view.visible - 1) * view.k_stride, lane, view.D);
    v.store(view.v + (view.visible - 1) * view.v_stride, lane, view.D);
}

// Whether this block is the last of the query's blocks to arrive, and so sees all their partials.
__device__ inline bool arrive_last(unsigned *arrivals) {
    __shared__ bool is_last;
    __syncthreads();
    if (threadIdx.x == 0) {
        __threadfence();
        is_last = atomicInc(arrivals, gridDim.x - 1) == gridDim.x - 1; // wraps to 0 for the next run
        __threadfence();
    }
    __syncthreads();
    return is_last;
}

template <typename T>
__device__ void merge_partials(const float *partials, int chunks, int D, T *out) {
    int stride = partial_stride(D);
    for (int d = static_cast<int>(threadIdx.x); d < D; d += static_cast<int>(blockDim.x)) {
        float highest = -INFINITY, sum = 0, weighted = 0;
        for (int c = 0; c < chunks; c++) highest = fmaxf(highest, partials[c * stride + D]);
        for (int c = 0; c < chunks; c++) {
            float weight = exp2f(partials[c * stride + D] - highest);
            sum += weight * partials[c * stride + D + 1];
            weighted += weight * partials[c * stride + d];
        }
        out[d] = static_cast<T>(weighted / sum);
    }
}

template <typename T>
__device__ row_view<T> view_row(const attention_args &args, int row, int head, int query, int visible) {
    int64_t own = attention_offset(args.q, row, head);
    row_view<T> view;
    view.q = static_cast<const T *>(args.q.data) + own + query * args.q.token_stride;
    view.k = attention_at<T>(args.k, row, head);
    view.v = attention_at<T>(args.v, row, head);
    view.new_k = args.new_k ? static_cast<const T *>(args.new_k) + own : nullptr;
    view.new_v = args.new_v ? static_cast<const T *>(args.new_v) + own : nullptr;
    view.visible = visible;
    view.D = args.D;
    view.k_stride = args.k.token_stride;
    view.v_stride = args.v.token_stride;
    return view;
}

// Grid (blocks per query, heads * max_queries, rows). `partials` and `arrivals` are NULL when one block's
// shared memory holds the query's partials, else (queries, max_chunks, D + 2) and (queries).
template <typename T, int WIDTH, int LANES, int PARTS>
__global__ void __launch_bounds__(MAX_WARPS *WARP, PARTS > 1 ? 1 : 2)
    splitkv_kernel(attention_args args, int max_chunks, float *partials, unsigned *arrivals) {
    extern __shared__ float shared_partials[];
    dependency_trigger();
    // In a decode step everything but the newest token comes from earlier steps, and may be read before the
    // wait.
    if (!args.new_k) dependency_wait();
    int head = static_cast<int>(blockIdx.y) % args.H, query = static_cast<int>(blockIdx.y) / args.H;
    int row = static_cast<int>(blockIdx.z);
    int queries = attention_queries(args, row);
    int visible = attention_keys(args, row) - queries + query + 1;
    int chunks = query < queries && visible > 0 ? divide_up(visible, CHUNK) : 0;
    int warps = static_cast<int>(blockDim.x) / WARP, warp = static_cast<int>(threadIdx.x) / WARP;
    int first = static_cast<int>(blockIdx.x) * warps + warp, step = static_cast<int>(gridDim.x) * warps;
    row_view<T> view = view_row<T>(args, row, head, query, visible);
    chunk_load<T, WIDTH, LANES, PARTS> load;
    // The last chunk holds the newest token, which the kernel in front is still computing.
    bool ahead = args.new_k && first < chunks - 1;
    if (ahead) {
        load.load_keys(view, first, 0);
        load.load_values(view, first, 0);
    }
    if (args.new_k) dependency_wait();
    if (chunks == 0) return;

    float q[PARTS * WIDTH];
    fragment<T, WIDTH, LANES, PARTS> own_q;
    int lane = static_cast<int>(threadIdx.x) % LANES;
    own_q.load(view.q, lane, args.D);
    if (!ahead && first < chunks) {
        load.load_keys(view, first, 0);
        load.load_values(view, first, 0);
    }
#pragma unroll
    for (int i = 0; i < PARTS * WIDTH; i++) q[i] = own_q.at(i) * (args.scale * LOG2E);

    int64_t item = static_cast<int64_t>(row) * gridDim.y + blockIdx.y;
    int stride = partial_stride(args.D);
    float *own_partials = partials ? partials + item * max_chunks * stride : shared_partials;
    for (int chunk = first; chunk < chunks; chunk += step) {
        if (chunk != first) {
            load.load_keys(view, chunk, 0);
            load.load_values(view, chunk, 0);
        }
        attend_chunk<T, WIDTH, LANES, PARTS>(view, q, load, chunk, own_partials + chunk * stride);
        if (view.new_k && chunk == chunks - 1) append_newest<T, WIDTH, LANES, PARTS>(view);
    }

    if (partials) {
        if (!arrive_last(arrivals + item)) return;
    } else {
        __syncthreads();
    }
    merge_partials(own_partials, chunks, args.D, attention_out<T>(args, row, query, head));
}

// ---- how the chunks of one query are shared out

struct geometry {
    int chunks;             // most chunks of a query
    int blocks, warps;      // per query
    size_t shared_bytes;    // of partials, 0 when they go through the workspace
    size_t workspace_bytes; // arrivals, then partials
    size_t arrivals_bytes;
};

static struct geometry plan_geometry(int64_t items, int D, int max_keys) {
    constexpr int WARPS_PER_SM = 20; // that keep enough loads in flight, and fit by registers
    constexpr size_t SHARED_LIMIT = 48 << 10;
    const int sms = multiprocessor_count();
    struct geometry plan = {};
    plan.chunks = divide_up(max_keys, CHUNK);
    plan.blocks = 1;
    int64_t share = max(int64_t{2}, int64_t{sms} * WARPS_PER_SM / items);
    plan.warps = static_cast<int>(min(share, int64_t{min(plan.chunks, MAX_WARPS)}));
    if (plan.chunks > MAX_WARPS && 2 * items <= sms) {
        plan.blocks = min(divide_up(plan.chunks, MAX_WARPS), sms / static_cast<int>(items));
        plan.warps = min(MAX_WARPS, divide_up(plan.chunks, plan.blocks));
    }
    size_t partial_bytes = sizeof(float) * static_cast<size_t>(plan.chunks) * static_cast<size_t>(D + 2);
    if (plan.blocks == 1 && partial_bytes <= SHARED_LIMIT) {
        plan.shared_bytes = partial_bytes;
    } else {
        plan.arrivals_bytes = (sizeof(unsigned) * static_cast<size_t>(items) + 15) / 16 * 16;
        plan.workspace_bytes = plan.arrivals_bytes + static_cast<size_t>(items) * partial_bytes;
    }
    return plan;
}

size_t attention_splitkv_workspace_bytes(int B, int H, int D, int max_queries, int max_keys) {
    return plan_geometry(int64_t{B} * H * max_queries, D, max_keys).workspace_bytes;
}

template <typename T, int WIDTH, int LANES, int PARTS>
static cudaError_t launch(const struct attention_args &args, cudaStream_t stream) {
    int heads = args.H * args.max_queries;
    struct geometry plan = plan_geometry(int64_t{args.B} * heads, args.D, args.max_keys);
    bool shared = plan.workspace_bytes == 0;
    char *workspace = static_cast<char *>(args.workspace);
    return launch_dependent(splitkv_kernel<T, WIDTH, LANES, PARTS>, dim3(plan.blocks, heads, args.B),
                            dim3(plan.warps * WARP), plan.shared_bytes, 1, stream, args, plan.chunks,
                            shared ? nullptr : reinterpret_cast<float *>(workspace + plan.arrivals_bytes),
                            shared ? nullptr : reinterpret_cast<unsigned *>(workspace));
}

cudaError_t attention_splitkv_launch(const struct attention_args &args, cudaStream_t stream) {
    return with_element(args.dtype, [&](auto zero) {
        using T = decltype(zero);
        constexpr int WIDTH = ELEMENTS_PER_16_BYTES<T>;
        if (attention_is_aligned(args)) {
            if (args.D == 64) return launch<T, WIDTH, 64 / WIDTH, 1>(args, stream);
            if (args.D == 128) return launch<T, WIDTH, 128 / WIDTH, 1>(args, stream);
        }
        return launch<T, 1, WARP, ATTENTION_MAX_D / WARP>(args, stream);
    });
}
