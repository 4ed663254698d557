// What a search for a batch size was for, and what it found out.
#ifndef MEASURE_DISCOVERY_H
#define MEASURE_DISCOVERY_H

#include "base/status.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum goal_kind {
    GOAL_THROUGHPUT, // the knee: the smallest batch within 2 % of the best tok/s
    GOAL_LATENCY,    // the largest batch whose 95th percentile of step times is within `limit_ms`
    GOAL_TTFT,       // the largest batch whose time to first token is
    GOAL_MEMORY,     // the largest batch that fits
};
struct discover_goal {
    enum goal_kind kind;
    double limit_ms;
};

enum { GOAL_TEXT = 64 };

// "throughput", "latency:MS", "ttft:MS", "memory"; MS is a number above 0.
CHECKED enum status discover_goal_parse(const char *text, struct discover_goal *goal, struct error *error);
// The same text back.
void discover_goal_format(const struct discover_goal *goal, char text[GOAL_TEXT]);

// One batch size tried on a real session. Figures are 0 where the goal does not need them.
struct batch_probe {
    int batch;
    bool fits;
    bool meets_goal; // fits, and within the limit if there is one
    double tok_s;    // of whole runs, estimated from their first steps where one takes longer than 3 s
    double ttft_ms;
    double p95_ms;    // of the steps, as far as a run went
    double seconds;   // the probe took
    char reason[192]; // why it does not fit; else empty
};

// All zeros: no search was made.
struct discovery {
    struct discover_goal goal;
    int64_t reserve_bytes;     // of device memory that a session had to leave free
    bool kv_cache;             // of the sessions
    int batch;                 // the answer, one of the trail; 0: none
    bool complete;             // false: the search was cut short, and there may be a better one
    bool from_cache;           // found before and proved again now
    struct batch_probe *trail; // stb_ds array, in the order tried
};
void discovery_clear(struct discovery *discovery);

// For a person: a line that heads the probes, a line for one of them, and one without its end for the answer.
void discovery_write_heading(FILE *file);
void discovery_write_probe(const struct batch_probe *probe, FILE *file);
void discovery_write_answer(const struct discovery *discovery, FILE *file);

// As an object whose fields are null and whose "probes" are none where no search was made; NULL when memory
// runs out.
json_t *discovery_to_json(const struct discovery *discovery);
// Reads that back. Strict; a message names the field. The caller clears *discovery, also after a failure.
CHECKED enum status discovery_from_json(json_t *json, struct discovery *discovery, struct error *error);

#endif
