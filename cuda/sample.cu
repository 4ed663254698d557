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

typedef unsigned long long
    mass_t; // of probability: the most probable token weighs 2^36, so that 2^28 tokens fit
constexpr double UNIT_MASS = 68719476736.0;

// The tokens whose keys are at least `threshold`.
struct token_set {
    token_key threshold;
    int count;
    mass_t mass;
};

struct logits_row {
    const float *logits;
    int V;
    float highest, inverse_temperature;

    __device__ mass_t mass(float logit) const {
        float weight = logit == highest ? 1 : expf((logit - highest) * inverse_temperature);
        return static_cast<mass_t>(weight * static_cast<float>(UNIT_MASS) + 0.5f);
    }
};

__device__ static mass_t warp_sum_mass(mass_t mass) {
#pragma unroll
    for (int stride = WARP / 2; stride > 0; stride /= 2) mass += __shfl_xor_sync(FULL_WARP, mass, stride);
    return mass;
}

// `above` and the tokens with keys from `threshold` up to above's; for every thread.
__device__ static token_set extend_down(const logits_row &row, const token_set &above, token_key threshold) {
    __shared__ int counts[DRAW_WARPS];
    __shared__ mass_t masses[DRAW_WARPS];
    int count = 0;
    mass_t mass = 0;
#pragma unroll 8
    for (int id = static_cast<int>(threadIdx.x); id < row.V; id += DRAW_THREADS) {
        float logit = logit_at(row.logits, id);
        token_key key = key_of(logit, id);
        if (key < threshold || key >= above.threshold) continue;
        count++;
        mass += row.mass(logit);
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

// The smallest set of best tokens with at least so many of them and so much mass, by bisection of the
// threshold. `all` is such a set, `none` is not.
__device__ static token_set smallest_set(const logits_row &row, token_set all, token_set none, int count,
                                         mass_t mass) {
    while (all.count > max(count, none.count + 1)) {
        token_key middle = none.threshold - (none.threshold - all.threshold) / 2;
        token_set set = extend_down(row, none, middle);
        if (set.count >= count && set.mass >= mass)
            all = set;
        else
            none = set;
    }
    return all;
}

// The fraction of a mass, rounded up; at least one unit.
__device__ static mass_t mass_fraction(double fraction, mass_t mass) {
    mass_t part = static_cast<mass_t>(ceil(fraction * static_cast<double>(mass)));
    return min(max(part, mass_t{1}), mass);
}

// The lowest id at which the kept mass, summed in id order, reaches u of its total; known to one thread, -1
// to others.
__device__ static int draw_token(const logits_row &row, token_key threshold, mass_t least_mass, float u) {
    __shared__ mass_t masses[DRAW_WARPS];
    int warp = static_cast<int>(threadIdx.x) / WARP, lane = static_cast<int>(threadIdx.x) % WARP;
    int span = divide_up(divide_up(row.V, DRAW_WARPS), WARP) * WARP; // a warp's share of the ids
    int first = warp * span, end = min(first + span, row.V);
    auto kept_mass = [&](int id) {
        if (id >= end) return mass_t{0};
        float logit = logit_at(row.logits, id);
        mass_t mass = row.mass(logit);
        return key_of(logit, id) >= threshold && mass >= least_mass ? mass : mass_t{0};
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
    logits_row logits = {args.logits + static_cast<int64_t>(i) * args.ld, args.V, 0, 1 / rule.temperature};
    token_key best =
        block_best<DRAW_THREADS>(logits.logits, logits.V, static_cast<int>(threadIdx.x), DRAW_THREADS);
    logits.highest = logit_at(logits.logits, id_of(best));

    token_set none = {best + 1, 0, 0}, kept = {0, logits.V, 0};
    bool by_count = rule.top_k > 0 && rule.top_k < logits.V, by_mass = rule.top_p < 1;
    if (by_count) kept = smallest_set(logits, kept, none, rule.top_k, 0);
    if (by_mass) {
        kept = extend_down(logits, none, kept.threshold);
        kept = smallest_set(logits, kept, none, 0, mass_fraction(rule.top_p, kept.mass));
    }
    mass_t least_mass = mass_fraction(rule.min_p, static_cast<mass_t>(UNIT_MASS));
    int token = draw_token(logits, kept.threshold, least_mass, uniform);
    if (token >= 0) append_token(args, row, token);
}

cudaError_t sample_run(const struct sample_args *args, cudaStream_t stream) {
    if (args->sampling.temperature == 0) return greedy_launch(*args, stream);
    draw_kernel<<<args->count, DRAW_THREADS, 0, stream>>>(*args);
    return cudaGetLastError();
}
