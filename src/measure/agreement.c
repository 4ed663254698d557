#include "measure/agreement.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const int rows_examined = 64;

struct judge {
    struct backend *backend;
    const struct prompt_batch *prompts; // equal lengths
    const int32_t *a, *b;               // (gen_len, B)
    int gen_len;
    struct session *session; // one row
    int32_t *prefix;         // (prompt_len + gen_len)
    float *logits;           // (V)
};

static int32_t token_at(const struct judge *judge, const int32_t *tokens, int row, int step) {
    return tokens[(size_t)step * (size_t)judge->prompts->count + (size_t)row];
}

// gen_len when the row is the same in both.
static int first_difference(const struct judge *judge, int row) {
    int step = 0;
    while (step < judge->gen_len &&
           token_at(judge, judge->a, row, step) == token_at(judge, judge->b, row, step))
        step++;
    return step;
}

static double unit_roundoff_times_k(const struct backend *backend) {
    switch (backend_dtype(backend)) {
    case DTYPE_BF16:
        return 8 * 0x1p-8;
    case DTYPE_F16:
        return 8 * 0x1p-11;
    case DTYPE_F32:
        break;
    }
    return 8 * sqrt(backend_config(backend)->inner) * 0x1p-24;
}

static enum status score_prefix(struct judge *judge, int row, int step, struct error *error) {
    size_t prompt_len = (size_t)judge->prompts->lengths[row];
    memcpy(judge->prefix, judge->prompts->tokens + (size_t)row * prompt_len,
           prompt_len * sizeof *judge->prefix);
    for (int i = 0; i < step; i++) judge->prefix[prompt_len + (size_t)i] = token_at(judge, judge->a, row, i);
    const struct score_request request = {
        .count = (int)prompt_len + step, .tokens = judge->prefix, .last_logits = judge->logits};
    return session_score(judge->session, &request, error);
}

// Looks at one place where a row parts and keeps the worst in `agreement`.
static enum status examine(struct judge *judge, int row, int step, struct arm_agreement *agreement,
                           struct error *error) {
    TRY(score_prefix(judge, row, step, error));
    int vocab = backend_config(judge->backend)->vocab;
    double highest = judge->logits[0], sum = 0;
    for (int v = 0; v < vocab; v++) {
        highest = fmax(highest, judge->logits[v]);
        sum += judge->logits[v];
    }
    double lower = fmin(judge->logits[token_at(judge, judge->a, row, step)],
                        judge->logits[token_at(judge, judge->b, row, step)]);
    double gap = highest - lower;
    double allowed = unit_roundoff_times_k(judge->backend) * (highest - sum / vocab);
    // A gap that is not a number is no near-tie.
    bool explained = gap <= allowed;
    bool first = agreement->verdict == AGREEMENT_UNKNOWN;
    if (first || !(gap - allowed <= agreement->logit_gap - agreement->rounding_allows)) {
        agreement->row = row;
        agreement->position = step;
        agreement->logit_gap = gap;
        agreement->rounding_allows = allowed;
    }
    if (!explained) agreement->verdict = AGREEMENT_DIFFERENT;
    if (explained && first) agreement->verdict = AGREEMENT_NEAR_TIE;
    return STATUS_OK;
}

static enum status examine_rows(struct judge *judge, struct arm_agreement *agreement, struct error *error) {
    int examined = 0;
    for (int row = 0; row < judge->prompts->count && examined < rows_examined; row++) {
        int step = first_difference(judge, row);
        if (step == judge->gen_len) continue;
        TRY(examine(judge, row, step, agreement, error));
        examined++;
    }
    return STATUS_OK;
}

static enum status judge_open(struct judge *judge, struct error *error) {
    const struct gpt2_config *config = backend_config(judge->backend);
    int longest = judge->prompts->lengths[0] + judge->gen_len;
    const struct session_spec spec = {
        .rows = 1, .max_tokens = longest, .logits = LOGITS_LAST, .sampling = {.top_p = 1}};
    judge->prefix = malloc((size_t)longest * sizeof *judge->prefix);
    judge->logits = malloc((size_t)config->vocab * sizeof *judge->logits);
    if (!judge->prefix || !judge->logits)
        return error_set(error, STATUS_OUT_OF_MEMORY, "no host memory for the logits of one position");
    return session_open(judge->backend, &spec, &judge->session, error);
}

enum status agreement_judge(struct backend *backend, const struct prompt_batch *prompts, const int32_t *a,
                            const int32_t *b, int gen_len, struct arm_agreement *agreement,
                            struct error *error) {
    struct judge judge = {.backend = backend, .prompts = prompts, .a = a, .b = b, .gen_len = gen_len};
    memset(agreement, 0, sizeof *agreement);
    for (int row = 0; row < prompts->count; row++)
        agreement->differing_rows += first_difference(&judge, row) < gen_len;
    if (agreement->differing_rows == 0) {
        agreement->verdict = AGREEMENT_SAME;
        return STATUS_OK;
    }
    enum status status = judge_open(&judge, error);
    if (status == STATUS_OK) status = examine_rows(&judge, agreement, error);
    session_close(judge.session);
    free(judge.prefix);
    free(judge.logits);
    if (status != STATUS_OK) error_prefix(error, "comparing the tokens with and without the cache");
    return status;
}
