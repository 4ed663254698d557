// Published measurements of the same experiment, to hold a record against.
#ifndef MEASURE_REFERENCE_H
#define MEASURE_REFERENCE_H

struct reference_point {
    int batch;
    double uncached_tok_s, cached_tok_s;
    double speedup; // as published, from figures with more digits than these
};

struct reference {
    const char *source;     // where the figures come from
    const char *workload;   // tokens and dtype
    const char *difference; // how it differs from GPT-2 in this engine
    const struct reference_point *points;
    int count;
};

// The table whose curve this engine repeats with GPT-2.
extern const struct reference reference_published_a100;

// The point of that batch size, NULL when there is none.
const struct reference_point *reference_find(const struct reference *reference, int batch);

#endif
