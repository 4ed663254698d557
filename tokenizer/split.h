// GPT-2's split pattern: cuts text into the pieces that merges never cross.
#ifndef TOKENIZER_SPLIT_H
#define TOKENIZER_SPLIT_H

#include "base/status.h"

#include <stddef.h>

struct split_pattern; // compiled once, read only afterwards

CHECKED enum status split_pattern_open(struct split_pattern **pattern, struct error *error);
void split_pattern_close(struct split_pattern *pattern); // NULL is allowed

// One walk through one text, by one thread.
struct split_walk {
    const struct split_pattern *pattern;
    struct split_match *match; // scratch, owned
    const char *text;          // (length) borrowed
    size_t length;
    size_t position;           // where the next piece starts
    size_t run_start, run_end; // the run of valid UTF-8 that `position` is in
};

CHECKED enum status split_walk_open(struct split_walk *walk, const struct split_pattern *pattern,
                                    struct error *error);
void split_walk_start(struct split_walk *walk, const char *text, size_t length);
void split_walk_close(struct split_walk *walk);

// The next piece, never empty; *length is 0 when the text is used up. Pieces follow each other without gaps.
// Text that is not UTF-8 has no published splitting: here a byte that belongs to no character is a piece of
// its own, and the text before and after it is split as if it stood alone.
CHECKED enum status split_next(struct split_walk *walk, const char **piece, size_t *length,
                               struct error *error);

#endif
