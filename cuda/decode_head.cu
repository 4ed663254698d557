#include "cuda/decode_head.h"

#include "cuda/best_token.cuh"
#include "cuda/bulk.cuh"
#include "cuda/decode_linear.h"
#include "cuda/deferred_norm.cuh"
#include "cuda/launch.cuh"
#include "cuda/tensor_map.h"
#include "cuda/wgmma.cuh"

#include <math.h>

// Not an unnamed namespace: where the target has no wgmma, the kernel is empty and its parts are not used.
namespace decode_head {

enum {
    TILE_V = 64,             // vocabulary rows at a time: the M of wgmma
    CHUNK_K = 64,            // k that lie together in shared memory
    GROUP = 2,               // chunks that are copied at once
    MULTIPLIERS = 4,         // warps: the warpgroup that multiplies,
    FEEDER = 4,              // and the warp that feeds it
    THREADS = 160,           //
    MAX_STAGES = 12,         //
    MIN_STAGES = 3,          // groups of weights that must fit: about what a memory latency takes
    MAX_TILE = 96,           // rows of a block
    SHARED_BYTES = 225 << 10 // of a block: it has a multiprocessor to itself
};

constexpr int GROUP_BYTES = GROUP * TILE_V * CHUNK_K * 2;

struct head_arguments {
    const float2 *stats;
    const float *sums, *biases;
    float epsilon;
    int B, V, K;
    float *logits;
    int ld;
    int2 *partial;
    int stages;
};

// Shared memory: stages of weights (GROUP, 64, 64), the tile's rows (K / 64, TILE, 64), and:
template <int TILE>
struct head_shared {
    row_norm norms[TILE];
    best found[MULTIPLIERS][TILE];
    uint64_t full[MAX_STAGES], empty[MAX_STAGES], rows;
};

constexpr int row_bytes(int tile, int K) {
    return tile * K * 2;
}

// Streams the block's share of the weights through the ring; the rows come once.
template <int TILE>
__device__ void feed(const CUtensorMap *weight, const CUtensorMap *input, const head_arguments &a, int row0,
                     unsigned char *stages, unsigned char *rows, head_shared<TILE> *s) {
    const int chunks = a.K / CHUNK_K;
    bool rows_requested = false;
    int filled = 0;
    ring at;
    for (int v0 = blockIdx.x * TILE_V; v0 < a.V; v0 += gridDim.x * TILE_V) {
        for (int chunk = 0; chunk < chunks; chunk += GROUP, at.advance(a.stages)) {
            if (filled == a.stages) {
                if (!rows_requested) { // the ring is full of weights: now for the kernel in front
                    dependency_wait();
                    barrier_expect(&s->rows, row_bytes(TILE, a.K));
                    copy_chunks(rows, input, row0, 0, &s->rows);
                    rows_requested = true;
                }
                barrier_wait(s->empty + at.stage, at.parity ^ 1);
            } else {
                filled++;
            }
            barrier_expect(s->full + at.stage, GROUP_BYTES);
            copy_chunks(stages + at.stage * GROUP_BYTES, weight, v0, chunk, s->full + at.stage);
        }
    }
    if (rows_requested) return;
    dependency_wait();
    barrier_expect(&s->rows, row_bytes(TILE, a.K));
    copy_chunks(rows, input, row0, 0, &s->rows);
}

// sum (64, TILE): one tile of the vocabulary. Of few rows two chains take turns, as in decode_linear.cu.
template <typename T, int TILE>
__device__ void multiply(float (&sum)[TILE / 2], const head_arguments &a, const unsigned char *stages,
                         const unsigned char *rows, head_shared<TILE> *s, ring *at) {
    constexpr int CHAINS = TILE <= 32 ? 2 : 1;
    float chain[CHAINS][TILE / 2] = {};
    const int chunks = a.K / CHUNK_K;
    for (int chunk = 0; chunk < chunks; chunk += GROUP, at->advance(a.stages)) {
        barrier_wait(s->full + at->stage, at->parity);
        const uint64_t w = wgmma_tile(stages + at->stage * GROUP_BYTES),
                       x = wgmma_tile(rows + chunk * (TILE * CHUNK_K * 2));
        wgmma_fence();
#pragma unroll
        for (int i = 0; i < GROUP; i++) {
            if (chunk + i >= chunks) break; // the copy reached beyond K
#pragma unroll
            for (int k = 0; k < CHUNK_K / 16; k++)
                wgmma<T, TILE>(chain[k % CHAINS], w + i * (TILE_V * CHUNK_K * 2 / 16) + 2 * k,
                               x + i * (TILE * CHUNK_K * 2 / 16) + 2 * k);
        }
        wgmma_commit();
        wgmma_wait<0>();
        if (threadIdx.x % WARP == 0) barrier_arrive(s->empty + at->stage);
    }
#pragma unroll
    for (int i = 0; i < TILE / 2; i++) {
        sum[i] = chain[0][i];
#pragma unroll
        for (int j = 1; j < CHAINS; j++) sum[i] += chain[j][i];
    }
}

// Grid (blocks, row tiles).
template <typename T, int TILE>
__global__ void __launch_bounds__(THREADS)
    head_kernel(const __grid_constant__ CUtensorMap weight, const __grid_constant__ CUtensorMap input,
                const head_arguments a) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
    extern __shared__ __align__(1024) unsigned char shared[];
    unsigned char *rows = shared + a.stages * GROUP_BYTES;
    head_shared<TILE> *s = reinterpret_cast<head_shared<TILE> *>(rows + row_bytes(TILE, a.K));
    const int warp = uniform_warp(), lane = threadIdx.x % WARP, row0 = blockIdx.y * TILE,
              count = min(TILE, a.B - row0);
    if (threadIdx.x == FEEDER * WARP) {
        for (int i = 0; i < a.stages; i++) {
            barrier_init(s->full + i, 1);
            barrier_init(s->empty + i, MULTIPLIERS);
        }
        barrier_init(&s->rows, 1);
        barrier_init_fence();
    }
    __syncthreads();
    if (warp == FEEDER) {
        if (lane == 0) feed<TILE>(&weight, &input, a, row0, shared, rows, s);
        return;
    }

    dependency_wait();
    dependency_trigger();
    for (int i = threadIdx.x / NORM_LANES; i < TILE; i += MULTIPLIERS * WARP / NORM_LANES) {
        const row_norm norm = combine_segments<T>(a.stats, a.B, a.K, min(row0 + i, a.B - 1), a.epsilon);
        if (threadIdx.x % NORM_LANES == 0) s->norms[i] = norm;
    }
    barrier_sync<MULTIPLIERS * WARP>(1);
    barrier_wait(&s->rows, 0);

    // A thread's columns are rows 8 j + 2 (lane % 4) + odd of the tile: [2 j + odd].
    best found[TILE / 4];
#    pragma unroll
    for (int i = 0; i < TILE / 4; i++) found[i] = {-INFINITY, a.V};
    ring at;
    for (int v0 = blockIdx.x * TILE_V; v0 < a.V; v0 += gridDim.x * TILE_V) {
        const int first = v0 + warp * 16 + lane / 4; // and first + 8
        float folded[2], bias[2];
#    pragma unroll
        for (int half = 0; half < 2; half++) {
            const int v = min(first + 8 * half, a.V - 1);
            folded[half] = a.sums[v];
            bias[half] = a.biases[v];
        }
        float sum[TILE / 2];
        multiply<T, TILE>(sum, a, shared, rows, s, &at);
#    pragma unroll
        for (int i = 0; i < TILE / 4; i++) {
            const int row = i / 2 * 8 + lane % 4 * 2 + i % 2;
            const row_norm norm = s->norms[row];
#    pragma unroll
            for (int half = 0; half < 2; half++) {
                const int v = first + 8 * half;
                const float logit =
                    norm.scale * sum[i / 2 * 4 + half * 2 + i % 2] - norm.shift * folded[half] + bias[half];
                if (v >= a.V) continue;
                if (a.logits && row < count) a.logits[(size_t)(row0 + row) * a.ld + v] = logit;
                if (logit > found[i].value) found[i] = {logit, v}; // ids rise: the first of equals stays
            }
        }
    }
#    pragma unroll
    for (int i = 0; i < TILE / 4; i++) {
#    pragma unroll
        for (int step = 4; step < WARP; step *= 2)
            found[i] = better(found[i], {__shfl_xor_sync(FULL_WARP, found[i].value, step),
                                         __shfl_xor_sync(FULL_WARP, found[i].id, step)});
        if (lane < 4) s->found[warp][i / 2 * 8 + lane * 2 + i % 2] = found[i];
    }
    barrier_sync<MULTIPLIERS * WARP>(1);
    for (int row = threadIdx.x; row < count; row += MULTIPLIERS * WARP) {
        best winner = s->found[0][row];
        for (int w = 1; w < MULTIPLIERS; w++) winner = better(winner, s->found[w][row]);
        a.partial[(size_t)(row0 + row) * gridDim.x + blockIdx.x] =
            make_int2(__float_as_int(winner.value), winner.id);
    }
#endif
}

// The best of a row's candidates, by one warp.
__device__ inline best best_of(const int2 *candidates, int count, int V) {
    best winner = {-INFINITY, V};
    for (int i = threadIdx.x; i < count; i += WARP) {
        const int2 pair = __ldcg(candidates + i);
        winner = better(winner, {__int_as_float(pair.x), pair.y});
    }
    return best_of_lanes<WARP>(winner);
}

// One block per row, of C / 4 threads but at least a warp.
template <typename T>
__global__ void finish_kernel(const int2 *partial, int count, int V, deferred_embedding e) {
    __shared__ int newest;
    dependency_trigger();
    dependency_wait();
    const int b = blockIdx.x;
    int length = e.lengths[b];
    int32_t *row = e.tokens + (size_t)b * e.max_tokens;
    const bool grows = length > 0 && length < e.max_tokens;
    if (threadIdx.x < WARP && grows) {
        const best winner = best_of(partial + (size_t)b * count, count, V);
        if (threadIdx.x == 0) newest = winner.id < V ? winner.id : 0; // all NaN: still an id
    } else if (threadIdx.x == 0) {
        newest = length > 0 ? row[length - 1] : -1;
    }
    __syncthreads(); // all have read the length, too
    if (threadIdx.x == 0 && grows) {
        row[length] = newest;
        e.lengths[b] = length + 1;
    }
    length += grows;
    embed_deferred<T>(e.rows, e.B, e.C, b, newest, length - 1, e.gain, static_cast<const T *>(e.wte),
                      static_cast<const T *>(e.wpe));
}

// ---- launch

// The smallest tile that needs no more tiles than the largest would.
static int tile_of(int B) {
    for (int tile : {16, 32, 64}) {
        if (divide_up(B, tile) == divide_up(B, MAX_TILE)) return tile;
    }
    return MAX_TILE;
}

static int stages_of(int tile, int K) {
    const int left = SHARED_BYTES - row_bytes(tile, K) - (int)sizeof(head_shared<MAX_TILE>);
    return left < 0 ? 0 : min(left / GROUP_BYTES, (int)MAX_STAGES);
}

template <typename T, int TILE>
static cudaError_t launch(const decode_head_args &args, head_arguments a, cudaStream_t stream) {
    CUtensorMap weight, input;
    cudaError_t code = tensor_map_chunks(&weight, args.dtype, args.weight, args.V, args.K, TILE_V, GROUP);
    if (code != cudaSuccess) return code;
    code = tensor_map_chunks(&input, args.dtype, args.rows.scaled, args.B, args.K, TILE, args.K / CHUNK_K);
    if (code != cudaSuccess) return code;
    a.stages = stages_of(TILE, args.K);
    const int bytes = a.stages * GROUP_BYTES + row_bytes(TILE, args.K) + (int)sizeof(head_shared<TILE>);
    code = cudaFuncSetAttribute(head_kernel<T, TILE>, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
    if (code != cudaSuccess) return code;
    return launch_dependent(head_kernel<T, TILE>, dim3(decode_head_blocks(args.B), divide_up(args.B, TILE)),
                            dim3(THREADS), (size_t)bytes, 1, stream, weight, input, a);
}

template <typename T>
static cudaError_t dispatch(const decode_head_args &args, const head_arguments &a, cudaStream_t stream) {
    switch (tile_of(args.B)) {
    case 16:
        return launch<T, 16>(args, a, stream);
    case 32:
        return launch<T, 32>(args, a, stream);
    case 64:
        return launch<T, 64>(args, a, stream);
    default:
        return launch<T, 96>(args, a, stream);
    }
}

} // namespace decode_head

using namespace decode_head;

bool decode_head_supports(enum dtype dtype, int B, int K) {
    return dtype != DTYPE_F32 && B >= 1 && K % CHUNK_K == 0 && K <= NORM_MAX_C &&
           stages_of(tile_of(B), K) >= MIN_STAGES && decode_device_supported();
}

int decode_head_blocks(int B) {
    return max(1, multiprocessor_count() / divide_up(B, MAX_TILE));
}

cudaError_t decode_head_run(const struct decode_head_args *args, cudaStream_t stream) {
    const head_arguments a = {args->rows.stats, args->sums,   args->biases, args->epsilon, args->B, args->V,
                              args->K,          args->logits, args->ld,     args->partial, 0};
    return args->dtype == DTYPE_BF16 ? dispatch<__nv_bfloat16>(*args, a, stream)
                                     : dispatch<__half>(*args, a, stream);
}

cudaError_t decode_head_finish(const int2 *partial, int V, const struct deferred_embedding *next,
                               cudaStream_t stream) {
    const auto kernel = next->dtype == DTYPE_BF16 ? finish_kernel<__nv_bfloat16> : finish_kernel<__half>;
    return launch_dependent(kernel, dim3(next->B), dim3(max(next->C / 4, WARP)), 0, 1, stream, partial,
                            decode_head_blocks(next->B), V, *next);
}
