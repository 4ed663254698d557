// Checks attention's arguments and picks the variant.
#include "cuda/attention.h"

#include "cuda/attention_kernels.cuh"
#include "cuda/check.h"

const char *attention_variant_name(enum attention_variant variant) {
    switch (variant) {
    case ATTENTION_NAIVE:
        return "naive";
    case ATTENTION_FLASH:
        return "flash";
    case ATTENTION_SPLITKV:
        return "splitkv";
    default:
        return "stream";
    }
}

struct attention_tensor attention_packed(void *data, int64_t token_stride, int D, const int32_t *starts) {
    struct attention_tensor tensor = {data, token_stride, D, token_stride, starts};
    return tensor;
}

struct attention_tensor attention_cache(void *data, int H, int64_t max_tokens, int D) {
    struct attention_tensor tensor = {data, H * max_tokens * D, max_tokens * D, D, nullptr};
    return tensor;
}

size_t attention_workspace_bytes(enum attention_variant variant, int B, int H, int D, int max_queries,
                                 int max_keys) {
    if (variant == ATTENTION_SPLITKV)
        return attention_splitkv_workspace_bytes(B, H, D, max_queries, max_keys);
    return variant == ATTENTION_STREAM ? attention_stream_workspace_bytes(B, H, D, max_keys) : 0;
}

// One block per row and head stores the step's own key and value.
template <typename T>
__global__ void append_kernel(attention_args args) {
    int row = static_cast<int>(blockIdx.x), head = static_cast<int>(blockIdx.y);
    int keys = args.lengths[row];
    if (keys == 0) return;
    int64_t source = attention_offset(args.q, row, head);
    T *k = attention_at<T>(args.k, row, head) + (keys - 1) * args.k.token_stride;
    T *v = attention_at<T>(args.v, row, head) + (keys - 1) * args.v.token_stride;
    for (int d = static_cast<int>(threadIdx.x); d < args.D; d += static_cast<int>(blockDim.x)) {
        k[d] = static_cast<const T *>(args.new_k)[source + d];
        v[d] = static_cast<const T *>(args.new_v)[source + d];
    }
}

static cudaError_t append_launch(const struct attention_args &args, cudaStream_t stream) {
    return with_element(args.dtype, [&](auto zero) {
        using T = decltype(zero);
        append_kernel<T><<<dim3(args.B, args.H), WARP, 0, stream>>>(args);
        return cudaGetLastError();
    });
}

static enum status check_args(enum attention_variant variant, const struct attention_args &args,
                              struct error *error) {
    constexpr int MAX_GRID = 65535; // of the y and z dimensions
    if (args.B < 1 || args.B > MAX_GRID || args.H < 1 || args.D < 1 || args.D > ATTENTION_MAX_D)
        return error_set(error, STATUS_USAGE,
                         "attention over %d rows, %d heads of size %d: rows must be 1 to %d, heads "
                         "at least 1, their size 1 to %d",
                         args.B, args.H, args.D, MAX_GRID, ATTENTION_MAX_D);
    if (args.max_queries < 1 || args.max_keys < 1)
        return error_set(error, STATUS_USAGE,
                         "attention of %d queries over %d keys: at least 1 of each is needed",
                         args.max_queries, args.max_keys);
    if (variant != ATTENTION_FLASH && static_cast<int64_t>(args.H) * args.max_queries > MAX_GRID)
        return error_set(error, STATUS_USAGE,
                         "attention variant %s takes at most %d queries times heads, not %d times %d",
                         attention_variant_name(variant), MAX_GRID, args.max_queries, args.H);
    if ((args.new_k || args.new_v) && (!args.new_k || !args.new_v || args.q.starts || !args.lengths))
        return error_set(error, STATUS_USAGE,
                         "attention appends a key and a value together, to rows with lengths, "
                         "for one query each");
    if (variant == ATTENTION_STREAM && !attention_stream_supports(&args))
        return error_set(
            error, STATUS_USAGE,
            "attention variant stream takes one query per row with a length, f16 or bf16, heads of "
            "size 64 or 128 without gaps between keys, 16-byte alignment and a device of compute "
            "capability 9.0: found %d queries, %s, heads of size %d",
            args.max_queries, dtype_name(args.dtype), args.D);
    if (!args.workspace &&
        attention_workspace_bytes(variant, args.B, args.H, args.D, args.max_queries, args.max_keys) > 0)
        return error_set(error, STATUS_USAGE, "attention variant %s needs a workspace for these shapes",
                         attention_variant_name(variant));
    return STATUS_OK;
}

enum status attention_run(enum attention_variant variant, const struct attention_args *args,
                          cudaStream_t stream, struct error *error) {
    TRY(check_args(variant, *args, error));
    struct attention_args stored = *args;
    if (args->new_k && variant != ATTENTION_SPLITKV && variant != ATTENTION_STREAM) {
        CUDA_TRY(append_launch(*args, stream));
        stored.new_k = stored.new_v = nullptr;
    }
    switch (variant) {
    case ATTENTION_NAIVE:
        CUDA_TRY(attention_naive_launch(stored, stream));
        break;
    case ATTENTION_FLASH:
        CUDA_TRY(attention_flash_launch(stored, stream));
        break;
    case ATTENTION_SPLITKV:
        CUDA_TRY(attention_splitkv_launch(stored, stream));
        break;
    case ATTENTION_STREAM:
        CUDA_TRY(attention_stream_launch(stored, stream));
        break;
    }
    return STATUS_OK;
}
