// The LM head of up to 16 rows with the argmax inside: see skinny.h.
#include "cuda/skinny.cuh"

namespace {

// -------------------------------------------------------------------------------------------------

constexpr int HEAD_WARPS = 8;
constexpr int HEAD_VECTORS = 13; // K <= 1664
constexpr int HEAD_DEPTH = 16;   // loads of 512 bytes each warp keeps in flight

struct head_arguments {
    const float *x;
    const void *weight;
    const float *gain, *offset;
    float epsilon;
    int B, V, K;
    float *logits;
    int ld;
    int2 *partial;
};

struct best {
    float value;
    int id;
};
__device__ inline best better(best a, best b) {
    return b.value > a.value || (b.value == a.value && b.id < a.id) ? b : a;
}

// A warp's stream of weight loads: tile after tile of 8 rows, within a tile block after block of 32 k.
// Lanes read back only what they copied themselves, so their own wait is enough.
template <typename T>
struct head_stream {
    const T *weight; // of this lane in tile 0
    uint4 *ring;     // (HEAD_DEPTH) of this lane, 32 apart
    size_t tile_stride;
    int tile, step, last_tile, block, blocks; // where the next load comes from
    int slot;

    __device__ inline void issue() {
        if (tile < last_tile) {
            copy_async_16(ring + slot * 32, weight + (size_t)tile * tile_stride + block * SKINNY_BLOCK_K,
                          true);
            if (++block == blocks) block = 0, tile += step;
        }
        copy_async_commit(); // an empty group at the end keeps the count in step
        slot = (slot + 1) % HEAD_DEPTH;
    }
};

// Tiles of 8 vocabulary rows are dealt round robin to all warps of the grid.
// Shared memory: rings (warps, HEAD_DEPTH, 32) uint4, the norm's weight and bias (2 K) f32, normalised rows
// (rows, K + 32) of T.
template <typename T, bool WIDE>
__global__ void __launch_bounds__(HEAD_WARPS * 32) head_kernel(head_arguments a) {
    extern __shared__ __align__(16) uint4 head_shared[];
    __shared__ best block_best[SKINNY_MAX_ROWS][HEAD_WARPS];
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    const int tiles = (a.V + 7) / 8, blocks = a.K / SKINNY_BLOCK_K, x_stride = skinny_row_stride(a.K);
    float *norm = reinterpret_cast<float *>(head_shared + HEAD_WARPS * HEAD_DEPTH * 32);
    T *x = reinterpret_cast<T *>(norm + 2 * a.K);

    dependency_trigger();
    head_stream<T> stream;
    stream.weight = static_cast<const T *>(a.weight) + (size_t)g * a.K + t * SKINNY_LANE_K;
    stream.ring = head_shared + warp * HEAD_DEPTH * 32 + lane;
    stream.tile_stride = (size_t)8 * a.K;
    stream.tile = blockIdx.x * HEAD_WARPS + warp;
    stream.step = gridDim.x * HEAD_WARPS;
    stream.last_tile = tiles;
    stream.block = 0, stream.blocks = blocks, stream.slot = 0;
#pragma unroll
    for (int i = 0; i < HEAD_DEPTH; i++) stream.issue();
    stage_norm(norm, a.gain, a.offset, a.K);
    __syncthreads();
    dependency_wait();

    normalise_rows<T, HEAD_VECTORS>(x, a.x, norm, norm + a.K, a.epsilon, a.B, a.K);

    best found[2] = {{-INFINITY, a.V}, {-INFINITY, a.V}}; // of rows g and g + 8
    const T *low_row = x + g * x_stride + t * SKINNY_LANE_K, *high_row = low_row + 8 * x_stride;
    int read = 0;
    for (int tile = blockIdx.x * HEAD_WARPS + warp; tile < tiles; tile += gridDim.x * HEAD_WARPS) {
        float sum[2][4] = {};
        for (int pair = 0; pair < blocks; pair += 2) { // K is a multiple of 64
#pragma unroll
            for (int i = 0; i < 2; i++) { // two chains of products
                const int k = (pair + i) * SKINNY_BLOCK_K;
                copy_async_wait<HEAD_DEPTH - 1>();
                uint4 w = stream.ring[read * 32];
                read = (read + 1) % HEAD_DEPTH;
                uint4 low = *reinterpret_cast<const uint4 *>(low_row + k), high = make_uint4(0, 0, 0, 0);
                if constexpr (WIDE) high = *reinterpret_cast<const uint4 *>(high_row + k);
                multiply<T>(sum[i], {{low.x, low.y, low.z, low.w}, {high.x, high.y, high.z, high.w}}, w);
                stream.issue();
            }
        }
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const int id = tile * 8 + 2 * t + i % 2, row = g + 8 * (i / 2);
            const float value = sum[0][i] + sum[1][i];
            if (id >= a.V) continue;
            if (a.logits && row < a.B) a.logits[(size_t)row * a.ld + id] = value;
            if (value > found[i / 2].value) found[i / 2] = {value, id}; // ids rise: the first of equals stays
        }
    }
#pragma unroll
    for (int half = 0; half < 2; half++) {
#pragma unroll
        for (int step = 1; step < 4; step *= 2) {
            best other = {__shfl_xor_sync(FULL_WARP, found[half].value, step),
                          __shfl_xor_sync(FULL_WARP, found[half].id, step)};
            found[half] = better(found[half], other);
        }
        if (t == 0) block_best[g + 8 * half][warp] = found[half];
    }
    __syncthreads();
    if (threadIdx.x < a.B) {
        best winner = block_best[threadIdx.x][0];
        for (int w = 1; w < HEAD_WARPS; w++) winner = better(winner, block_best[threadIdx.x][w]);
        a.partial[(size_t)threadIdx.x * gridDim.x + blockIdx.x] =
            make_int2(__float_as_int(winner.value), winner.id);
    }
}

size_t head_shared_bytes(int B, int K) {
    const int rows = B > 8 ? 16 : 8;
    return sizeof(uint4) * HEAD_WARPS * HEAD_DEPTH * 32 + sizeof(float) * 2 * K +
           (size_t)rows * skinny_row_stride(K) * 2;
}

template <typename T>
cudaError_t launch_head(const head_arguments &a, cudaStream_t stream) {
    auto kernel = a.B > 8 ? head_kernel<T, true> : head_kernel<T, false>;
    const size_t bytes = head_shared_bytes(a.B, a.K);
    cudaError_t code = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)bytes);
    if (code != cudaSuccess) return code;
    return launch_dependent(kernel, dim3(skinny_head_blocks()), dim3(HEAD_WARPS * 32), bytes, 1, stream, a);
}

// One warp per row.
__global__ void head_finish_kernel(const int2 *partial, int count, int V, int32_t *tokens, int max_tokens,
                                   int32_t *lengths) {
    dependency_wait();
    const int b = blockIdx.x, lane = threadIdx.x;
    best winner = {-INFINITY, V};
    for (int i = lane; i < count; i += 32) {
        int2 pair = __ldcg(partial + (size_t)b * count + i);
        winner = better(winner, {__int_as_float(pair.x), pair.y});
    }
    for (int step = 16; step > 0; step /= 2)
        winner = better(winner, {__shfl_xor_sync(FULL_WARP, winner.value, step),
                                 __shfl_xor_sync(FULL_WARP, winner.id, step)});
    const int length = lengths[b];
    if (lane != 0 || length <= 0 || length >= max_tokens) return;
    tokens[(size_t)b * max_tokens + length] = winner.id < V ? winner.id : 0; // all NaN: still an id
    lengths[b] = length + 1;
}

} // namespace

bool skinny_head_supports(enum dtype dtype, int B, int K) {
    return dtype != DTYPE_F32 && B >= 1 && B <= SKINNY_MAX_ROWS && K % 64 == 0 &&
           K <= 4 * WARP * HEAD_VECTORS && skinny_device_is_supported() &&
           (int)head_shared_bytes(B, K) <= skinny_device_attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin);
}

int skinny_head_blocks(void) {
    return 2 * skinny_device_attribute(cudaDevAttrMultiProcessorCount);
}

cudaError_t skinny_head_run(const struct skinny_head_args *args, cudaStream_t stream) {
    head_arguments a = {args->x,      args->weight, args->norm.weight, args->norm.bias, args->norm.epsilon,
                        args->B,      args->V,      args->K,           args->logits,    args->ld,
                        args->partial};
    return args->dtype == DTYPE_BF16 ? launch_head<__nv_bfloat16>(a, stream) : launch_head<__half>(a, stream);
}

cudaError_t skinny_head_finish(const int2 *partial, int B, int V, int32_t *tokens, int max_tokens,
                               int32_t *lengths, cudaStream_t stream) {
    return launch_dependent(head_finish_kernel, dim3(B), dim3(32), 0, 1, stream, partial,
                            skinny_head_blocks(), V, tokens, max_tokens, lengths);
}
