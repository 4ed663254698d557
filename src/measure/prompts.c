#include "measure/prompts.h"

#include "base/philox.h"

#include <stdlib.h>
#include <string.h>

static int32_t random_id(uint64_t seed, int row, int position, int vocab) {
    // The last word sets these draws apart from others that are keyed by the same seed.
    const uint32_t counter[4] = {(uint32_t)position, (uint32_t)row, 0, 0x70726F6Du};
    const uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    uint32_t word[4];
    philox4x32(counter, key, word);
    return (int32_t)((uint64_t)word[0] * (uint64_t)vocab >> 32);
}

enum status prompts_draw(int count, int prompt_len, int vocab, uint64_t seed, struct prompt_batch *batch,
                         struct error *error) {
    memset(batch, 0, sizeof *batch);
    size_t n = (size_t)count, length = (size_t)prompt_len;
    int *rows = malloc(n * sizeof *rows), *lengths = malloc(n * sizeof *lengths);
    int32_t *tokens = calloc(n, length * sizeof *tokens);
    uint64_t *requests = malloc(n * sizeof *requests);
    *batch = (struct prompt_batch){
        .count = count, .rows = rows, .lengths = lengths, .tokens = tokens, .requests = requests};
    if (!rows || !lengths || !tokens || !requests) {
        prompts_free(batch);
        return error_set(error, STATUS_OUT_OF_MEMORY, "no host memory for %d prompts of %d tokens", count,
                         prompt_len);
    }
    for (int row = 0; row < count; row++) {
        rows[row] = row;
        lengths[row] = prompt_len;
        requests[row] = (uint64_t)row;
        for (int t = 0; t < prompt_len; t++)
            tokens[(size_t)row * length + (size_t)t] = random_id(seed, row, t, vocab);
    }
    return STATUS_OK;
}

void prompts_free(struct prompt_batch *batch) {
    free((void *)batch->rows);
    free((void *)batch->lengths);
    free((void *)batch->tokens);
    free((void *)batch->requests);
    memset(batch, 0, sizeof *batch);
}
