// Causal scaled dot-product attention over ragged rows: out = softmax(scale * q k^T + causal mask) v, per
// head.
//
// One interface for the engine, the tests and the laboratory. Row b has n queries, the last n of its m keys:
// query i sees keys 0 .. m - n + i. Prefill and recompute have n = m (packed queries and keys), a cached
// decode step has n = 1 and its keys in the cache. Arithmetic is f32 throughout except that the tensor-core
// form of `flash` rounds softmax's numerators to the 16-bit type before they meet v.
#ifndef CUDA_ATTENTION_H
#define CUDA_ATTENTION_H

#include "base/dtype.h"
#include "base/status.h"
#include "cuda/decode_next.h"

#include <cuda_runtime_api.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum attention_variant {
    ATTENTION_NAIVE,   // reference: one block per query and head, all its scores held at once
    ATTENTION_FLASH,   // one block per tile of queries walks the keys in order with an online softmax
    ATTENTION_SPLITKV, // keys in chunks of 32, one warp per chunk, partial results merged in chunk order
    ATTENTION_STREAM,  // decode only: keys stream through shared memory by bulk copies (compute
                       // capability 9.0)
};
const char *attention_variant_name(enum attention_variant variant); // "naive", "flash", "splitkv", "stream"

// q, k or v in device memory; strides in elements. Element (b, h, t, d) lies at
//   data + (starts ? starts[b] * token_stride : b * row_stride) + h * head_stride + t * token_stride + d
struct attention_tensor {
    void *data;
    int64_t row_stride;
    int64_t head_stride;
    int64_t token_stride;
    const int32_t
        *starts; // device (B + 1): row b's first token in a packed tensor; NULL: rows are row_stride apart
};

// Parts of packed activations (N, 3C), and one layer's K or V cache (B, H, max_tokens, D).
struct attention_tensor attention_packed(void *data, int64_t token_stride, int D, const int32_t *starts);
struct attention_tensor attention_cache(void *data, int H, int64_t max_tokens, int D);

struct attention_args {
    enum dtype dtype; // of q, k, v and out
    int B, H, D;      // 1 <= D <= 256
    float scale;

    // Row b has q.starts[b + 1] - q.starts[b] queries; without q.starts one query, at b * q.row_stride.
    struct attention_tensor q, k, v;
    // device (B): keys of each row including those of its queries, 0: a free row, nothing is read or written.
    // NULL: as many keys as queries.
    const int32_t *lengths;
    // A decode step's own keys and values, addressed like q (same strides; q.starts must be NULL): they are
    // stored into k and v as token lengths[b] - 1 and attended to. NULL: k and v hold everything already.
    const void *new_k, *new_v;

    void *out; // (N, H * D): query i of row b at token q.starts[b] + i, or b without q.starts
    // Host bounds of what the device arrays say. They size the grid; smaller true values cost idle blocks.
    int max_queries, max_keys;
    enum decode_next next; // of ATTENTION_STREAM: AFTER_WAIT or AT_ONCE; that of others does not matter
    // attention_workspace_bytes(...) bytes, zeroed by the owner before the first run with these B, H and
    // max_queries; every run leaves its counters zero. Only one run at a time may use it. NULL where the size
    // is 0.
    void *workspace;
};

// What attention_run needs for these shapes on the current device, in bytes. Less max_keys never needs more.
size_t attention_workspace_bytes(enum attention_variant variant, int B, int H, int D, int max_queries,
                                 int max_keys);

// Whether ATTENTION_STREAM runs these arguments on the current device: a device of compute capability 9.0;
// f16 or bf16; D = 64 or 128; max_queries = 1 without q.starts, with lengths; keys and values of a row and
// head without gaps (token stride D); everything but lengths and workspace on 16 bytes.
bool attention_stream_supports(const struct attention_args *args);

// Launches on `stream`; no synchronisation, no allocation, capturable. The result is deterministic, and a
// row's bits depend on that row alone: not on its neighbours, on B, or on the bounds.
CHECKED enum status attention_run(enum attention_variant variant, const struct attention_args *args,
                                  cudaStream_t stream, struct error *error);

#endif
