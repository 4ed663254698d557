// Byte-pair encoding of one piece of text.
#ifndef TOKENIZER_BPE_H
#define TOKENIZER_BPE_H

#include "base/status.h"
#include "tokenizer/vocab.h"

#include <stddef.h>
#include <stdint.h>

// Working memory, used again for piece after piece. Start with {0}.
struct bpe {
    struct bpe_node *nodes; // stb_ds array
    uint64_t *heap;         // stb_ds array
};
void bpe_free(struct bpe *bpe);

// Appends the ids of a piece (1 to INT32_MAX bytes) to *ids, an stb_ds array. Starts from one token per byte
// and joins the neighbours whose merge has the lowest rank, the leftmost of equals, until none can be joined.
// Time is O(length log length). Fails on a byte that the vocabulary has no token for.
CHECKED enum status bpe_encode(struct bpe *bpe, const struct vocab *vocab, const char *piece, size_t length,
                               int32_t **ids, struct error *error);

#endif
