// Steps as CUDA graphs: a launch instead of a hundred.
//
// A step is captured once and replayed unpatched, because tokens, lengths and sampling state live in device
// memory.
#ifndef CUDA_STEP_GRAPHS_H
#define CUDA_STEP_GRAPHS_H

#include "cuda/session.h"

// More tokens at once compute for longer than their launches take: they are launched as they are.
enum { GRAPH_TOKENS = 2048 };

// What a graph runs, and what it is good for.
struct graph_key {
    int prompts; // rows of a prefill, 0: the next step of all rows
    int tokens;  // packed tokens of a prefill or an uncached step, 0: cached steps
    int steps;   // of these, 1 of the others
    int longest; // bound on the rows' lengths
};

// Launches the graph of this key, captured at its first use. Of prefills the session keeps the last few.
CHECKED enum status step_graphs_launch(struct cuda_session *session, const struct graph_key *key,
                                       struct error *error);
void step_graphs_free(struct cuda_session *session);

#endif
