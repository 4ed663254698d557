// Reads the texts and ids that generate, score and tokenize are given.
#ifndef CLI_INPUTS_H
#define CLI_INPUTS_H

#include "cli/options.h"
#include "tokenizer/tokenizer.h"

// How texts become ids.
struct encoding {
    const struct tokenizer *tokenizer; // NULL: texts are refused
    const struct error *no_tokenizer;  // with this message
    bool special;                      // <|endoftext|> in a text is that token
    int vocab;                         // ids must be below it
};

// One array of ids per text or list of ids, in the order they were given: an stb_ds array of stb_ds arrays,
// some of which may be empty. A message names the option, or the file and line. The caller frees with
// inputs_free, also after a failure.
CHECKED enum status inputs_read(const struct input *inputs, const struct encoding *encoding,
                                int32_t ***sequences, struct error *error);
void inputs_free(int32_t **sequences);

#endif
