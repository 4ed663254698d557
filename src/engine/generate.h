// Continuous batching: more requests than rows, each row taking the next request when its own ends.
//
// What a request gets depends on neither the rows nor its neighbours: its random numbers are keyed by its id.
#ifndef ENGINE_GENERATE_H
#define ENGINE_GENERATE_H

#include "engine/backend.h"

struct generate_request {
    const int32_t *prompt; // (length)
    int length;            // >= 1
    int max_new;           // >= 1: new tokens at most
    uint64_t id;           // keys its random numbers
};

enum generate_finish {
    GENERATE_STOPPED,     // by the end-of-text token or by the receiver
    GENERATE_LENGTH,      // max_new tokens are there
    GENERATE_INTERRUPTED, // before either; also for requests that never began
};

// Who takes the tokens. `request` is the index of the request; requests may end in any order.
struct generate_receiver {
    void *context;
    // Each new token, an end-of-text token included. False ends the request here.
    bool (*token)(void *context, int request, int32_t token);
    // Once per request, after its last token. False ends the whole run with STATUS_OK at once.
    bool (*finished)(void *context, int request, enum generate_finish finish);
};

struct generate_options {
    int32_t eos;        // the token that ends a request, -1: none
    int steps_per_call; // 1: each token is received at once. More saves waits for the device; up to that
                        // many tokens less one are then computed in vain when a request ends early.
    const volatile sig_atomic_t *interrupt; // as the backend's; may be NULL
};

// Checks lengths against the model's context and gives the longest row (prompt and new tokens) that any
// request needs: the session's max_tokens. STATUS_USAGE names the first request that does not fit.
CHECKED enum status generate_plan(const struct generate_request *requests, int count, int context,
                                  int *max_tokens, struct error *error);

// Runs all requests, in order of their index as rows come free, through the session's rows, which must all be
// free; the session is to be closed afterwards. STATUS_INTERRUPTED comes after every request was finished.
CHECKED enum status generate_run(struct session *session, const struct generate_request *requests, int count,
                                 const struct generate_options *options,
                                 const struct generate_receiver *receiver, struct error *error);

#endif
