// The reference sampler: plain C, one row at a time. Nothing is sorted that need not be: a heap yields tokens
// in falling order until the limits are met.
#include "engine/sampling.h"

#include <math.h>
#include <stdbool.h>
#include <stddef.h>

enum status sampling_check(const struct sampling *sampling, struct error *error) {
    if (!(sampling->temperature >= 0.0f) || isinf(sampling->temperature)) {
        return error_set(error, STATUS_USAGE, "temperature %g: expected a number of at least 0",
                         (double)sampling->temperature);
    }
    if (sampling->top_k < 0)
        return error_set(error, STATUS_USAGE, "top-k %d: expected 0 (off) or more", sampling->top_k);
    if (!(sampling->top_p > 0.0f && sampling->top_p <= 1.0f)) {
        return error_set(error, STATUS_USAGE, "top-p %g: expected a number above 0 and up to 1",
                         (double)sampling->top_p);
    }
    if (!(sampling->min_p >= 0.0f && sampling->min_p <= 1.0f))
        return error_set(error, STATUS_USAGE, "min-p %g: expected a number from 0 to 1",
                         (double)sampling->min_p);
    return STATUS_OK;
}

float sampling_uniform(uint64_t seed, uint64_t request, uint64_t position) {
    // cuRAND counts blocks of four numbers in the low half of the counter and subsequences in the high half.
    uint64_t block = position / 4;
    const uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    const uint32_t counter[4] = {(uint32_t)block, (uint32_t)(block >> 32), (uint32_t)request,
                                 (uint32_t)(request >> 32)};
    uint32_t words[4];
    philox4x32(counter, key, words);
    return (float)words[position % 4] * 0x1p-32f + 0x1p-33f;
}

int32_t sampling_argmax(const float *logits, int vocab) {
    // Independent lanes, so that the compiler can vectorise: `a > b ? a : b` is one instruction.
    enum { LANES = 64 };
    float lane[LANES];
    for (int j = 0; j < LANES; j++) lane[j] = -INFINITY;
    int i = 0;
    for (; i + LANES <= vocab; i += LANES) {
        for (int j = 0; j < LANES; j++) lane[j] = logits[i + j] > lane[j] ? logits[i + j] : lane[j];
    }
    float highest = -INFINITY;
    for (; i < vocab; i++) highest = logits[i] > highest ? logits[i] : highest;
    for (int j = 0; j < LANES; j++) highest = lane[j] > highest ? lane[j] : highest;
    for (i = 0; i < vocab; i++) {
        if (logits[i] == highest) return i;
    }
    return 0; // nothing but NaN
}

// ---- the order of tokens: higher logits first, lower ids first among equals

static bool comes_first(const float *logits, int32_t a, int32_t b) {
    return logits[a] > logits[b] || (logits[a] == logits[b] && a < b);
}

// Restores the heap of ids below `parent`, whose first is at the root.
static void heap_sift(const float *logits, int32_t *heap, int count, int parent) {
    int32_t moving = heap[parent];
    for (int child; (child = 2 * parent + 1) < count; parent = child) {
        if (child + 1 < count && comes_first(logits, heap[child + 1], heap[child])) child++;
        if (!comes_first(logits, heap[child], moving)) break;
        heap[parent] = heap[child];
    }
    heap[parent] = moving;
}

// Moves the first `limit` ids (fewer once their mass reaches `mass`) to the end of `order`, the very first
// last, and returns how many they are.
static int select_first(const float *logits, const float *probability, int vocab, int limit, double mass,
                        int32_t *order) {
    for (int i = 0; i < vocab; i++) order[i] = i;
    for (int i = vocab / 2; i-- > 0;) heap_sift(logits, order, vocab, i);
    double sum = 0.0;
    int selected = 0;
    while (selected < limit && (selected == 0 || sum < mass)) {
        int32_t first = order[0];
        int left = vocab - ++selected;
        order[0] = order[left];
        order[left] = first;
        heap_sift(logits, order, left, 0);
        sum += (double)probability[first];
    }
    return selected;
}

// ---- the draw

// Unnormalised softmax: the highest logit gets 1. Returns the sum. NaN gets 0; infinities do not make any.
static double softmax(const float *logits, int vocab, float temperature, float *probability) {
    float highest = logits[sampling_argmax(logits, vocab)];
    double sum = 0.0;
    for (int i = 0; i < vocab; i++) {
        probability[i] = logits[i] == highest  ? 1.0f
                         : logits[i] < highest ? expf((logits[i] - highest) / temperature)
                                               : 0.0f;
        sum += (double)probability[i];
    }
    return sum;
}

// Zeroes what top-k and top-p drop.
static void truncate(const struct sampling *sampling, const float *logits, int vocab, double sum,
                     struct sampling_scratch *scratch) {
    bool top_k = sampling->top_k > 0 && sampling->top_k < vocab, top_p = sampling->top_p < 1.0f;
    if (!top_k && !top_p) return;
    // Top-p's share is of the mass that top-k leaves, which is known only after top-k has selected.
    double mass = top_k ? HUGE_VAL : (double)sampling->top_p * sum;
    int kept = select_first(logits, scratch->probability, vocab, top_k ? sampling->top_k : vocab, mass,
                            scratch->order);
    const int32_t *first = scratch->order + vocab - 1; // first[-i] is the i-th
    if (top_k && top_p) {
        double left = 0.0;
        for (int i = 0; i < kept; i++) left += (double)scratch->probability[first[-i]];
        double reached = 0.0;
        int enough = 0;
        while (enough < kept && (enough == 0 || reached < (double)sampling->top_p * left))
            reached += (double)scratch->probability[first[-enough++]];
        kept = enough;
    }
    for (int i = 0; i < vocab - kept; i++) scratch->probability[scratch->order[i]] = 0.0f;
}

int32_t sampling_draw(const struct sampling *sampling, const float *logits, int vocab, float u,
                      struct sampling_scratch *scratch) {
    if (sampling->temperature <= 0.0f) return sampling_argmax(logits, vocab);
    float *probability = scratch->probability;
    double sum = softmax(logits, vocab, sampling->temperature, probability);
    truncate(sampling, logits, vocab, sum, scratch);
    double total = 0.0;
    for (int i = 0; i < vocab; i++) {
        if (probability[i] < sampling->min_p) probability[i] = 0.0f; // the highest is 1
        total += (double)probability[i];
    }
    double reached = 0.0;
    int32_t last = 0;
    for (int i = 0; i < vocab; i++) {
        if (!(probability[i] > 0.0f)) continue;
        reached += (double)probability[i];
        last = i;
        if (reached >= (double)u * total) break;
    }
    return last;
}
