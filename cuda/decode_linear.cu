#include "cuda/decode_linear.h"

#include "cuda/bulk.cuh"
#include "cuda/cluster.cuh"
#include "cuda/decode_cut.h"
#include "cuda/deferred_norm.cuh"
#include "cuda/launch.cuh"
#include "cuda/tensor_map.h"
#include "cuda/wgmma.cuh"

// Not an unnamed namespace: where the target has no wgmma, the kernel is empty and its parts are not used.
namespace decode_linear {

enum {
    TILE_N = DECODE_OUTPUTS, // outputs of a block: the M of wgmma
    CHUNK_K = DECODE_CHUNK,  // k that lie together in shared memory: 128 bytes of each row
    MULTIPLIERS = 4,         // warps: the warpgroup that multiplies,
    FEEDER = 4,              // the warp that feeds it,
    NORMS = 5,               // and from here on warps that combine LayerNorm's statistics;
    THREADS = 256,           // all of them finish the outputs: 192 and 384 threads take longer
    MAX_STAGES = 8,          // of `group` chunks
    SUM_STRIDE = TILE_N + 4, // f32 between rows of sums: spreads a warp's stores over the banks
};

__host__ __device__ constexpr int round_up(int value, int multiple) {
    return (value + multiple - 1) / multiple * multiple;
}

// Bytes of a chunk of `rows` rows.
constexpr int chunk_bytes(int rows) {
    return rows * CHUNK_K * 2;
}

struct linear_arguments {
    const float *bias, *sums, *next_gain;
    const float2 *stats;
    float epsilon;
    int B, N, K;
    decode_epilogue epilogue;
    void *out;
    deferred_rows residual;
    int group, stages; // chunks that are copied at once, and how many such groups fit
    int split;         // blocks of a cluster
    int own;           // rows of the tile that each of them finishes
    decode_next next;
};

struct barriers {
    uint64_t full[MAX_STAGES], empty[MAX_STAGES];
    uint64_t before; // the residual stream's old values are here
    uint64_t landed; // all sums of the rows that this block finishes are here
};

// Shared memory of a block that takes `tile` rows: the stages of the pipeline, (group, 64, 64) of weights
// and (group, tile, 64) of rows each, and in their place afterwards the block's sums (tile, SUM_STRIDE); then
// for RESIDUAL the old values of the residual stream (own, 64), in a cluster everybody's sums of the block's
// own rows (split, own, 64), and small things.
struct layout {
    int before, landing, norms, barriers, bytes; // offsets
};
__host__ __device__ inline layout lay_out(int tile, const linear_arguments &a) {
    const int pipeline = a.stages * a.group * chunk_bytes(TILE_N + tile),
              sums = round_up(tile * SUM_STRIDE * (int)sizeof(float), 128),
              own_bytes = a.own * TILE_N * (int)sizeof(float);
    layout l;
    l.before = pipeline > sums ? pipeline : sums;
    l.landing = l.before + (a.epilogue == DECODE_RESIDUAL ? own_bytes : 0);
    l.norms = l.landing + (a.split > 1 ? a.split * own_bytes : 0);
    l.barriers = l.norms + a.own * (int)sizeof(row_norm);
    l.bytes = l.barriers + (int)sizeof(barriers);
    return l;
}

// What a block works on.
struct share {
    int n0, row0;     // first output, first row of its tile
    int own_row0;     // first row that it finishes
    int finished;     // rows that it finishes; below 1 when all of them are padding
    int first, count; // chunks of K
};

// Keeps the copy engine fed: weights of the first stages before the wait, then the rows that go with them.
// The last group may reach beyond the block's share; that part is not used.
template <int TILE>
__device__ void feed(const CUtensorMap *weight, const CUtensorMap *input, const CUtensorMap *before,
                     const linear_arguments &a, const share &s, unsigned char *shared, const layout &l,
                     barriers *b) {
    const int weights = a.group * chunk_bytes(TILE_N), bytes = a.group * chunk_bytes(TILE_N + TILE);
    const int end = s.first + s.count, ahead = min(end, s.first + a.group * a.stages);
    int stage = 0;
#pragma unroll 1
    for (int chunk = s.first; chunk < ahead; chunk += a.group, stage++) {
        barrier_expect(b->full + stage, bytes);
        copy_chunks(shared + stage * bytes, weight, s.n0, chunk, b->full + stage);
    }
    dependency_wait();
    stage = 0;
#pragma unroll 1
    for (int chunk = s.first; chunk < ahead; chunk += a.group, stage++)
        copy_chunks(shared + stage * bytes + weights, input, s.row0, chunk, b->full + stage);
    if (a.epilogue == DECODE_RESIDUAL && s.finished > 0) {
        barrier_expect(&b->before, a.own * TILE_N * (int)sizeof(float));
        copy_box(shared + l.before, before, s.own_row0, s.n0, &b->before);
    }
    ring at;
    for (int chunk = ahead; chunk < end; chunk += a.group, at.advance(a.stages)) {
        uint64_t *full = b->full + at.stage;
        barrier_wait(b->empty + at.stage, at.parity);
        barrier_expect(full, bytes);
        copy_chunks(shared + at.stage * bytes, weight, s.n0, chunk, full);
        copy_chunks(shared + at.stage * bytes + weights, input, s.row0, chunk, full);
    }
}

// sum (64, TILE) of the block's share of K. Products of few rows take less time than the tensor core's
// latency: then two chains of sums take turns.
template <typename T, int TILE>
__device__ void multiply(float (&sum)[TILE / 2], const linear_arguments &a, const share &s,
                         const unsigned char *shared, barriers *b) {
    constexpr int CHAINS = TILE <= 32 ? 2 : 1;
    float chain[CHAINS][TILE / 2] = {};
    const int weights = a.group * chunk_bytes(TILE_N), bytes = a.group * chunk_bytes(TILE_N + TILE);
    const int groups = (s.count + a.group - 1) / a.group, last_ahead = (min(a.stages, groups) - 1) * a.group;
    ring at;
    for (int done = 0; done < s.count; done += a.group, at.advance(a.stages)) {
        barrier_wait(b->full + at.stage, at.parity);
        if (a.next == NEXT_AFTER_ROWS && done == last_ahead) dependency_trigger();
        const uint64_t w = wgmma_tile(shared + at.stage * bytes),
                       x = wgmma_tile(shared + at.stage * bytes + weights);
        const int count = min(a.group, s.count - done);
        wgmma_fence();
#pragma unroll 1
        for (int i = 0; i < count; i++) {
#pragma unroll
            for (int k = 0; k < CHUNK_K / 16; k++)
                wgmma<T, TILE>(chain[k % CHAINS], w + i * (chunk_bytes(TILE_N) / 16) + 2 * k,
                               x + i * (chunk_bytes(TILE) / 16) + 2 * k);
        }
        wgmma_commit();
        wgmma_wait<0>();
        if (threadIdx.x % WARP == 0) barrier_arrive(b->empty + at.stage);
    }
#pragma unroll
    for (int i = 0; i < TILE / 2; i++)
        sum[i] = CHAINS == 2 ? chain[0][i] + chain[CHAINS - 1][i] : chain[0][i];
}

// The block's sums by rows, (TILE, SUM_STRIDE), in place of the stages, which have been read.
template <int TILE>
__device__ void stage_sums(const float (&sum)[TILE / 2], unsigned char *shared) {
    barrier_sync<MULTIPLIERS * WARP>(1); // the other warps have read the stages, too
    const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    float *own = reinterpret_cast<float *>(shared) + lane % 4 * 2 * SUM_STRIDE + warp * 16 + lane / 4;
#pragma unroll
    for (int j = 0; j < TILE / 8; j++) {
        own[8 * j * SUM_STRIDE] = sum[4 * j];
        own[(8 * j + 1) * SUM_STRIDE] = sum[4 * j + 1];
        own[8 * j * SUM_STRIDE + 8] = sum[4 * j + 2];
        own[(8 * j + 1) * SUM_STRIDE + 8] = sum[4 * j + 3];
    }
}

// Sends the sums of every row to the block that finishes it, by all threads.
template <int TILE>
__device__ void send_sums(const linear_arguments &a, const share &s, int rank, unsigned char *shared,
                          const layout &l, barriers *b) {
    const float *sums = reinterpret_cast<const float *>(shared);
    const uint32_t landing = shared_address(shared + l.landing), landed = shared_address(&b->landed);
    const int c = 4 * (threadIdx.x % SEGMENT_THREADS), rows = min(TILE, a.B - s.row0);
#pragma unroll 2
    for (int row = threadIdx.x / SEGMENT_THREADS; row < rows; row += THREADS / SEGMENT_THREADS) {
        const int owner = row / a.own;
        const uint32_t to =
            landing + ((rank * a.own + row - owner * a.own) * TILE_N + c) * (int)sizeof(float);
        cluster_store(cluster_address(to, owner), load_four(sums + row * SUM_STRIDE + c),
                      cluster_address(landed, owner));
    }
}

// Outputs c .. c + 3 of the block's row i, summed over the cluster's blocks in the order of their ranks.
__device__ inline float4 add_sums(const float *landing, const linear_arguments &a, int i, int c) {
    float4 y = make_float4(0, 0, 0, 0);
#pragma unroll 4
    for (int part = 0; part < a.split; part++) {
        const float4 p = load_four(landing + (part * a.own + i) * TILE_N + c);
        y = make_float4(y.x + p.x, y.y + p.y, y.z + p.z, y.w + p.w);
    }
    return y;
}

// Grid (split, N / 64, row tiles), clusters of `split` along x.
template <typename T, int TILE>
__global__ void __launch_bounds__(THREADS)
    linear_kernel(const __grid_constant__ CUtensorMap weight, const __grid_constant__ CUtensorMap input,
                  const __grid_constant__ CUtensorMap before, const linear_arguments a) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
    extern __shared__ __align__(1024) unsigned char shared[];
    const layout l = lay_out(TILE, a);
    barriers *b = reinterpret_cast<barriers *>(shared + l.barriers);
    const int rank = blockIdx.x, chunks = a.K / CHUNK_K, warp = uniform_warp();
    share s;
    s.n0 = blockIdx.y * TILE_N, s.row0 = blockIdx.z * TILE;
    s.own_row0 = s.row0 + rank * a.own;
    s.finished = min(min(a.own, TILE - rank * a.own), a.B - s.own_row0);
    s.first = rank * chunks / a.split, s.count = (rank + 1) * chunks / a.split - s.first;

    if (threadIdx.x == FEEDER * WARP) {
#    pragma unroll 1
        for (int i = 0; i < a.stages; i++) {
            barrier_init(b->full + i, 1);
            barrier_init(b->empty + i, MULTIPLIERS);
        }
        barrier_init(&b->before, 1);
        barrier_init(&b->landed, 1);
        barrier_init_fence();
        if (s.finished > 0) barrier_expect(&b->landed, a.split * s.finished * TILE_N * (int)sizeof(float));
    }
    if (a.next == NEXT_AT_ONCE) dependency_trigger();
    __syncthreads();
    cluster_arrive(); // the others may send their sums once all have arrived
    if (warp == FEEDER) {
        if (threadIdx.x % WARP == 0) feed<TILE>(&weight, &input, &before, a, s, shared, l, b);
        __syncwarp();
    }
    const int c = 4 * (threadIdx.x % SEGMENT_THREADS);
    float4 folded = make_float4(0, 0, 0, 0), gain = folded;
    const float4 bias = load_four(a.bias + s.n0 + c);
    if (a.stats) folded = load_four(a.sums + s.n0 + c);
    if (a.epilogue == DECODE_RESIDUAL) gain = load_four(a.next_gain + s.n0 + c);
    dependency_wait();
    if (a.next == NEXT_AFTER_WAIT) dependency_trigger();
    row_norm *norms = reinterpret_cast<row_norm *>(shared + l.norms);
    if (warp < MULTIPLIERS) {
        float sum[TILE / 2];
        multiply<T, TILE>(sum, a, s, shared, b);
        stage_sums<TILE>(sum, shared);
    } else if (a.stats && warp >= NORMS) {
#    pragma unroll 1
        for (int i = (threadIdx.x - NORMS * WARP) / NORM_LANES; i < round_up(s.finished, WARP / NORM_LANES);
             i += (THREADS - NORMS * WARP) / NORM_LANES) {
            const int row = min(s.own_row0 + i, a.B - 1); // whole warps
            const row_norm norm = combine_segments<T>(a.stats, a.B, a.K, row, a.epsilon);
            if (i < s.finished && threadIdx.x % NORM_LANES == 0) norms[i] = norm;
        }
    }
    __syncthreads(); // the block's sums and norms are in place
    cluster_wait();
    if (a.split > 1) {
        send_sums<TILE>(a, s, rank, shared, l, b);
        if (s.finished > 0) barrier_wait(&b->landed, 0);
    }
    if (a.epilogue == DECODE_RESIDUAL && s.finished > 0) barrier_wait(&b->before, 0);

    const float *landing = reinterpret_cast<const float *>(shared + l.landing);
#    pragma unroll 1
    for (int i = threadIdx.x / SEGMENT_THREADS; i < s.finished; i += THREADS / SEGMENT_THREADS) {
        const int row = s.own_row0 + i;
        float4 y = a.split > 1 ? add_sums(landing, a, i, c)
                               : load_four(reinterpret_cast<const float *>(shared) + i * SUM_STRIDE + c);
        const row_norm norm = a.stats ? norms[i] : row_norm{1, 0};
        y = make_float4(norm.scale * y.x - norm.shift * folded.x + bias.x,
                        norm.scale * y.y - norm.shift * folded.y + bias.y,
                        norm.scale * y.z - norm.shift * folded.z + bias.z,
                        norm.scale * y.w - norm.shift * folded.w + bias.w);
        if (a.epilogue == DECODE_RESIDUAL) {
            const float4 x = load_four(reinterpret_cast<const float *>(shared + l.before) + i * TILE_N + c);
            y = make_float4(x.x + y.x, x.y + y.y, x.z + y.z, x.w + y.w);
            store_deferred<T>(a.residual, a.B, a.N, row, s.n0 + c, y, gain);
            continue;
        }
        if (a.epilogue == DECODE_GELU)
            y = make_float4(gelu_tanh(y.x), gelu_tanh(y.y), gelu_tanh(y.z), gelu_tanh(y.w));
        *reinterpret_cast<uint2 *>(static_cast<T *>(a.out) + (size_t)row * a.N + s.n0 + c) =
            make_uint2(pack_pair<T>(y.x, y.y), pack_pair<T>(y.z, y.w));
    }
#endif
}

// ---- launch

template <typename T, int TILE>
static cudaError_t launch(const decode_linear_args &args, linear_arguments a, const decode_cut &c,
                          cudaStream_t stream) {
    CUtensorMap weight, input, before = {};
    cudaError_t code = tensor_map_chunks(&weight, args.dtype, args.weight, args.N, args.K, TILE_N, c.group);
    if (code != cudaSuccess) return code;
    code = tensor_map_chunks(&input, args.dtype, args.input, args.B, args.K, TILE, c.group);
    if (code != cudaSuccess) return code;
    if (args.epilogue == DECODE_RESIDUAL) {
        code = tensor_map_f32(&before, args.residual.x, args.B, args.N, c.own, TILE_N);
        if (code != cudaSuccess) return code;
    }
    const int bytes = lay_out(TILE, a).bytes;
    code = cudaFuncSetAttribute(linear_kernel<T, TILE>, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
    if (code != cudaSuccess) return code;
    return launch_dependent(linear_kernel<T, TILE>, dim3(c.split, args.N / TILE_N, c.tiles), dim3(THREADS),
                            (size_t)bytes, c.split, stream, weight, input, before, a);
}

template <typename T>
static cudaError_t dispatch(const decode_linear_args &args, const linear_arguments &a, const decode_cut &c,
                            cudaStream_t stream) {
    switch (c.tile) {
    case 16:
        return launch<T, 16>(args, a, c, stream);
    case 32:
        return launch<T, 32>(args, a, c, stream);
    case 48:
        return launch<T, 48>(args, a, c, stream);
    case 64:
        return launch<T, 64>(args, a, c, stream);
    case 96:
        return launch<T, 96>(args, a, c, stream);
    default:
        return launch<T, 128>(args, a, c, stream);
    }
}

} // namespace decode_linear

using namespace decode_linear;

bool decode_device_supported(void) {
    const auto kernel = linear_kernel<__nv_bfloat16, 128>;
    const size_t bytes = 128 << 10; // more than any cut takes
    int device = 0, blocks = 0, major = 0, minor = 0;
    cudaFuncAttributes code = {};
    cudaLaunchAttribute cluster = {};
    cluster.id = cudaLaunchAttributeClusterDimension;
    cluster.val.clusterDim = {DECODE_SPLIT, 1, 1};
    cudaLaunchConfig_t config = {};
    config.gridDim = dim3(DECODE_SPLIT);
    config.blockDim = dim3(THREADS);
    config.dynamicSmemBytes = bytes;
    config.attrs = &cluster;
    config.numAttrs = 1;
    const bool supported =
        cudaGetDevice(&device) == cudaSuccess &&
        cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) == cudaSuccess &&
        cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device) == cudaSuccess &&
        major == 9 && minor == 0 && cudaFuncGetAttributes(&code, kernel) == cudaSuccess &&
        code.ptxVersion >= 90 && // else an older architecture's code, in which the kernels are empty
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)bytes) ==
            cudaSuccess &&
        cudaOccupancyMaxActiveClusters(&blocks, kernel, &config) == cudaSuccess && blocks > 0;
    cudaGetLastError(); // an answer, not an error
    return supported;
}

bool decode_linear_supports(enum dtype dtype, int N, int K) {
    return dtype != DTYPE_F32 && N > 0 && K > 0 && N % TILE_N == 0 && K % CHUNK_K == 0 &&
           decode_device_supported();
}

cudaError_t decode_linear_run(const struct decode_linear_args *args, cudaStream_t stream) {
    const decode_cut c = decode_cut_choose(args->B, args->N, args->K);
    const linear_arguments a = {args->bias, args->sums, args->next_gain, args->stats, args->epsilon,  args->B,
                                args->N,    args->K,    args->epilogue,  args->out,   args->residual, c.group,
                                c.stages,   c.split,    c.own,           args->next};
    return args->dtype == DTYPE_BF16 ? dispatch<__nv_bfloat16>(*args, a, c, stream)
                                     : dispatch<__half>(*args, a, c, stream);
}
