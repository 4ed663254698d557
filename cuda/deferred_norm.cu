#include "cuda/deferred_norm.cuh"

namespace {

constexpr int FOLD_WARPS = 8;

// One warp per output.
template <typename T>
__global__ void fold_kernel(const T *weight, const T *bias, const float *gain, const float *offset, int N,
                            int K, float *sums, float *biases) {
    const int n = blockIdx.x * FOLD_WARPS + threadIdx.x / WARP, lane = threadIdx.x % WARP;
    if (n >= N) return;
    float sum = 0, moved = 0;
    for (int k = lane; k < K; k += WARP) {
        const float w = static_cast<float>(weight[(size_t)n * K + k]);
        sum += w * gain[k];
        moved += w * offset[k];
    }
    sum = warp_sum(sum);
    moved = warp_sum(moved);
    if (lane != 0) return;
    sums[n] = sum;
    biases[n] = moved + (bias ? static_cast<float>(bias[n]) : 0.0f);
}

// One block per row, four channels per thread.
template <typename T>
__global__ void embed_kernel(deferred_embedding e) {
    const int b = blockIdx.x, length = e.lengths[b];
    const int token = length > 0 ? e.tokens[(size_t)b * e.max_tokens + length - 1] : -1;
    embed_deferred<T>(e.rows, e.B, e.C, b, token, length - 1, e.gain, static_cast<const T *>(e.wte),
                      static_cast<const T *>(e.wpe));
}

// One block per row, four channels per thread.
template <typename T>
__global__ void prepare_kernel(deferred_rows rows, const float *gain, int C) {
    const int b = blockIdx.x, c = 4 * threadIdx.x;
    const float4 x = load_four(rows.x + (size_t)b * C + c);
    store_deferred<T>(rows, gridDim.x, C, b, c, x, load_four(gain + c));
}

template <typename T>
cudaError_t fold(const void *weight, const void *bias, const float *gain, const float *offset, int N, int K,
                 float *sums, float *biases, cudaStream_t stream) {
    fold_kernel<<<divide_up(N, FOLD_WARPS), FOLD_WARPS * WARP, 0, stream>>>(
        static_cast<const T *>(weight), static_cast<const T *>(bias), gain, offset, N, K, sums, biases);
    return cudaGetLastError();
}

} // namespace

cudaError_t deferred_norm_fold(enum dtype dtype, const void *weight, const void *bias, const float *gain,
                               const float *offset, int N, int K, float *sums, float *biases,
                               cudaStream_t stream) {
    return dtype == DTYPE_BF16 ? fold<__nv_bfloat16>(weight, bias, gain, offset, N, K, sums, biases, stream)
                               : fold<__half>(weight, bias, gain, offset, N, K, sums, biases, stream);
}

cudaError_t deferred_embed(const struct deferred_embedding *e, cudaStream_t stream) {
    if (e->dtype == DTYPE_BF16)
        embed_kernel<__nv_bfloat16><<<e->B, e->C / 4, 0, stream>>>(*e);
    else
        embed_kernel<__half><<<e->B, e->C / 4, 0, stream>>>(*e);
    return cudaGetLastError();
}

cudaError_t deferred_prepare(enum dtype dtype, const struct deferred_rows *rows, const float *gain, int B,
                             int C, cudaStream_t stream) {
    if (dtype == DTYPE_BF16)
        prepare_kernel<__nv_bfloat16><<<B, C / 4, 0, stream>>>(*rows, gain, C);
    else
        prepare_kernel<__half><<<B, C / 4, 0, stream>>>(*rows, gain, C);
    return cudaGetLastError();
}
