// A doubly linked list of tokens, and a heap of the neighbours that can be joined. Entries of the heap are
// not removed when a neighbour changes; they are recognised as outdated when they come up.
#include "tokenizer/bpe.h"

#include <stb/stb_ds.h>

enum { NONE = -1 };

struct bpe_node {
    int32_t token;
    int32_t previous, next; // neighbours, NONE at the ends
    int32_t rank;           // of the merge with the next token, NONE when they do not join
    int32_t joined;         // what that merge gives
};

// Smallest first: the rank above, the position below.
static uint64_t heap_entry(int32_t rank, int32_t position) {
    return (uint64_t)(uint32_t)rank << 32 | (uint32_t)position;
}

static void heap_push(uint64_t **heap, uint64_t entry) {
    size_t hole = arrlenu(*heap);
    arrput(*heap, entry);
    uint64_t *entries = *heap;
    for (; hole > 0 && entries[(hole - 1) / 2] > entry; hole = (hole - 1) / 2)
        entries[hole] = entries[(hole - 1) / 2];
    entries[hole] = entry;
}

static uint64_t heap_pop(uint64_t *heap) {
    uint64_t top = heap[0], last = arrpop(heap);
    size_t count = arrlenu(heap), hole = 0;
    if (count == 0) return top;
    for (size_t child = 1; child < count; child = 2 * hole + 1) {
        if (child + 1 < count && heap[child + 1] < heap[child]) child++;
        if (heap[child] >= last) break;
        heap[hole] = heap[child];
        hole = child;
    }
    heap[hole] = last;
    return top;
}

void bpe_free(struct bpe *bpe) {
    arrfree(bpe->nodes);
    arrfree(bpe->heap);
}

// Looks up what the node and its next neighbour join into.
static void offer_merge(struct bpe *bpe, const struct vocab *vocab, int32_t position) {
    struct bpe_node *node = &bpe->nodes[position];
    node->rank = NONE;
    if (node->next == NONE) return;
    const struct merge *merge = vocab_find_merge(vocab, node->token, bpe->nodes[node->next].token);
    if (!merge) return;
    node->rank = merge->rank;
    node->joined = merge->joined;
    heap_push(&bpe->heap, heap_entry(merge->rank, position));
}

static void join_with_next(struct bpe *bpe, const struct vocab *vocab, int32_t position) {
    struct bpe_node *node = &bpe->nodes[position], *next = &bpe->nodes[node->next];
    node->token = node->joined;
    node->next = next->next;
    next->rank = NONE; // outdates its entries
    if (node->next != NONE) bpe->nodes[node->next].previous = position;
    offer_merge(bpe, vocab, position);
    if (node->previous != NONE) offer_merge(bpe, vocab, node->previous);
}

static enum status start(struct bpe *bpe, const struct vocab *vocab, const char *piece, size_t length,
                         struct error *error) {
    arrsetlen(bpe->heap, 0);
    arrsetlen(bpe->nodes, length);
    for (size_t i = 0; i < length; i++) {
        unsigned char byte = (unsigned char)piece[i];
        int32_t position = (int32_t)i;
        bpe->nodes[i] = (struct bpe_node){.token = vocab->byte_ids[byte],
                                          .previous = position - 1,
                                          .next = i + 1 < length ? position + 1 : NONE};
        if (vocab->byte_ids[byte] < 0) {
            return error_set(error, STATUS_FAILED, "the vocabulary has no token for the byte 0x%02X",
                             (unsigned)byte);
        }
    }
    for (size_t i = 0; i < length; i++) offer_merge(bpe, vocab, (int32_t)i);
    return STATUS_OK;
}

enum status bpe_encode(struct bpe *bpe, const struct vocab *vocab, const char *piece, size_t length,
                       int32_t **ids, struct error *error) {
    TRY(start(bpe, vocab, piece, length, error));
    while (arrlenu(bpe->heap) > 0) {
        uint64_t entry = heap_pop(bpe->heap);
        int32_t position = (int32_t)(entry & UINT32_MAX), rank = (int32_t)(entry >> 32);
        // A pair that has changed since spells more bytes: it is another merge, and merges that start here
        // and spell different bytes never have the same rank.
        if (bpe->nodes[position].rank == rank) join_with_next(bpe, vocab, position);
    }
    for (int32_t position = 0; position != NONE; position = bpe->nodes[position].next)
        arrput(*ids, bpe->nodes[position].token);
    return STATUS_OK;
}
