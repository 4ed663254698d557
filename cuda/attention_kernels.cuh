// What the attention variants share: where a row's tensors lie and which keys a query sees.
#ifndef CUDA_ATTENTION_KERNELS_CUH
#define CUDA_ATTENTION_KERNELS_CUH

#include "cuda/attention.h"
#include "cuda/device.cuh"

constexpr int ATTENTION_MAX_D = 256;

// The variants behind attention_run; arguments have been checked.
cudaError_t attention_naive_launch(const struct attention_args &args, cudaStream_t stream);
cudaError_t attention_flash_launch(const struct attention_args &args, cudaStream_t stream);
cudaError_t attention_splitkv_launch(const struct attention_args &args, cudaStream_t stream);
size_t attention_splitkv_workspace_bytes(int B, int H, int D, int max_queries, int max_keys);
cudaError_t attention_stream_launch(const struct attention_args &args, cudaStream_t stream);
size_t attention_stream_workspace_bytes(int B, int H, int D, int max_keys);

// Element offset of (row, head, token 0, 0).
__device__ inline int64_t attention_offset(const attention_tensor &tensor, int row, int head) {
    int64_t base = tensor.starts ? tensor.starts[row] * tensor.token_stride : row * tensor.row_stride;
    return base + head * tensor.head_stride;
}

template <typename T>
__device__ inline T *attention_at(const attention_tensor &tensor, int row, int head) {
    return static_cast<T *>(tensor.data) + attention_offset(tensor, row, head);
}

__device__ inline int attention_queries(const attention_args &args, int row) {
    return args.q.starts ? args.q.starts[row + 1] - args.q.starts[row] : 1;
}

__device__ inline int attention_keys(const attention_args &args, int row) {
    return args.lengths ? args.lengths[row] : attention_queries(args, row);
}

// The output of `query` of the row, all heads.
template <typename T>
__device__ inline T *attention_out(const attention_args &args, int row, int query, int head) {
    int64_t token = args.q.starts ? args.q.starts[row] + query : row;
    return static_cast<T *>(args.out) + token * args.H * args.D + head * args.D;
}

// Whether every head vector begins on a 16-byte boundary, so that it can be moved in 16-byte vectors.
inline bool attention_is_aligned(const attention_args &args) {
    int64_t elements = 16 / static_cast<int64_t>(dtype_size(args.dtype));
    const attention_tensor *tensors[] = {&args.q, &args.k, &args.v};
    for (const attention_tensor *tensor : tensors) {
        if (!is_aligned_16(tensor->data) || tensor->row_stride % elements || tensor->head_stride % elements ||
            tensor->token_stride % elements)
            return false;
    }
    return is_aligned_16(args.new_k) && is_aligned_16(args.new_v);
}

// Sums each of COUNT values over lanes that differ in bits HIGH .. LOW, spreading the results over these
// lanes: each keeps COUNT / (2 HIGH / LOW) of them, from the index that is returned on.
template <int COUNT, int HIGH, int LOW>
__device__ inline int reduce_scatter(float (&value)[COUNT], int lane) {
    int first = 0;
    int count = COUNT;
#pragma unroll
    for (int bit = HIGH; bit >= LOW; bit /= 2) {
        count /= 2;
        bool upper = lane & bit;
#pragma unroll
        for (int i = 0; i < COUNT / 2; i++) {
            if (i >= count) break;
            float sent = upper ? value[i] : value[i + count];
            float kept = upper ? value[i + count] : value[i];
            value[i] = kept + __shfl_xor_sync(FULL_WARP, sent, bit);
        }
        first += upper ? count : 0;
    }
    return first;
}

#endif
