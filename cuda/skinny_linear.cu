// Linear layers of up to 16 rows: see skinny.h.
#include "cuda/skinny.cuh"

namespace {

constexpr int MAX_WARPS = 20, MAX_WARPS_NORM = 10;

template <typename T>
__device__ inline float to_float(T value) {
    return static_cast<float>(value);
}

struct linear_arguments {
    const void *x, *weight, *bias;
    void *out;
    const float *gain, *offset; // of the norm
    float epsilon;
    int B, N, K;
    skinny_epilogue epilogue;
};

// This lane's 16 bytes of row `row` at k: of the normalised rows in shared memory, or of x itself.
template <typename T, bool NORM>
__device__ inline uint4 load_operand(const linear_arguments &a, const T *normalised, int row, int k) {
    if constexpr (NORM) {
        return *reinterpret_cast<const uint4 *>(normalised + row * skinny_row_stride(a.K) + k);
    } else {
        if (row >= a.B) return make_uint4(0, 0, 0, 0);
        return __ldcg(reinterpret_cast<const uint4 *>(static_cast<const T *>(a.x) + (size_t)row * a.K + k));
    }
}

// One output (b, n) from the sum over K, its bias and what the output held before (f32 residual only).
template <typename T>
__device__ inline void finish(const linear_arguments &a, int b, int n, float sum, float bias, float before) {
    const size_t at = (size_t)b * a.N + n;
    float y = sum + bias;
    if (a.epilogue == SKINNY_RESIDUAL) {
        static_cast<float *>(a.out)[at] = before + y;
    } else {
        static_cast<T *>(a.out)[at] = static_cast<T>(a.epilogue == SKINNY_GELU ? skinny_gelu(y) : y);
    }
}

// blockDim = 32 warps, K = warps * BLOCKS * 32, a block owns TILES * 8 outputs.
// Shared memory: partial sums (warps, rows, TILES * 8) f32, then with NORM its weight and bias (2 K) f32 and
// the normalised rows (rows, K + 32) of T.
template <typename T, int BLOCKS, int TILES, int ROWS, bool NORM>
__global__ void __launch_bounds__(NORM ? 32 * MAX_WARPS_NORM : 32 * MAX_WARPS)
    linear_kernel(linear_arguments a) {
    extern __shared__ __align__(16) float shared[];
    constexpr int WIDTH = TILES * 8;
    constexpr bool WIDE = ROWS > 8;
    const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, warps = blockDim.x / WARP;
    const int g = lane / 4, t = lane % 4, n0 = blockIdx.x * WIDTH;
    const bool residual = a.epilogue == SKINNY_RESIDUAL;
    const int k0 = warp * BLOCKS * SKINNY_BLOCK_K + t * SKINNY_LANE_K;
    float *norm = shared + warps * ROWS * WIDTH;
    T *normalised = reinterpret_cast<T *>(norm + 2 * a.K);

    dependency_trigger();
    uint4 w[TILES][BLOCKS];
    const T *weight = static_cast<const T *>(a.weight) + (size_t)(n0 + g) * a.K + k0;
#pragma unroll
    for (int tile = 0; tile < TILES; tile++) {
#pragma unroll
        for (int j = 0; j < BLOCKS; j++)
            w[tile][j] = load_streaming(weight + (size_t)tile * 8 * a.K + j * SKINNY_BLOCK_K);
    }
    if constexpr (NORM) stage_norm(norm, a.gain, a.offset, a.K);
    // A thread's first output is also its only one up to 10 rows.
    const int outputs = a.B * WIDTH, first = threadIdx.x;
    const int own_n = n0 + first % WIDTH;
    float bias = residual ? static_cast<const float *>(a.bias)[own_n]
                          : static_cast<float>(static_cast<const T *>(a.bias)[own_n]);
    __syncthreads(); // the norm is in place
    dependency_wait();

    float before = 0;
    if (residual && first < outputs)
        before = __ldcg(static_cast<const float *>(a.out) + (size_t)(first / WIDTH) * a.N + own_n);
    if constexpr (NORM) {
        constexpr int VECTORS = divide_up(BLOCKS * SKINNY_BLOCK_K * MAX_WARPS_NORM, 4 * WARP);
        normalise_rows<T, VECTORS>(normalised, static_cast<const float *>(a.x), norm, norm + a.K, a.epsilon,
                                   a.B, a.K);
    }
    float sum[TILES][4] = {};
#pragma unroll
    for (int j = 0; j < BLOCKS; j++) {
        const int k = k0 + j * SKINNY_BLOCK_K;
        const uint4 low = load_operand<T, NORM>(a, normalised, g, k);
        uint4 high = make_uint4(0, 0, 0, 0);
        if constexpr (WIDE) high = load_operand<T, NORM>(a, normalised, g + 8, k);
        const skinny_fragment x = {{low.x, low.y, low.z, low.w}, {high.x, high.y, high.z, high.w}};
#pragma unroll
        for (int tile = 0; tile < TILES; tile++) multiply<T>(sum[tile], x, w[tile][j]);
    }
#pragma unroll
    for (int tile = 0; tile < TILES; tile++) {
        float *row = shared + (warp * ROWS + g) * WIDTH + tile * 8 + 2 * t;
        *reinterpret_cast<float2 *>(row) = make_float2(sum[tile][0], sum[tile][1]);
        if constexpr (WIDE)
            *reinterpret_cast<float2 *>(row + 8 * WIDTH) = make_float2(sum[tile][2], sum[tile][3]);
    }
    __syncthreads();
    for (int i = first; i < outputs; i += blockDim.x) {
        const int b = i / WIDTH, n = i % WIDTH;
        if (i != first) { // blockDim is a multiple of 32, WIDTH need not divide it
            bias = residual ? static_cast<const float *>(a.bias)[n0 + n]
                            : static_cast<float>(static_cast<const T *>(a.bias)[n0 + n]);
            if (residual) before = __ldcg(static_cast<const float *>(a.out) + (size_t)b * a.N + n0 + n);
        }
        float total = 0;
#pragma unroll 4
        for (int other = 0; other < warps; other++) total += shared[(other * ROWS + b) * WIDTH + n];
        finish<T>(a, b, n0 + n, total, bias, before);
    }
}

// How K is cut: `blocks` loads per lane and tile, K / (32 blocks) warps.
struct cut {
    int blocks, warps;
};

// The fewest loads per lane that keep a block small enough for several to share a multiprocessor.
cut choose_cut(int K, bool norm) {
    static const int with_norm[] = {1, 3, 4, 5, 0}, without[] = {1, 3, 4, 5, 6, 8, 10, 0};
    const int most_warps = K <= 2048 ? MAX_WARPS_NORM : MAX_WARPS;
    if (K <= 0 || K % SKINNY_BLOCK_K != 0 || (norm && K > 2048)) return {0, 0};
    for (const int *blocks = norm ? with_norm : without; *blocks; blocks++) {
        int warps = K / SKINNY_BLOCK_K / *blocks;
        if (K / SKINNY_BLOCK_K % *blocks == 0 && warps <= most_warps) return {*blocks, warps};
    }
    return {0, 0};
}

template <typename T, int BLOCKS, int TILES, bool NORM>
cudaError_t launch_linear(const linear_arguments &a, int warps, cudaStream_t stream) {
    const int rows = a.B > 8 ? 16 : 8; // of the sums and the operand; those behind B are ignored
    const size_t sum_bytes = sizeof(float) * warps * rows * TILES * 8;
    const size_t norm_bytes = NORM ? sizeof(float) * 2 * a.K + sizeof(T) * rows * skinny_row_stride(a.K) : 0;
    auto kernel =
        a.B > 8 ? linear_kernel<T, BLOCKS, TILES, 16, NORM> : linear_kernel<T, BLOCKS, TILES, 8, NORM>;
    cudaError_t code = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                            (int)(sum_bytes + norm_bytes));
    if (code != cudaSuccess) return code;
    return launch_dependent(kernel, dim3(a.N / (TILES * 8)), dim3(32 * warps), sum_bytes + norm_bytes, 1,
                            stream, a);
}

// Three tiles a block where that divides the outputs: fewer blocks ask for the same x.
template <typename T, int BLOCKS>
cudaError_t launch_norm(const linear_arguments &a, int warps, cudaStream_t stream) {
    return a.N % 24 == 0 ? launch_linear<T, BLOCKS, 3, true>(a, warps, stream)
                         : launch_linear<T, BLOCKS, 2, true>(a, warps, stream);
}

template <typename T>
cudaError_t dispatch_linear(const linear_arguments &a, bool norm, cudaStream_t stream) {
    const cut c = choose_cut(a.K, norm);
    if (norm) {
        switch (c.blocks) {
        case 1:
            return launch_norm<T, 1>(a, c.warps, stream);
        case 3:
            return launch_norm<T, 3>(a, c.warps, stream);
        case 4:
            return launch_norm<T, 4>(a, c.warps, stream);
        case 5:
            return launch_norm<T, 5>(a, c.warps, stream);
        }
    } else {
        switch (c.blocks) {
        case 1:
            return launch_linear<T, 1, 1, false>(a, c.warps, stream);
        case 3:
            return launch_linear<T, 3, 1, false>(a, c.warps, stream);
        case 4:
            return launch_linear<T, 4, 1, false>(a, c.warps, stream);
        case 5:
            return launch_linear<T, 5, 1, false>(a, c.warps, stream);
        case 6:
            return launch_linear<T, 6, 1, false>(a, c.warps, stream);
        case 8:
            return launch_linear<T, 8, 1, false>(a, c.warps, stream);
        case 10:
            return launch_linear<T, 10, 1, false>(a, c.warps, stream);
        }
    }
    return cudaErrorInvalidValue;
}

} // namespace

bool skinny_supports(enum dtype dtype, int B, int N, int K, bool norm) {
    return dtype != DTYPE_F32 && B >= 1 && B <= SKINNY_MAX_ROWS && N > 0 && N % 16 == 0 &&
           choose_cut(K, norm).blocks > 0 && skinny_device_is_supported();
}

cudaError_t skinny_run(const struct skinny_args *args, cudaStream_t stream) {
    const bool norm = args->norm.weight != nullptr;
    linear_arguments a = {args->x,           args->weight,    args->bias,         args->out,
                          args->norm.weight, args->norm.bias, args->norm.epsilon, args->B,
                          args->N,           args->K,         args->epilogue};
    return args->dtype == DTYPE_BF16 ? dispatch_linear<__nv_bfloat16>(a, norm, stream)
                                     : dispatch_linear<__half>(a, norm, stream);
}
