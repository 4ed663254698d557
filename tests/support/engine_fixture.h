// The device a group of engine tests runs on, and sessions that fail the test instead of returning errors.
#ifndef TESTS_SUPPORT_ENGINE_FIXTURE_H
#define TESTS_SUPPORT_ENGINE_FIXTURE_H

#include "engine/backend.h"

// Chooses the device for the tests that follow; false when this machine has none (tests must skip then).
bool fixture_use_device(const char *name);
// Skips the running test when the chosen device is missing.
void fixture_require_device(void);
bool fixture_computes(enum dtype dtype); // whether the chosen device computes in it

struct model *fixture_model(const char *name);
struct backend *fixture_backend(const char *model, enum dtype dtype);
struct session_spec fixture_spec(int rows, int max_tokens, bool kv_cache); // greedy, logits kept
struct session *fixture_session(struct backend *backend, struct session_spec spec);

// Prefills `count` prompts into rows 0 .. count - 1, request id = row.
void fixture_prefill(struct session *session, int count, const int *lengths, const int32_t *tokens);
// Prefill, then decode so that each row has `new_tokens`; generated (new_tokens, B).
void fixture_generate(struct session *session, int count, const int *lengths, const int32_t *tokens,
                      int new_tokens, int32_t *generated);

// One run a step a call, with the logits behind every token.
struct fixture_run {
    int rows, steps, vocab;
    int32_t *tokens; // (steps, rows)
    float *logits;   // (steps, rows, V)
};
// Prefills spec.rows prompts and decodes until each row has `steps` tokens, in a session of its own.
struct fixture_run fixture_run_steps(struct backend *backend, struct session_spec spec, const int *lengths,
                                     const int32_t *prompts, int steps);
void fixture_run_free(struct fixture_run run);
// Row `a_row` of a equals row `b_row` of b: logits within twice the tolerance, tokens equal until a near-tie.
void fixture_check_rows(const char *what, const struct fixture_run *a, int a_row, const struct fixture_run *b,
                        int b_row, double tolerance);

// Fails the test with the error's message.
void fixture_require_ok(enum status status, const struct error *error);

// Seeded ids in [0, vocab).
void fixture_random_tokens(uint64_t seed, int vocab, int count, int32_t *tokens);

// How far logits may lie from exact arithmetic when everything a layer passes on is rounded to `dtype`.
//
// A dtype with unit roundoff u rounds about 10 quantities per layer (4 weight matrices, 2 LayerNorm outputs,
// qkv, attention probabilities and output, MLP hidden), each an independent relative error of standard
// deviation u / sqrt(3) in a branch no larger than the residual stream. After L layers the stream, and so the
// final LayerNorm's unit-variance output, carries a relative error of u sqrt(10 L / 3); a logit is its
// product with a row w of the LM head, so its error has standard deviation |w| max|lnfw| u sqrt(10 L / 3).
// Five of these cover the largest of V logits.
double fixture_logits_tolerance(const struct model *model, enum dtype dtype);

#endif
