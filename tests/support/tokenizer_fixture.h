// Tokenizers that fail the test instead of returning errors, and the reference vectors.
#ifndef TESTS_SUPPORT_TOKENIZER_FIXTURE_H
#define TESTS_SUPPORT_TOKENIZER_FIXTURE_H

#include "tokenizer/tokenizer.h"

// Where GPT-2's own vocab.json and merges.txt are: the environment's GPT2_TOKENIZER_DIR, else models/gpt2.
// Skips the running test when they are not there: they are not part of this project.
const char *fixture_gpt2_directory(void);

struct tokenizer *fixture_tokenizer(const char *path);

// The ids of a text, an stb_ds array.
int32_t *fixture_encode(const struct tokenizer *tokenizer, const char *text, size_t length);

// Encodes, decodes and demands the same bytes.
void assert_round_trip(const struct tokenizer *tokenizer, const char *text, size_t length);

void assert_ids_equal(const int32_t *found, size_t found_count, const int32_t *expected,
                      size_t expected_count);

// Encodes the text of every line of tests/data/tokenizer.jsonl, {"text": ..., "ids": [...]}, and decodes its
// ids. The ids are those of GPT-2's reference tokenizer. Returns the number of lines.
int assert_vectors(const struct tokenizer *tokenizer);

// What llm.c would write as gpt2_tokenizer.bin for a vocabulary without gaps, an stb_ds array.
char *fixture_llmc_file(const struct tokenizer *tokenizer, int32_t version);

#endif
