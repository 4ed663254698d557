// The sequential-K/V form: one block per tile of queries walks the keys tile by tile with an online softmax
// (Milakov and Gimelshein 2018; Dao 2023, FlashAttention-2). 16-bit types with D of 32, 64 or 128 use the
// tensor cores; everything else a form on the ordinary cores.
#include "cuda/attention_kernels.cuh"
#include "cuda/mma.cuh"

struct tile_range {
    int queries; // of the row
    int first;   // of the tile
    int visible; // keys that the row's query 0 sees; query i sees visible + i
    int keys;    // that the tile's last query sees

    __device__ tile_range(const attention_args &args, int row, int tile, int tile_queries) {
        queries = attention_queries(args, row);
        first = tile * tile_queries;
        visible = attention_keys(args, row) - queries + 1;
        keys = visible + min(first + tile_queries, queries) - 1;
    }
    // Rows shorter than the grid's bound, and free ones.
    __device__ bool is_empty() const { return first >= queries || visible <= 0; }
};

// Heads vary fastest, so that the longest tiles of all rows start first.
__device__ inline int tile_of_block(const attention_args &args) {
    return static_cast<int>(gridDim.x) / args.H - 1 - static_cast<int>(blockIdx.x) / args.H;
}

// ---- tensor cores

constexpr int TILE = 64; // queries of a block, 16 per warp; and keys per step
constexpr int MMA_THREADS = TILE / 16 * WARP;

// A (TILE, D) tile in shared memory in units of 16 bytes, permuted within each row so that the eight rows of
// one ldmatrix fall into different banks.
template <typename T, int D>
struct shared_tile {
    static constexpr int UNITS = D / 8; // per row
    T data[TILE * D];

    __device__ T *unit(int row, int u) {
        int swizzle = D == 32 ? row / 2 % 4 : row % 8;
        return data + (row * UNITS + (u ^ swizzle)) * 8;
    }
    // Starts copying rows first .. first + TILE - 1 of a tensor; those from `end` on become zeros.
    __device__ void load(const T *source, int64_t token_stride, int first, int end) {
        for (int i = static_cast<int>(threadIdx.x); i < TILE * UNITS; i += MMA_THREADS) {
            int row = i / UNITS, u = i % UNITS, token = first + row;
            bool valid = token < end;
            copy_async_16(unit(row, u), source + (valid ? token : 0) * token_stride + u * 8, valid);
        }
    }
};

template <typename T, int D>
struct mma_storage {
    shared_tile<T, D> q, k[2], v[2];
};

// One warp's 16 queries. In the accumulators' layout a lane holds rows lane / 4 and lane / 4 + 8.
template <typename T, int D>
struct mma_state {
    uint32_t q[D / 16][4];
    float o[D / 8][4];
    float highest[2], sum[2]; // base 2

    __device__ void load_q(shared_tile<T, D> &tile, int warp, int lane) {
#pragma unroll
        for (int step = 0; step < D / 16; step++)
            load_matrices(q[step], tile.unit(warp * 16 + lane % 16, step * 2 + lane / 16));
    }

    // scores (16, TILE) = q k^T
    __device__ void multiply_k(shared_tile<T, D> &k, int lane, float (&score)[TILE / 8][4]) const {
#pragma unroll
        for (int n = 0; n < TILE / 16; n++) {
#pragma unroll
            for (int step = 0; step < D / 16; step++) {
                uint32_t b[4]; // keys n * 16 .. + 7 and + 8 .. + 15, 16 of D each
                load_matrices(b, k.unit(n * 16 + lane % 8 + lane / 16 * 8, step * 2 + lane / 8 % 2));
                mma_16x8x16<T>(score[2 * n], q[step], b[0], b[1]);
                mma_16x8x16<T>(score[2 * n + 1], q[step], b[2], b[3]);
            }
        }
    }

    // Turns scores into numerators, and rescales what was summed before to the new maximum.
    __device__ void soften(float (&score)[TILE / 8][4], float scale) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float top = highest[half];
#pragma unroll
            for (int n = 0; n < TILE / 8; n++) {
                score[n][2 * half] *= scale;
                score[n][2 * half + 1] *= scale;
                top = fmaxf(top, fmaxf(score[n][2 * half], score[n][2 * half + 1]));
            }
            top = fmaxf(top, __shfl_xor_sync(FULL_WARP, top, 1));
            top = fmaxf(top, __shfl_xor_sync(FULL_WARP, top, 2));
            float rescale = exp2f(highest[half] - top);
            highest[half] = top;
            sum[half] *= rescale;
#pragma unroll
            for (int n = 0; n < TILE / 8; n++) {
#pragma unroll
                for (int i = 2 * half; i < 2 * half + 2; i++) {
                    score[n][i] = exp2f(score[n][i] - top);
                    sum[half] += score[n][i];
                }
            }
#pragma unroll
            for (int n = 0; n < D / 8; n++) {
                o[n][2 * half] *= rescale;
                o[n][2 * half + 1] *= rescale;
            }
        }
    }

    // o (16, D) += numerators (16, TILE) v
    __device__ void multiply_v(shared_tile<T, D> &v, int lane, const float (&score)[TILE / 8][4]) {
#pragma unroll
        for (int step = 0; step < TILE / 16; step++) {
            const float *low = score[2 * step], *high = score[2 * step + 1];
            uint32_t a[4] = {pack_pair<T>(low[0], low[1]), pack_pair<T>(low[2], low[3]),
                             pack_pair<T>(high[0], high[1]), pack_pair<T>(high[2], high[3])};
#pragma unroll
            for (int n = 0; n < D / 16; n++) {
                uint32_t b[4]; // 16 keys, d n * 16 .. + 7 and + 8 .. + 15
                load_matrices_transposed(b, v.unit(step * 16 + lane % 16, n * 2 + lane / 16));
                mma_16x8x16<T>(o[2 * n], a, b[0], b[1]);
                mma_16x8x16<T>(o[2 * n + 1], a, b[2], b[3]);
            }
        }
    }
};

// Grid (query tiles * H, B).
template <typename T, int D>
__global__ void __launch_bounds__(MMA_THREADS) mma_kernel(attention_args args) {
    extern __shared__ uint4 shared_bytes[];
    mma_storage<T, D> &shared = *reinterpret_cast<mma_storage<T, D> *>(shared_bytes);
    int head = static_cast<int>(blockIdx.x) % args.H, row = static_cast<int>(blockIdx.y);
    tile_range range(args, row, tile_of_block(args), TILE);
    if (range.is_empty()) return;
    int warp = static_cast<int>(threadIdx.x) / WARP, lane = static_cast<int>(threadIdx.x) % WARP;
    const T *k = attention_at<T>(args.k, row, head), *v = attention_at<T>(args.v, row, head);

    shared.q.load(attention_at<T>(args.q, row, head), args.q.token_stride, range.first, range.queries);
    shared.k[0].load(k, args.k.token_stride, 0, range.keys);
    shared.v[0].load(v, args.v.token_stride, 0, range.keys);
    copy_async_commit();

    mma_state<T, D> state = {};
    state.highest[0] = state.highest[1] = -INFINITY;
    int own = range.first + warp * 16 + lane / 4; // and own + 8: this lane's queries
    int steps = divide_up(range.keys, TILE);
    for (int step = 0; step < steps; step++) {
        int stage = step % 2, first_key = step * TILE;
        if (step + 1 < steps) {
            shared.k[1 - stage].load(k, args.k.token_stride, first_key + TILE, range.keys);
            shared.v[1 - stage].load(v, args.v.token_stride, first_key + TILE, range.keys);
        }
        copy_async_commit();
        copy_async_wait<1>(); // all but the newest group: this step's tiles are here
        __syncthreads();
        if (step == 0) state.load_q(shared.q, warp, lane);

        float score[TILE / 8][4] = {};
        state.multiply_k(shared.k[stage], lane, score);
        if (first_key + TILE >
            range.visible + range.first) { // some query of the tile does not see all of these keys
#pragma unroll
            for (int n = 0; n < TILE / 8; n++) {
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    int key = first_key + n * 8 + lane % 4 * 2 + i % 2;
                    int query = own + i / 2 * 8;
                    if (key >= min(range.visible + query, range.keys)) score[n][i] = -INFINITY;
                }
            }
        }
        state.soften(score, args.scale * LOG2E);
        state.multiply_v(shared.v[stage], lane, score);
        __syncthreads(); // the next step overwrites the other stage
    }

#pragma unroll
    for (int half = 0; half < 2; half++) {
        float sum = state.sum[half];
        sum += __shfl_xor_sync(FULL_WARP, sum, 1);
        sum += __shfl_xor_sync(FULL_WARP, sum, 2);
        int query = own + half * 8;
        if (query >= range.queries) continue;
        T *out = attention_out<T>(args, row, query, head) + lane % 4 * 2;
#pragma unroll
        for (int n = 0; n < D / 8; n++) {
            vec<T, 2> pair = {static_cast<T>(state.o[n][2 * half] / sum),
                              static_cast<T>(state.o[n][2 * half + 1] / sum)};
            *reinterpret_cast<vec<T, 2> *>(out + n * 8) = pair;
        }
    }
}

// ---- ordinary cores: any dtype and D

constexpr int CORE_WARPS = 4;
constexpr int QUERIES_PER_WARP = 4;
constexpr int CORE_QUERIES = CORE_WARPS * QUERIES_PER_WARP;

// Converts rows first .. first + count - 1 of a tensor to f32 rows `stride` apart; those from `end` on become
// zeros.
template <typename T>
__device__ void load_rows(float *to, int stride, const T *from, int64_t token_stride, int first, int count,
                          int end, int D) {
    for (int i = static_cast<int>(threadIdx.x); i < count * D; i += CORE_WARPS * WARP) {
        int t = i / D, d = i % D;
        to[t * stride + d] = first + t < end ? static_cast<float>(from[(first + t) * token_stride + d]) : 0;
    }
}

// A warp serves four queries. For scores each lane takes a key, for weighted values each lane takes PARTS of
// D.
template <typename T, int PARTS>
__global__ void __launch_bounds__(CORE_WARPS *WARP) core_kernel(attention_args args) {
    extern __shared__ float shared_rows[];
    int D = args.D, k_stride = D | 1; // odd: lanes on different keys fall into different banks
    float *q = shared_rows;           // (CORE_QUERIES, D)
    float *v = q + CORE_QUERIES * D;  // (WARP, D)
    float *k = v + WARP * D;          // (WARP, k_stride)
    int head = static_cast<int>(blockIdx.x) % args.H, row = static_cast<int>(blockIdx.y);
    tile_range range(args, row, tile_of_block(args), CORE_QUERIES);
    if (range.is_empty()) return;
    int warp = static_cast<int>(threadIdx.x) / WARP, lane = static_cast<int>(threadIdx.x) % WARP;
    load_rows(q, D, attention_at<T>(args.q, row, head), args.q.token_stride, range.first, CORE_QUERIES,
              range.queries, D);
    const float *own_q = q + warp * QUERIES_PER_WARP * D;
    int own = range.first + warp * QUERIES_PER_WARP;

    float o[QUERIES_PER_WARP][PARTS] = {}, highest[QUERIES_PER_WARP], sum[QUERIES_PER_WARP] = {};
#pragma unroll
    for (int r = 0; r < QUERIES_PER_WARP; r++) highest[r] = -INFINITY;
    for (int first_key = 0; first_key < range.keys; first_key += WARP) {
        __syncthreads(); // the previous tile has been used
        load_rows(k, k_stride, attention_at<T>(args.k, row, head), args.k.token_stride, first_key, WARP,
                  range.keys, D);
        load_rows(v, D, attention_at<T>(args.v, row, head), args.v.token_stride, first_key, WARP, range.keys,
                  D);
        __syncthreads();

        float weight[QUERIES_PER_WARP] = {};
        for (int d = 0; d < D; d++) {
            float key = k[lane * k_stride + d];
#pragma unroll
            for (int r = 0; r < QUERIES_PER_WARP; r++) weight[r] += own_q[r * D + d] * key;
        }
#pragma unroll
        for (int r = 0; r < QUERIES_PER_WARP; r++) {
            bool seen = first_key + lane < min(range.visible + own + r, range.keys);
            float score = seen ? weight[r] * (args.scale * LOG2E) : -INFINITY;
            float top = fmaxf(highest[r], warp_max(score));
            float rescale = exp2f(highest[r] - top);
            highest[r] = top;
            weight[r] = exp2f(score - top);
            sum[r] = sum[r] * rescale + weight[r];
#pragma unroll
            for (int i = 0; i < PARTS; i++) o[r][i] *= rescale;
        }
        for (int j = 0; j < WARP; j++) {
            float value[PARTS];
#pragma unroll
            for (int i = 0; i < PARTS; i++) value[i] = lane + i * WARP < D ? v[j * D + lane + i * WARP] : 0;
#pragma unroll
            for (int r = 0; r < QUERIES_PER_WARP; r++) {
                float p = __shfl_sync(FULL_WARP, weight[r], j);
#pragma unroll
                for (int i = 0; i < PARTS; i++) o[r][i] += p * value[i];
            }
        }
    }

#pragma unroll
    for (int r = 0; r < QUERIES_PER_WARP; r++) {
        float total = warp_sum(sum[r]);
        if (own + r >= range.queries) continue;
        T *out = attention_out<T>(args, row, own + r, head);
#pragma unroll
        for (int i = 0; i < PARTS; i++) {
            if (lane + i * WARP < D) out[lane + i * WARP] = static_cast<T>(o[r][i] / total);
        }
    }
}

// ---- launchers

typedef void flash_kernel(attention_args);

static cudaError_t launch(flash_kernel *kernel, int tile_queries, int threads, size_t shared_bytes,
                          const struct attention_args &args, cudaStream_t stream) {
    cudaError_t code = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                            static_cast<int>(shared_bytes));
    if (code != cudaSuccess) return code;
    dim3 grid(divide_up(args.max_queries, tile_queries) * args.H, args.B);
    kernel<<<grid, threads, shared_bytes, stream>>>(args);
    return cudaGetLastError();
}

template <typename T, int D>
static cudaError_t launch_mma(const struct attention_args &args, cudaStream_t stream) {
    return launch(mma_kernel<T, D>, TILE, MMA_THREADS, sizeof(mma_storage<T, D>), args, stream);
}

template <typename T, int PARTS>
static cudaError_t launch_core(const struct attention_args &args, cudaStream_t stream) {
    size_t floats = (CORE_QUERIES + WARP) * args.D + WARP * (args.D | 1);
    return launch(core_kernel<T, PARTS>, CORE_QUERIES, CORE_WARPS * WARP, floats * sizeof(float), args,
                  stream);
}

cudaError_t attention_flash_launch(const struct attention_args &args, cudaStream_t stream) {
    return with_element(args.dtype, [&](auto zero) {
        using T = decltype(zero);
        if constexpr (sizeof(T) == 2) {
            if (attention_is_aligned(args)) {
                if (args.D == 32) return launch_mma<T, 32>(args, stream);
                if (args.D == 64) return launch_mma<T, 64>(args, stream);
                if (args.D == 128) return launch_mma<T, 128>(args, stream);
            }
        }
        if (args.D <= 64) return launch_core<T, 2>(args, stream);
        return launch_core<T, ATTENTION_MAX_D / WARP>(args, stream);
    });
}
