// LayerNorm of f32 rows into the element type; a row stays in registers between its two reductions.
#include "cuda/device.cuh"
#include "cuda/launch.cuh"
#include "cuda/pointwise.h"

constexpr int MAX_WARPS = 32;
constexpr int PASSES = 4; // vectors of a row that one thread keeps

// The sum over the block's threads, for every thread.
__device__ static float block_sum(float value, float *of_warp) {
    value = warp_sum(value);
    if (threadIdx.x % WARP == 0) of_warp[threadIdx.x / WARP] = value;
    __syncthreads();
    value = of_warp[0];
    for (int w = 1; w < static_cast<int>(blockDim.x) / WARP; w++) value += of_warp[w];
    return value;
}

// One block per row, C <= PASSES * WIDTH * threads.
template <typename T, int WIDTH>
__global__ void __launch_bounds__(MAX_WARPS *WARP)
    layernorm_kernel(T *out, const float *x, const int32_t *index, const float *weight, const float *bias,
                     float epsilon, int C) {
    using vector = vec<float, WIDTH>;
    __shared__ float sums[2][MAX_WARPS];
    dependency_trigger();
    dependency_wait();
    int64_t n = blockIdx.x;
    int from = index ? index[n] : static_cast<int>(n);
    const float *row = x + static_cast<int64_t>(max(from, 0)) * C;
    int stride = static_cast<int>(blockDim.x) * WIDTH, first = static_cast<int>(threadIdx.x) * WIDTH;

    vector value[PASSES];
    float sum = 0;
#pragma unroll
    for (int p = 0; p < PASSES; p++) {
        int c = first + p * stride;
        value[p] = c < C ? load_fresh(reinterpret_cast<const vector *>(row + c)) : vector{};
#pragma unroll
        for (int i = 0; i < WIDTH; i++) sum += value[p].at[i];
    }
    float mean = block_sum(sum, sums[0]) / static_cast<float>(C);
    float squares = 0;
#pragma unroll
    for (int p = 0; p < PASSES; p++) {
        if (first + p * stride >= C) break;
#pragma unroll
        for (int i = 0; i < WIDTH; i++) {
            float deviation = value[p].at[i] - mean;
            squares += deviation * deviation;
        }
    }
    float scale = 1 / sqrtf(block_sum(squares, sums[1]) / static_cast<float>(C) + epsilon);

#pragma unroll
    for (int p = 0; p < PASSES; p++) {
        int c = first + p * stride;
        if (c >= C) break;
        vector w = *reinterpret_cast<const vector *>(weight + c),
               b = *reinterpret_cast<const vector *>(bias + c);
        vec<T, WIDTH> result;
#pragma unroll
        for (int i = 0; i < WIDTH; i++) {
            float normal = (value[p].at[i] - mean) * scale * w.at[i] + b.at[i];
            result.at[i] = static_cast<T>(from < 0 ? 0 : normal);
        }
        *reinterpret_cast<vec<T, WIDTH> *>(out + n * C + c) = result;
    }
}

template <typename T, int WIDTH>
static cudaError_t launch(T *out, const float *x, const int32_t *index, const float *weight,
                          const float *bias, float epsilon, int N, int C, cudaStream_t stream) {
    int warps = divide_up(C, WIDTH * WARP); // one vector per thread where the block may be that large
    if (warps > MAX_WARPS) warps = MAX_WARPS;
    if (C > PASSES * WIDTH * WARP * warps) return cudaErrorInvalidValue;
    return launch_dependent(layernorm_kernel<T, WIDTH>, dim3(N), dim3(warps * WARP), 0, 1, stream, out, x,
                            index, weight, bias, epsilon, C);
}

cudaError_t layernorm_run(enum dtype dtype, void *out, const float *x, const int32_t *index,
                          const float *weight, const float *bias, float epsilon, int N, int C,
                          cudaStream_t stream) {
    return with_element(dtype, [&](auto zero) {
        using T = decltype(zero);
        T *typed = static_cast<T *>(out);
        bool wide = C % 4 == 0 && is_aligned_16(out) && is_aligned_16(x) && is_aligned_16(weight) &&
                    is_aligned_16(bias);
        if (wide) return launch<T, 4>(typed, x, index, weight, bias, epsilon, N, C, stream);
        return launch<T, 1>(typed, x, index, weight, bias, epsilon, N, C, stream);
    });
}
