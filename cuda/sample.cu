// One new token per row. Greedy spreads a row over several blocks; a random draw takes one block per row.
#include "cuda/sample.h"

#include "cuda/logits.cuh"

#include <curand_kernel.h>

// A row's meeting point for its blocks; all zero between runs.
struct meeting {
    token_key best;
    unsigned arrivals;
};

size_t sample_workspace_bytes(int count) {
    return sizeof(struct meeting) * static_cast<size_t>(count);
}

__device__ static int session_row(const sample_args &args, int i) {
    return args.rows ? args.rows[i] : i;
}

__device__ static bool is_extended(const sample_args &args, int row) {
    return args.lengths[row] > 0 && args.lengths[row] < args.max_tokens;
}

// By one thread, when no other will read this row's length any more.
__device__ static void append_token(const sample_args &args, int row, int token) {
    int length = args.lengths[row];
    args.tokens[static_cast<int64_t>(row) * args.max_tokens + length] = token;
    args.lengths[row] = length + 1;
}

// ---- greedy

constexpr int GREEDY_THREADS = 256;

// Grid (blocks per row, rows of logits).
__global__ void __launch_bounds__(GREEDY_THREADS) greedy_kernel(sample_args args) {
    int i = static_cast<int>(blockIdx.y), row = session_row(args, i);
    if (!is_extended(args, row)) return;
    token_key best = block_best<GREEDY_THREADS>(args.logits + static_cast<int64_t>(i) * args.ld, args.V,
                                                static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x),
                                                static_cast<int>(gridDim.x * blockDim.x));
    if (threadIdx.x != 0) return;
    // The greatest of integers does not depend on the order of arrival. block_best's barrier has put this
    // block's reading of the length before its arrival, so the last block may change it.
    meeting *here = static_cast<meeting *>(args.workspace) + i;
    atomicMax(&here->best, best);
    __threadfence();
    if (atomicInc(&here->arrivals, gridDim.x - 1) != gridDim.x - 1) return; // wraps to 0 for the next run
    __threadfence();
    append_token(args, row, id_of(atomicExch(&here->best, token_key{0})));
}

static cudaError_t greedy_launch(const struct sample_args &args, cudaStream_t stream) {
    constexpr int BLOCKS_PER_SM = 8, TOKENS_PER_THREAD = 4;
    int device = 0, sms = 1;
    cudaError_t code = cudaGetDevice(&device);
    if (code == cudaSuccess) code = cudaDeviceGetAttribute(&sms, cudaDevAttrMultiProcessorCount, device);
    if (code != cudaSuccess) return code;
    int share = divide_up(sms * BLOCKS_PER_SM, args.count);
    int useful = divide_up(args.V, GREEDY_THREADS * TOKENS_PER_THREAD);
    greedy_kernel<<<dim3(share < useful ? share : useful, args.count), GREEDY_THREADS, 0, stream>>>(args);
    return cudaGetLastError();
}

// ---- random

constexpr int DRAW_THREADS = 1024;
constexpr int DRAW_WARPS = DRAW_THREADS / WARP;
constexpr int LIST_CAPACITY = 4096; // keys that fit into shared memory

typedef unsigned long long
    mass_t; // of probability: the most probable token weighs 2^36, so that 2^28 tokens fit
constexpr float UNIT_MASS = 68719476736.0f;
constexpr float ZERO_MASS_LOGIT =
    26; // so far below the highest (in units of the temperature) a token weighs nothing

// The tokens whose keys are at least `threshold`.
struct token_set {
    token_key threshold;
    int count;
    mass_t mass;
};

// Keys of all tokens, and of some.
struct row_keys {
    const float *logits;
    int count;
    __device__ token_key at(int id) const { return key_of(logit_at(logits, id), id); }
};
struct listed_keys {
    const token_key *keys;
    int count;
    __device__ token_key at(int i) const { return keys[i]; }
};

struct softmax_row {
    float highest, temperature;

    __device__ mass_t mass(token_key key) const {
        float logit = logit_of(key);
        float weight = logit == highest ? 1 : expf((logit - highest) / temperature);
        return static_cast<mass_t>(weight * UNIT_MASS + 0.5f);
    }
};

__device__ static mass_t warp_sum_mass(mass_t mass) {
#pragma unroll
    for (int stride = WARP / 2; stride > 0; stride /= 2) mass += __shfl_xor_sync(FULL_WARP, mass, stride);
    return mass;
}

// `above` and those of the keys that lie from `threshold` up to above's; for every thread.
template <typename KEYS>
__device__ token_set extend_down(const softmax_row &softmax, const KEYS &keys, const token_set &above,
                                 token_key threshold) {
    __shared__ int counts[DRAW_WARPS];
    __shared__ mass_t masses[DRAW_WARPS];
    int count = 0;
    mass_t mass = 0;
#pragma unroll 4
    for (int i = static_cast<int>(threadIdx.x); i < keys.count; i += DRAW_THREADS) {
        token_key key = keys.at(i);
        if (key < threshold || key >= above.threshold) continue;
        count++;
        mass += softmax.mass(key);
    }
    count = __reduce_add_sync(FULL_WARP, count);
    mass = warp_sum_mass(mass);
    __syncthreads(); // the previous sums have been read
    int warp = static_cast<int>(threadIdx.x) / WARP, lane = static_cast<int>(threadIdx.x) % WARP;
    if (lane == 0) {
        counts[warp] = count;
        masses[warp] = mass;
    }
    __syncthreads();
    return {threshold, above.count + __reduce_add_sync(FULL_WARP, counts[lane]),
            above.mass + warp_sum_mass(masses[lane])};
}

// What a smallest set must have.
struct demand {
    int count;
    mass_t mass;

    __device__ bool is_met(const token_set &set) const { return set.count >= count && set.mass >= mass; }
};

// Moves `all`, which meets the demand, and `none`, which does not, towards each other by bisection of the
// threshold, until at most `resolution` tokens lie between them or `all` has exactly the count demanded.
template <typename KEYS>
__device__ void bisect(const softmax_row &softmax, const KEYS &keys, const demand &demand, int resolution,
                       token_set *all, token_set *none) {
    while (all->count - none->count > resolution && all->count > demand.count) {
        token_key middle = none->threshold - (none->threshold - all->threshold) / 2;
        token_set set = extend_down(softmax, keys, *none, middle);
        *(demand.is_met(set) ? all : none) = set;
    }
}

// The smallest set of best tokens that meets the demand, out of `all`, which does.
__device__ static token_set smallest_set(const softmax_row &softmax, const row_keys &row,
                                         const demand &demand, token_set all, token_set none) {
    __shared__ token_key list[LIST_CAPACITY];
    __shared__ int listed;
    bisect(softmax, row, demand, LIST_CAPACITY, &all, &none);
    __syncthreads(); // a previous call's list has been used
    if (threadIdx.x == 0) listed = 0;
    __syncthreads();
    if (all.count - none.count <= LIST_CAPACITY) {
        for (int id = static_cast<int>(threadIdx.x); id < row.count; id += DRAW_THREADS) {
            token_key key = row.at(id);
            if (key >= all.threshold && key < none.threshold)
                list[atomicAdd(&listed, 1)] = key; // in any order
        }
    }
    __syncthreads();
    bisect(softmax, listed_keys{list, listed}, demand, 1, &all, &none);
    return all;
}

// The fraction of a mass, rounded up; at least one unit.
__device__ static mass_t mass_fraction(double fraction, mass_t mass) {
    mass_t part = static_cast<mass_t>(ceil(fraction * static_cast<double>(mass)));
    return min(max(part, mass_t{1}), mass);
}

// The lowest id at which the kept mass, summed in id order, reaches u of its total; known to one thread, -1
// to others.
__device__ static int draw_token(const softmax_row &softmax, const row_keys &row, token_key threshold,
                                 mass_t least_mass, float u) {
    __shared__ mass_t masses[DRAW_WARPS];
    int warp = static_cast<int>(threadIdx.x) / WARP, lane = static_cast<int>(threadIdx.x) % WARP;
    int span = divide_up(divide_up(row.count, DRAW_WARPS), WARP) * WARP; // a warp's share of the ids
    int first = warp * span, end = min(first + span, row.count);
    auto kept_mass = [&](int id) {
        if (id >= end) return mass_t{0};
        token_key key = row.at(id);
        if (key < threshold) return mass_t{0};
        mass_t mass = softmax.mass(key);
        return mass >= least_mass ? mass : mass_t{0};
    };
    mass_t own = 0;
#pragma unroll 4
    for (int id = first + lane; id < end; id += WARP) own += kept_mass(id);
    own = warp_sum_mass(own);
    if (lane == 0) masses[warp] = own;
    __syncthreads();

    mass_t before = 0, total = 0;
    for (int w = 0; w < DRAW_WARPS; w++) {
        if (w < warp) before += masses[w];
        total += masses[w];
    }
    mass_t target = mass_fraction(u, total);
    if (target <= before || target > before + own) return -1; // it lies in another warp's share
    for (int base = first; base < end; base += WARP) {
        mass_t sum = kept_mass(base + lane);
#pragma unroll
        for (int stride = 1; stride < WARP; stride *= 2) {
            mass_t below = __shfl_up_sync(FULL_WARP, sum, stride);
            if (lane >= stride) sum += below;
        }
        unsigned reached = __ballot_sync(FULL_WARP, before + sum >= target);
        if (reached) return lane == 0 ? base + __ffs(static_cast<int>(reached)) - 1 : -1;
        before += __shfl_sync(FULL_WARP, sum, WARP - 1);
    }
    return -1;
}

// One block per row of logits.
__global__ void __launch_bounds__(DRAW_THREADS, 1) draw_kernel(sample_args args) {
    __shared__ float uniform;
    int i = static_cast<int>(blockIdx.x), row = session_row(args, i);
    if (!is_extended(args, row)) return;
    const sampling &rule = args.sampling;
    if (threadIdx.x == 0) {
        curandStatePhilox4_32_10_t state;
        curand_init(rule.seed, args.requests[row], static_cast<unsigned long long>(args.lengths[row]),
                    &state);
        uniform = curand_uniform(&state);
    }
    row_keys keys = {args.logits + static_cast<int64_t>(i) * args.ld, args.V};
    // Its barrier also publishes the uniform number and ends the reading of the length.
    token_key best =
        block_best<DRAW_THREADS>(keys.logits, keys.count, static_cast<int>(threadIdx.x), DRAW_THREADS);
    softmax_row softmax = {logit_of(best), rule.temperature};

    token_set none = {best + 1, 0, 0};
    token_key threshold = key_of(softmax.highest - ZERO_MASS_LOGIT * rule.temperature, keys.count);
    if ((rule.top_k > 0 && rule.top_k < keys.count) || rule.top_p < 1) {
        token_set kept = extend_down(softmax, keys, none, threshold);
        if (rule.top_k > 0)
            kept = smallest_set(softmax, keys, demand{min(rule.top_k, kept.count), 0}, kept, none);
        if (rule.top_p < 1)
            kept = smallest_set(softmax, keys, demand{0, mass_fraction(rule.top_p, kept.mass)}, kept, none);
        threshold = kept.threshold;
    }
    mass_t least_mass = mass_fraction(rule.min_p, static_cast<mass_t>(UNIT_MASS));
    int token = draw_token(softmax, keys, threshold, least_mass, uniform);
    if (token >= 0) append_token(args, row, token);
}

cudaError_t sample_run(const struct sample_args *args, cudaStream_t stream) {
    if (args->sampling.temperature == 0) return greedy_launch(*args, stream);
    draw_kernel<<<args->count, DRAW_THREADS, 0, stream>>>(*args);
    return cudaGetLastError();
}
