#include "cuda/persistent_step.h"

#include "cuda/decode_linear.h"
#include "cuda/launch.cuh"
#include "cuda/persistent_attention.cuh"
#include "cuda/persistent_feed.cuh"
#include "cuda/persistent_product.cuh"

#include <math.h>

// Not an unnamed namespace: on older targets the kernel is empty and its parts are not used.
namespace persistent {

// ---- what finished outputs become; by whole warps

// Where an output goes, worked out while its rows are still awaited. NULL: nowhere, or not by this thread.
struct target {
    uint32_t *pair;  // with its neighbour's, in the exchange
    uint2 *stats;    // of its piece of the residual stream
    uint32_t *cache; // with its neighbour's, a key's or a value's
};

__device__ inline uint32_t *pair_of(const worker &w, const arguments &a, uint4 *to, const output &o) {
    if (!o.active || w.n % 2 != 0) return NULL;
    return reinterpret_cast<uint32_t *>(to + o.tile * a.r.B + w.row) + w.n / 2;
}
__device__ inline uint2 *stats_of(const worker &w, const arguments &a, uint4 *to, const output &o) {
    if (!o.active || w.n != 0) return NULL;
    return reinterpret_cast<uint2 *>(to) + o.tile * a.r.B + w.row;
}

// The place of the row's newest token in the cache, of channels C .. 3 C - 1 of QKV.
template <typename T>
__device__ inline uint32_t *cache_of(const worker &w, const arguments &a, int layer, const output &o) {
    const int part = (o.column >= a.m.C) + (o.column >= 2 * a.m.C), channel = o.column - part * a.m.C,
              length = w.s->length[w.row];
    if (!o.active || part == 0 || length == 0 || w.n % 2 != 0) return NULL;
    char *cache = static_cast<char *>(a.r.kv) + (2 * (int64_t)layer + part - 1) * a.r.kv_stride;
    const size_t token = ((size_t)w.row * a.m.H + channel / HEAD_D) * a.r.max_tokens + length - 1;
    return reinterpret_cast<uint32_t *>(reinterpret_cast<T *>(cache) + token * HEAD_D + channel % HEAD_D);
}

template <typename T>
__device__ inline void publish_output(const target &to, float value) {
    const uint32_t pair = pack_pair<T>(value, __shfl_down_sync(FULL_WARP, value, 1));
    if (to.pair) publish(to.pair, pair);
    if (to.cache) *to.cache = pair;
}

// A channel of the residual stream, for the LayerNorm with weight `gain` of this channel.
template <typename T>
__device__ inline void publish_residual(const target &to, float x, float gain) {
    publish_output<T>(to, x * gain * SCALED_UNIT<T>);
    const float first = __shfl_sync(FULL_WARP, x, 0, TILE), d = x - first;
    float sum = d, squares = d * d;
#pragma unroll
    for (int step = TILE / 2; step > 0; step /= 2) {
        sum += __shfl_xor_sync(FULL_WARP, sum, step);
        squares += __shfl_xor_sync(FULL_WARP, squares, step);
    }
    const float mean = sum / TILE;
    if (to.stats)
        publish(to.stats, make_uint2(__float_as_uint(first + mean),
                                     __float_as_uint(fmaxf(squares - sum * mean, 0.0f))));
}

// ---- phases of a step; by all multipliers

// The newest token of each row: the block's channels of it.
template <typename T>
__device__ inline void embed(const worker &w, const arguments &a, uint4 *exchange) {
    const T *wte = static_cast<const T *>(a.m.wte), *wpe = static_cast<const T *>(a.m.wpe);
    const tile_range channels = w.s->tiles[ATTPROJ];
#pragma unroll 1
    for (int group = 0; group < channels.count; group += a.group) {
        const output o = output_of(w, channels, group, a.group);
        float x = 0;
        const int length = w.s->length[w.row];
        if (length > 0)
            x = (float)wte[(size_t)w.s->token[w.row] * a.m.C + o.column] +
                (float)wpe[(size_t)(length - 1) * a.m.C + o.column];
        if (o.active) w.s->residual[o.residual] = x;
        const target to = {pair_of(w, a, exchange + a.layout.x, o),
                           stats_of(w, a, exchange + a.layout.x_stats, o), NULL};
        publish_residual<T>(to, x, of_layer<float>(a.m.ln1w, 0)[o.column]);
    }
}

// One of a layer's products, or the LM head: its outputs go where they are wanted, and *found keeps the best
// logit that this thread finished.
template <typename T, int CHUNKS>
__device__ inline void run_kind(worker *w, const arguments &a, uint4 *exchange, int layer, int kind,
                                best *found) {
    run_product<T, CHUNKS>(
        w, a, exchange, kind, layer,
        [&](const output &o) {
            target to = {};
            if (kind == HEAD) return to;
            to.pair = pair_of(*w, a, exchange + a.products[kind].out, o);
            if (kind == QKV) to.cache = cache_of<T>(*w, a, layer, o);
            if (kind == ATTPROJ || kind == FCPROJ)
                to.stats = stats_of(*w, a, exchange + a.products[kind].out_stats, o);
            return to;
        },
        [&](const output &o, const target &to, float y, float gain) {
            if (kind == HEAD) {
                if (!o.active || o.column >= a.m.V) return;
                if (a.r.logits) a.r.logits[(size_t)w->row * a.r.ld + o.column] = y;
                if (y > found->value) *found = {y, o.column}; // ids rise: the first of equals stays
            } else if (kind == ATTPROJ || kind == FCPROJ) {
                y += w->s->residual[o.residual];
                if (o.active) w->s->residual[o.residual] = y;
                publish_residual<T>(to, y, gain);
            } else {
                publish_output<T>(to, kind == FC ? gelu_tanh(y) : y);
            }
        });
}

__device__ inline best best_of_lanes(best found, int lanes) {
#pragma unroll 1
    for (int step = lanes / 2; step > 0; step /= 2)
        found = better(found, {__shfl_xor_sync(FULL_WARP, found.value, step),
                               __shfl_xor_sync(FULL_WARP, found.id, step)});
    return found;
}

// Every block tells all others its best token of each row, and all take the same best: the barrier that ends
// a step.
template <typename T>
__device__ inline void choose_tokens(worker *w, const arguments &a, int turn, best found) {
    const int B = a.r.B, blocks = gridDim.x, slot = turn % 3;
    shared_state *s = w->s;
    found = best_of_lanes(found, TILE);
    if (w->n == 0 && w->tile < a.group) s->found[w->tile * B + w->row] = found;
    meet(w); // and all that the block emptied has been emptied
    if (w->warp == 0 && w->lane < B) {
        best winner = s->found[w->lane];
#pragma unroll 1
        for (int tile = 1; tile < a.group; tile++) winner = better(winner, s->found[tile * B + w->lane]);
        publish_release(a.candidates + ((size_t)slot * B + w->lane) * blocks + blockIdx.x,
                        make_uint2(__float_as_uint(winner.value), (uint32_t)winner.id));
    }
    if (w->warp < B) { // one warp a row
        const uint2 *of_row = a.candidates + ((size_t)slot * B + w->warp) * blocks;
        best winner = {-INFINITY, a.m.V};
#pragma unroll 1
        for (int block = w->lane; block < blocks; block += WARP) {
            uint2 pair = peek(of_row + block);
            while (pair.y == EMPTY) pair = peek(of_row + block);
            winner = better(winner, {__uint_as_float(pair.x), (int)pair.y});
        }
        acquire_seen();
        winner = best_of_lanes(winner, WARP);
        const int length = s->length[w->warp];
        if (w->lane == 0 && length > 0 && length < a.r.max_tokens) {
            const int token = winner.id < a.m.V ? winner.id : 0; // all NaN: still an id
            s->token[w->warp] = token;
            s->length[w->warp] = length + 1;
            if (blockIdx.x == 0) {
                a.r.tokens[(size_t)w->warp * a.r.max_tokens + length] = token;
                a.r.lengths[w->warp] = length + 1;
            }
        }
    }
    meet(w);
}

template <typename T, int CHUNKS>
__device__ inline void multiply_steps(worker *w, const arguments &a) {
    int turn = a.turn;
#pragma unroll 1
    for (int step = 0; step < a.steps; step++) {
        best found = {-INFINITY, a.m.V};
        uint4 *exchange = exchange_of(a, turn, 0);
        cached_keys keys;
        const row_head first = row_head_of(*w, a, blockIdx.x);
        embed<T>(*w, a, exchange);
#pragma unroll 1
        for (int layer = 0, kind = QKV; kind != KINDS;) {
            if (kind == QKV && first.length > 0)
                load_first_keys<T>(*w, a, layer, first, keys); // while QKV waits
            run_kind<T, CHUNKS>(w, a, exchange, layer, kind, &found);
            if (kind == QKV) attend<T>(w, a, exchange, layer, first, keys);
            kind++;
            if (kind != HEAD) continue; // of this layer, or the step's end
            layer++;
            exchange += a.layout.pieces;
            if (layer < a.m.L) kind = QKV;
        }
        if (!a.r.draws) choose_tokens<T>(w, a, turn, found);
        turn = turn + 1 == TURNS ? 0 : turn + 1;
    }
}

// ---- the assistant's part of the same phases

// Empties the block's share of what the step before left in the exchange of `layer`.
__device__ inline void empty_old(const arguments &a, int turn, int layer, int lane) {
    uint4 *old = exchange_of(a, turn + 1, layer);
#pragma unroll 1
    for (int i = blockIdx.x * WARP + lane; i < a.layout.pieces; i += gridDim.x * WARP) {
        publish_empty(old + i);
    }
}

template <typename T>
__device__ inline void assist_steps(worker *w, const arguments &a) {
    int turn = a.turn;
#pragma unroll 1
    for (int step = 0; step < a.steps; step++) {
        uint4 *exchange = exchange_of(a, turn, 0);
#pragma unroll 1
        for (int layer = 0, kind = QKV; kind != KINDS;) {
            const product &p = a.products[kind];
            const tile_range tiles = w->s->tiles[kind];
            if (tiles.count > 0) {
                const int group_tiles = group_tiles_of(a, p.parts);
#pragma unroll 1
                for (int group = 0; group < tiles.count; group += group_tiles) {
                    output_terms *terms = w->s->terms[w->take_turn(TURN_SUMS)];
                    for (int i = w->lane; i < group_tiles * TILE; i += WARP)
                        terms[i] = load_terms(a, kind, layer, tiles, group, i);
                    if (p.folded.first && group == 0) {
                        combine_norms<T>(reinterpret_cast<const uint2 *>(exchange + p.in_stats), a,
                                         w->s->norms[w->take_turn(TURN_NORMS)], w->lane);
                    }
                    meet(w);
                }
            }
            if (kind == QKV) assist_attention<T>(w, a, exchange, layer);
            if (kind == ATTPROJ || kind == HEAD) empty_old(a, turn, layer, w->lane);
            kind++;
            if (kind != HEAD) continue;
            layer++;
            exchange += a.layout.pieces;
            if (layer < a.m.L) kind = QKV;
        }
        if (!a.r.draws) {
            // Candidates of step t are emptied in step t + 2, when all blocks have been past them.
            if (w->lane < a.r.B)
                publish(a.candidates + ((size_t)((turn + 1) % 3) * a.r.B + w->lane) * gridDim.x + blockIdx.x,
                        make_uint2(EMPTY, EMPTY));
            meet(w); // both of choose_tokens
            meet(w);
        }
        turn = turn + 1 == TURNS ? 0 : turn + 1;
    }
}

// Where the ring begins, for bulk copies.
__host__ __device__ constexpr int slots_offset(int B) {
    return ((int)sizeof(shared_state) + sums_bytes(B) + 127) / 128 * 128;
}

// Dynamic shared memory: shared_state, the warps' sums, the ring of weights.
template <typename T, int CHUNKS>
__global__ void __launch_bounds__(THREADS, 1) step_kernel(const __grid_constant__ arguments a) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
    extern __shared__ __align__(128) unsigned char shared[];
    shared_state *s = reinterpret_cast<shared_state *>(shared);
    unsigned char *sums = shared + sizeof(shared_state), *slots = shared + slots_offset(a.r.B);
    if (threadIdx.x == 0) {
#    pragma unroll 1
        for (int i = 0; i < a.stages; i++) {
            barrier_init(s->full + i, 1);
            barrier_init(s->empty + i, MULTIPLIERS);
        }
        barrier_init(&s->meeting, WORKER_WARPS);
        barrier_init_fence();
        const block_plan plan = a.plans[blockIdx.x];
        s->tiles[QKV] = plan.qkv, s->tiles[ATTPROJ] = s->tiles[FCPROJ] = plan.channels;
        s->tiles[FC] = plan.fc, s->tiles[HEAD] = plan.head;
    }
    if (threadIdx.x < a.r.B) {
        const int length = a.r.lengths[threadIdx.x];
        s->length[threadIdx.x] = length;
        s->token[threadIdx.x] =
            length > 0 ? a.r.tokens[(size_t)threadIdx.x * a.r.max_tokens + length - 1] : 0;
    }
    __syncthreads();
    worker w;
    w.s = s, w.slots = slots, w.sums = reinterpret_cast<float *>(sums);
    w.warp = uniform_warp(), w.lane = threadIdx.x % WARP;
    w.slot_lane = w.lane / 4 * a.row_bytes + w.lane % 4 * 16 + w.warp * (CHUNK_K * 2);
    w.n = threadIdx.x % TILE;
    w.row = threadIdx.x / TILE % a.r.B;
    w.tile = threadIdx.x / TILE / a.r.B;
    if (w.warp < MULTIPLIERS) {
        asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(int{MULTIPLIER_REGISTERS}));
        multiply_steps<T, CHUNKS>(&w, a);
    } else {
        asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(int{OTHER_REGISTERS}));
        if (w.warp == ASSISTANT) assist_steps<T>(&w, a);
        if (w.warp == FEEDER) feed<T>(a, s, slots);
    }
#endif
}

// ---- host: what fits, and what lies where in the workspace

enum { SHARED_BYTES = 227 << 10, MIN_STAGES = 4 };

static int row_bytes(int C) {
    return 2 * C + 64; // C a multiple of 64: two neighbouring rows' pieces lie in different banks
}

static int stages_of(int B, int C) {
    return min((SHARED_BYTES - slots_offset(B)) / (TILE * row_bytes(C)), (int)MAX_STAGES);
}

static size_t shared_bytes(int B, int C) {
    return (size_t)slots_offset(B) + (size_t)stages_of(B, C) * TILE * row_bytes(C);
}

using step_function = void (*)(arguments);

// Chunks are dealt out evenly where C is a multiple of this.
enum { EVEN_C = MULTIPLIERS * CHUNK_K };

template <typename T>
static step_function function_for(int C) {
    switch (C) {
    case 3 * EVEN_C:
        return step_kernel<T, 3>;
    case 4 * EVEN_C:
        return step_kernel<T, 4>;
    case 5 * EVEN_C:
        return step_kernel<T, 5>;
    default:
        return step_kernel<T, MAX_CHUNKS>;
    }
}

static step_function function_of(enum dtype dtype, int C) {
    return dtype == DTYPE_BF16 ? function_for<__nv_bfloat16>(C) : function_for<__half>(C);
}

struct workspace {
    size_t pieces, candidates, plans, bytes; // offsets
};

static workspace lay_out(int L, int C, int F, int B, int blocks) {
    workspace w;
    w.pieces = 0;
    w.candidates = (size_t)2 * (L + 1) * exchange_layout_of(C, F, B).pieces * sizeof(uint4);
    w.plans = w.candidates + (size_t)3 * B * blocks * sizeof(uint2);
    w.bytes = w.plans + (size_t)blocks * sizeof(block_plan);
    return w;
}

static void fill_products(const persistent_model &m, const exchange_layout &e, product *products) {
    const layered none = {}, head = {m.head, 0}, head_biases = {m.head_biases, 0},
                  head_sums = {m.head_sums, 0};
    const layered next_ln1w = {static_cast<const char *>(m.ln1w.first) + m.ln1w.stride, m.ln1w.stride};
    products[QKV] = {m.qkvw, m.qkv_biases, m.qkv_sums, none, 1, e.x, e.x_stats, e.qkv, 0};
    products[ATTPROJ] = {m.attprojw, m.attprojb, none, m.ln2w, 1, e.mixed, 0, e.y, e.y_stats};
    products[FC] = {m.fcw, m.fc_biases, m.fc_sums, none, 1, e.y, e.y_stats, e.inner, 0};
    products[FCPROJ] = {m.fcprojw, m.fcprojb, none,           next_ln1w,           m.F / m.C,
                        e.inner,   0,         e.pieces + e.x, e.pieces + e.x_stats};
    products[HEAD] = {head, head_biases, head_sums, none, 1, e.x, e.x_stats, 0, 0};
}

static char *place(void *workspace, size_t offset) {
    return static_cast<char *>(workspace) + offset;
}

} // namespace persistent

using namespace persistent;

bool persistent_supports(enum dtype dtype, int B, int C, int H, int F) {
    if (dtype == DTYPE_F32 || B < 1 || B > PERSISTENT_ROWS || C % 64 != 0 || C > NORM_MAX_C ||
        C != H * PERSISTENT_D || F % C != 0 || stages_of(B, C) < MIN_STAGES || !decode_device_supported())
        return false;
    const int blocks = multiprocessor_count();
    int device = 0, cooperative = 0, resident = 0;
    const step_function kernel = function_of(dtype, C);
    const bool supported =
        blocks <= PLAN_MAX_BLOCKS && divide_up(C / TILE, blocks) <= MAX_CHANNEL_TILES &&
        cudaGetDevice(&device) == cudaSuccess &&
        cudaDeviceGetAttribute(&cooperative, cudaDevAttrCooperativeLaunch, device) == cudaSuccess &&
        cooperative &&
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared_bytes(B, C)) ==
            cudaSuccess &&
        cudaOccupancyMaxActiveBlocksPerMultiprocessor(&resident, kernel, THREADS, shared_bytes(B, C)) ==
            cudaSuccess &&
        resident > 0;
    cudaGetLastError(); // an answer, not an error
    return supported;
}

size_t persistent_workspace_bytes(int L, int C, int F, int B) {
    return lay_out(L, C, F, B, multiprocessor_count()).bytes;
}

cudaError_t persistent_prepare(void *workspace, const struct persistent_model *m, int B,
                               cudaStream_t stream) {
    const int blocks = multiprocessor_count();
    const persistent::workspace at = lay_out(m->L, m->C, m->F, B, blocks);
    const plan_shape shape = {m->C / TILE, m->F / TILE, divide_up(m->V, TILE)};
    block_plan plans[PLAN_MAX_BLOCKS];
    persistent_plan_make(&shape, blocks, plans);
    cudaError_t code = cudaMemsetAsync(workspace, 0xff, at.plans, stream); // all words are EMPTY
    if (code != cudaSuccess) return code;
    code = cudaMemcpyAsync(place(workspace, at.plans), plans, (size_t)blocks * sizeof *plans,
                           cudaMemcpyHostToDevice, stream);
    return code == cudaSuccess ? cudaStreamSynchronize(stream) : code;
}

cudaError_t persistent_run(const struct persistent_model *m, const struct persistent_rows *rows,
                           void *workspace, int steps, int *turn, cudaStream_t stream) {
    const int blocks = multiprocessor_count();
    const persistent::workspace at = lay_out(m->L, m->C, m->F, rows->B, blocks);
    arguments a;
    a.m = *m;
    a.r = *rows;
    a.plans = reinterpret_cast<const block_plan *>(place(workspace, at.plans));
    a.pieces = reinterpret_cast<uint4 *>(place(workspace, at.pieces));
    a.candidates = reinterpret_cast<uint2 *>(place(workspace, at.candidates));
    a.layout = exchange_layout_of(m->C, m->F, rows->B);
    fill_products(*m, a.layout, a.products);
    a.chunks = m->C / CHUNK_K;
    a.part_pieces = m->C / TILE * rows->B;
    a.stages = stages_of(rows->B, m->C);
    a.row_bytes = row_bytes(m->C);
    a.slot_bytes = TILE * a.row_bytes;
    a.group = group_of(rows->B);
    a.steps = steps;
    a.turn = *turn;
#ifndef KEEP_MB
#    define KEEP_MB 24
#endif
    const size_t bytes = shared_bytes(rows->B, m->C);
    const step_function kernel = function_of(m->dtype, m->C);
    cudaError_t code = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)bytes);
    if (code != cudaSuccess) return code;
    cudaLaunchAttribute cooperative = {};
    cooperative.id = cudaLaunchAttributeCooperative;
    cooperative.val.cooperative = 1;
    cudaLaunchConfig_t config = {};
    config.gridDim = dim3((unsigned)blocks);
    config.blockDim = dim3(THREADS);
    config.dynamicSmemBytes = bytes;
    config.stream = stream;
    config.attrs = &cooperative;
    config.numAttrs = 1;
    code = cudaLaunchKernelEx(&config, kernel, a);
    if (code == cudaSuccess) *turn = (*turn + steps) % TURNS;
    return code;
}
