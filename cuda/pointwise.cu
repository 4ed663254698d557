#include "cuda/pointwise.h"

#include "cuda/device.cuh"
#include "cuda/launch.cuh"

constexpr int THREADS = 256;

static unsigned blocks_for(int64_t threads) {
    return static_cast<unsigned>((threads + THREADS - 1) / THREADS);
}

__device__ inline int64_t global_thread() {
    return static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}

// ---- packing

// The sum of `value` over the block's threads before this one; *total is that over all of them.
__device__ static int block_exclusive_sum(int value, int *total) {
    __shared__ int of_warp[WARP];
    int lane = static_cast<int>(threadIdx.x) % WARP, warp = static_cast<int>(threadIdx.x) / WARP;
    int sum = value;
#pragma unroll
    for (int stride = 1; stride < WARP; stride *= 2) {
        int below = __shfl_up_sync(FULL_WARP, sum, stride);
        if (lane >= stride) sum += below;
    }
    __syncthreads(); // the previous call's sums have been read
    if (lane == WARP - 1) of_warp[warp] = sum;
    __syncthreads();
    int before = 0;
    *total = 0;
    for (int w = 0; w < static_cast<int>(blockDim.x) / WARP; w++) {
        if (w < warp) before += of_warp[w];
        *total += of_warp[w];
    }
    return before + sum - value;
}

__global__ void layout_kernel(const int32_t *lengths, int count, int32_t *starts, int32_t *last) {
    int base = 0;
    for (int first = 0; first < count; first += THREADS) {
        int i = first + static_cast<int>(threadIdx.x);
        int length = i < count ? lengths[i] : 0;
        int total, start = base + block_exclusive_sum(length, &total);
        if (i < count) {
            starts[i] = start;
            last[i] = length > 0 ? start + length - 1 : -1;
        }
        base += total;
    }
    if (threadIdx.x == 0) starts[count] = base;
}

cudaError_t pack_layout(const int32_t *lengths, int count, int32_t *starts, int32_t *last,
                        cudaStream_t stream) {
    layout_kernel<<<1, THREADS, 0, stream>>>(lengths, count, starts, last);
    return cudaGetLastError();
}

__global__ void enter_kernel(const int32_t *packed, const int32_t *starts, const int32_t *rows,
                             const uint64_t *prompt_requests, int32_t *tokens, int max_tokens,
                             int32_t *lengths, uint64_t *requests) {
    int i = static_cast<int>(blockIdx.x), row = rows ? rows[i] : i;
    int start = starts[i], length = starts[i + 1] - start;
    for (int t = static_cast<int>(threadIdx.x); t < length; t += THREADS)
        tokens[static_cast<int64_t>(row) * max_tokens + t] = packed[start + t];
    if (threadIdx.x == 0) {
        lengths[row] = length;
        requests[row] = prompt_requests[i];
    }
}

cudaError_t prompts_enter(const int32_t *packed, const int32_t *starts, const int32_t *rows,
                          const uint64_t *prompt_requests, int count, int32_t *tokens, int max_tokens,
                          int32_t *lengths, uint64_t *requests, cudaStream_t stream) {
    enter_kernel<<<count, THREADS, 0, stream>>>(packed, starts, rows, prompt_requests, tokens, max_tokens,
                                                lengths, requests);
    return cudaGetLastError();
}

__global__ void collect_kernel(const int32_t *tokens, int max_tokens, const int32_t *lengths, int B,
                               int steps, int32_t *out) {
    int64_t i = global_thread();
    if (i >= static_cast<int64_t>(steps) * B) return;
    int step = static_cast<int>(i / B), row = static_cast<int>(i % B);
    int t = lengths[row] - steps + step;
    out[i] = lengths[row] > 0 && t >= 0 ? tokens[static_cast<int64_t>(row) * max_tokens + t] : -1;
}

cudaError_t tokens_collect(const int32_t *tokens, int max_tokens, const int32_t *lengths, int B, int steps,
                           int32_t *out, cudaStream_t stream) {
    collect_kernel<<<blocks_for(static_cast<int64_t>(steps) * B), THREADS, 0, stream>>>(
        tokens, max_tokens, lengths, B, steps, out);
    return cudaGetLastError();
}

// The row that holds packed token n: the last one that starts at or before it; rows of length 0 share their
// start with their successor and are passed over. n < starts[count].
__device__ static int packed_row(const int32_t *starts, int count, int n) {
    int low = 0, high = count; // starts[low] <= n < starts[high]
    while (high - low > 1) {
        int middle = (low + high) / 2;
        if (starts[middle] <= n)
            low = middle;
        else
            high = middle;
    }
    return low;
}

// ---- embedding

template <typename T, int WIDTH>
__device__ void embed_token(float *x, const T *wte, const T *wpe, int token, int position, int C) {
    const T *token_row = wte + static_cast<int64_t>(token) * C,
            *position_row = wpe + static_cast<int64_t>(position) * C;
    for (int c = static_cast<int>(threadIdx.x) * WIDTH; c < C; c += static_cast<int>(blockDim.x) * WIDTH) {
        vec<T, WIDTH> a = *reinterpret_cast<const vec<T, WIDTH> *>(token_row + c);
        vec<T, WIDTH> b = *reinterpret_cast<const vec<T, WIDTH> *>(position_row + c);
        vec<float, WIDTH> sum;
#pragma unroll
        for (int i = 0; i < WIDTH; i++) sum.at[i] = static_cast<float>(a.at[i]) + static_cast<float>(b.at[i]);
        *reinterpret_cast<vec<float, WIDTH> *>(x + c) = sum;
    }
}

// One block per token. With starts: packed rows; without: the newest token of row blockIdx.x.
template <typename T, int WIDTH>
__global__ void embed_kernel(float *x, const T *wte, const T *wpe, const int32_t *tokens, int max_tokens,
                             const int32_t *starts, const int32_t *rows, int count, const int32_t *lengths,
                             int C) {
    dependency_trigger();
    int n = static_cast<int>(blockIdx.x), row = n, position = -1;
    if (starts) {
        if (n < starts[count]) {
            int i = packed_row(starts, count, n);
            row = rows ? rows[i] : i;
            position = n - starts[i];
        }
    } else {
        position = lengths[row] - 1;
    }
    x += static_cast<int64_t>(n) * C;
    if (position < 0) { // padding, or a free row
        for (int c = static_cast<int>(threadIdx.x); c < C; c += static_cast<int>(blockDim.x)) x[c] = 0;
        return;
    }
    int token = tokens[static_cast<int64_t>(row) * max_tokens + position];
    embed_token<T, WIDTH>(x, wte, wpe, token, position, C);
}

static cudaError_t embed(enum dtype dtype, float *x, const void *wte, const void *wpe, const int32_t *tokens,
                         int max_tokens, const int32_t *starts, const int32_t *rows, int count,
                         const int32_t *lengths, int N, int C, cudaStream_t stream) {
    return with_element(dtype, [&](auto zero) {
        using T = decltype(zero);
        bool wide = C % 4 == 0 && is_aligned_16(x) && is_aligned_16(wte) && is_aligned_16(wpe);
        int threads = wide && C <= 1024 ? 128 : THREADS;
        auto kernel = wide ? embed_kernel<T, 4> : embed_kernel<T, 1>;
        kernel<<<N, threads, 0, stream>>>(x, static_cast<const T *>(wte), static_cast<const T *>(wpe), tokens,
                                          max_tokens, starts, rows, count, lengths, C);
        return cudaGetLastError();
    });
}

cudaError_t embed_packed(enum dtype dtype, float *x, const void *wte, const void *wpe, const int32_t *tokens,
                         int max_tokens, const int32_t *starts, const int32_t *rows, int count, int N, int C,
                         cudaStream_t stream) {
    return embed(dtype, x, wte, wpe, tokens, max_tokens, starts, rows, count, nullptr, N, C, stream);
}

cudaError_t embed_newest(enum dtype dtype, float *x, const void *wte, const void *wpe, const int32_t *tokens,
                         int max_tokens, const int32_t *lengths, int B, int C, cudaStream_t stream) {
    return embed(dtype, x, wte, wpe, tokens, max_tokens, nullptr, nullptr, 0, lengths, B, C, stream);
}

// ---- cache

// One block per packed token; a thread moves WIDTH elements of K and of V at a time.
template <typename T, int WIDTH>
__global__ void kv_write_kernel(const T *qkv, const int32_t *starts, const int32_t *rows, int count, int H,
                                int D, int max_tokens, T *k, T *v) {
    using vector = vec<T, WIDTH>;
    int n = static_cast<int>(blockIdx.x);
    if (n >= starts[count]) return;
    int i = packed_row(starts, count, n), row = rows ? rows[i] : i, t = n - starts[i], C = H * D;
    const T *own = qkv + static_cast<int64_t>(n) * 3 * C;
    for (int c = static_cast<int>(threadIdx.x) * WIDTH; c < C; c += static_cast<int>(blockDim.x) * WIDTH) {
        int head = c / D, d = c % D;
        int64_t cell = ((static_cast<int64_t>(row) * H + head) * max_tokens + t) * D + d;
        *reinterpret_cast<vector *>(k + cell) = *reinterpret_cast<const vector *>(own + C + c);
        *reinterpret_cast<vector *>(v + cell) = *reinterpret_cast<const vector *>(own + 2 * C + c);
    }
}

cudaError_t kv_write(enum dtype dtype, const void *qkv, const int32_t *starts, const int32_t *rows, int count,
                     int N, int H, int D, int max_tokens, void *k, void *v, cudaStream_t stream) {
    return with_element(dtype, [&](auto zero) {
        using T = decltype(zero);
        constexpr int WIDTH = ELEMENTS_PER_16_BYTES<T>;
        bool wide = D % WIDTH == 0 && is_aligned_16(qkv) && is_aligned_16(k) && is_aligned_16(v);
        auto kernel = wide ? kv_write_kernel<T, WIDTH> : kv_write_kernel<T, 1>;
        kernel<<<N, 128, 0, stream>>>(static_cast<const T *>(qkv), starts, rows, count, H, D, max_tokens,
                                      static_cast<T *>(k), static_cast<T *>(v));
        return cudaGetLastError();
    });
}

// ---- bias and GELU

template <typename T>
__global__ void bias_gelu_kernel(T *y, const T *bias, int64_t count, int F, bool gelu) {
    int64_t i = global_thread();
    if (i >= count) return;
    float value = static_cast<float>(y[i]) + static_cast<float>(bias[i % F]);
    y[i] = static_cast<T>(gelu ? gelu_tanh(value) : value);
}

cudaError_t bias_gelu(enum dtype dtype, void *y, const void *bias, int N, int F, bool gelu,
                      cudaStream_t stream) {
    return with_element(dtype, [&](auto zero) {
        using T = decltype(zero);
        int64_t count = static_cast<int64_t>(N) * F;
        bias_gelu_kernel<T><<<blocks_for(count), THREADS, 0, stream>>>(
            static_cast<T *>(y), static_cast<const T *>(bias), count, F, gelu);
        return cudaGetLastError();
    });
}

// ---- rows of logits

__global__ void gather_kernel(float *out, const float *in, const int32_t *index, int first, int n,
                              int columns) {
    int i = static_cast<int>(blockIdx.x), from = index[i] - first;
    if (from < 0 || from >= n) return;
    for (int c = static_cast<int>(threadIdx.x); c < columns; c += THREADS)
        out[static_cast<int64_t>(i) * columns + c] = in[static_cast<int64_t>(from) * columns + c];
}

cudaError_t gather_rows(float *out, const float *in, const int32_t *index, int count, int first, int n,
                        int columns, cudaStream_t stream) {
    gather_kernel<<<count, THREADS, 0, stream>>>(out, in, index, first, n, columns);
    return cudaGetLastError();
}
