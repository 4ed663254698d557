// The reference form: a block holds all scores of one query and head in shared memory.
#include "cuda/attention_kernels.cuh"

constexpr int THREADS = 128;

// Every thread gets the sum, or the greatest, of all threads' values.
template <bool SUM>
__device__ float block_reduce(float value) {
    __shared__ float of_warp[THREADS / WARP];
    value = SUM ? warp_sum(value) : warp_max(value);
    __syncthreads(); // the previous reduction has been read
    if (threadIdx.x % WARP == 0) of_warp[threadIdx.x / WARP] = value;
    __syncthreads();
    value = of_warp[0];
    for (int i = 1; i < THREADS / WARP; i++) value = SUM ? value + of_warp[i] : fmaxf(value, of_warp[i]);
    return value;
}

template <typename T>
__global__ void naive_kernel(attention_args args) {
    extern __shared__ float score[]; // (max_keys)
    int head = static_cast<int>(blockIdx.y) % args.H, query = static_cast<int>(blockIdx.y) / args.H;
    int row = static_cast<int>(blockIdx.x);
    int queries = attention_queries(args, row);
    int visible = attention_keys(args, row) - queries + query + 1;
    if (query >= queries || visible <= 0) return;
    const T *q = attention_at<T>(args.q, row, head) + query * args.q.token_stride;
    const T *k = attention_at<T>(args.k, row, head);
    const T *v = attention_at<T>(args.v, row, head);

    float highest = -INFINITY;
    for (int t = static_cast<int>(threadIdx.x); t < visible; t += THREADS) {
        float dot = 0;
        for (int d = 0; d < args.D; d++)
            dot += static_cast<float>(q[d]) * static_cast<float>(k[t * args.k.token_stride + d]);
        score[t] = dot * args.scale;
        highest = fmaxf(highest, score[t]);
    }
    highest = block_reduce<false>(highest);
    float sum = 0;
    for (int t = static_cast<int>(threadIdx.x); t < visible; t += THREADS) {
        score[t] = expf(score[t] - highest);
        sum += score[t];
    }
    sum = block_reduce<true>(sum); // its barriers also publish the scores

    T *out = attention_out<T>(args, row, query, head);
    for (int d = static_cast<int>(threadIdx.x); d < args.D; d += THREADS) {
        float weighted = 0;
        for (int t = 0; t < visible; t++)
            weighted += score[t] * static_cast<float>(v[t * args.v.token_stride + d]);
        out[d] = static_cast<T>(weighted / sum);
    }
}

cudaError_t attention_naive_launch(const struct attention_args &args, cudaStream_t stream) {
    return with_element(args.dtype, [&](auto zero) {
        using T = decltype(zero);
        // In whole 16-byte groups: the compiler reads scores by the group and uses what counts.
        size_t bytes = sizeof(float4) * static_cast<size_t>(divide_up(args.max_keys, 4));
        cudaError_t code = cudaFuncSetAttribute(naive_kernel<T>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                                static_cast<int>(bytes));
        if (code != cudaSuccess) return code;
        naive_kernel<T><<<dim3(args.B, args.H * args.max_queries), THREADS, bytes, stream>>>(args);
        return cudaGetLastError();
    });
}
