// Causal self-attention of ragged sequences over keys and values kept in panels.
#ifndef CPU_ATTENTION_H
#define CPU_ATTENTION_H

#include "base/dtype.h"
#include "cpu/team.h"

#include <stddef.h>

// Tokens of one sequence in a packed batch, and where its keys and values are kept.
struct sequence {
    int first;    // its first token's place in the packed batch
    int count;    // tokens fed now, >= 1
    int past;     // tokens fed before, whose keys and values are in the cache already
    int capacity; // tokens its cache has room for, a multiple of the panel width
    void *cache;  // attention_cache_bytes, of the first layer
};

// The least capacity for `tokens` tokens, and the bytes that one layer of such a sequence takes.
int attention_capacity(int tokens);
size_t attention_cache_bytes(enum dtype dtype, int heads, int head_size, int capacity);

// Bytes of scores that attention needs for sequences of at most `capacity`.
size_t attention_scratch_bytes(int capacity, int threads);

struct attention {
    enum dtype dtype; // of the cache
    int heads, head_size;
    float scale;         // what scores q . k are multiplied with
    size_t layer_offset; // bytes from the first layer's cache to this layer's
    float *scratch;      // attention_scratch_bytes for the longest capacity below
    struct team *team;
};

// Both functions are called by all threads of a region together.

// Rounds the keys and values of qkv (tokens, 3C) to the cache's dtype and writes them behind each sequence's
// past.
void attention_store(const struct attention *attention, const struct sequence *sequences, int count,
                     const float *qkv);

// out (tokens, C) = softmax(scale q k^T) v, each token over its sequence's keys up to its own, all of which
// are in the cache. A token's result depends on its own sequence alone and not on how many of the
// sequence's tokens are fed together.
void attention_forward(const struct attention *attention, const struct sequence *sequences, int count,
                       const float *qkv, float *out);

#endif
