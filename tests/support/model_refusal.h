// Damaging a model's files, and demanding that the damage is refused.
#ifndef TESTS_SUPPORT_MODEL_REFUSAL_H
#define TESTS_SUPPORT_MODEL_REFUSAL_H

#include "tests/support/scratch_dir.h"

// `name` must not open, the message must begin with `where` and contain `says`.
void assert_model_refused(const char *name, const char *where, const char *says);
void assert_model_opens(const char *name);

// Replaces the first `find`, which must be there, in a file of the directory.
void replace_in_file(const struct scratch_dir *dir, const char *file, const char *find,
                     const char *replacement);
// The same in the header of a safetensors file, whose length follows. NULL replaces the whole header.
void replace_in_header(const struct scratch_dir *dir, const char *file, const char *find,
                       const char *replacement);

#endif
