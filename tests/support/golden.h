// Expected outputs of the tiny reference models, computed in float64 by the reference implementation.
#ifndef TESTS_SUPPORT_GOLDEN_H
#define TESTS_SUPPORT_GOLDEN_H

#include <stdint.h>

struct golden_case {
    int count;           // tokens fed
    int32_t *tokens;     // (count)
    int argmax_count;    // the longest case lists its first positions only
    int32_t *argmax;     // (argmax_count) after each position
    int nll_count;       //
    double *nll;         // (nll_count) loss of token i + 1
    double *last_logits; // (V)
    int greedy_count;    // 0 where the tokens already fill the context
    int32_t *greedy;     // (greedy_count) the continuation
    double *greedy_gap;  // (greedy_count) between the two highest logits of each step
};

struct golden {
    int count;
    struct golden_case *cases;
};

// Fails the running test when the file cannot be read.
void golden_load(const char *path, struct golden *golden);
void golden_free(struct golden *golden);

// A JSON array of a file's top-level object, for expectations with another layout. The caller frees.
int32_t *golden_load_ids(const char *path, const char *key, int *count);
double *golden_load_numbers(const char *path, const char *key, int *count);

#endif
