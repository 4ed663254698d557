// Which gpt2infer this is.
#ifndef BASE_VERSION_H
#define BASE_VERSION_H

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

#define GPT2INFER_VERSION "0.6.0"

const char *build_commit(void);   // as git describes it, "-dirty" with local changes; empty: not known
bool build_has_cuda(void);        // whether the GPU backend is in it
const char *build_compiler(void); // "gcc 12.2.0"

#ifdef __cplusplus
}
#endif
#endif
