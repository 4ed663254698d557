// The Makefile defines BUILD_COMMIT and BUILD_HAS_CUDA for this file alone, so that a commit recompiles
// nothing else.
#include "base/version.h"

const char *build_commit(void) {
    return BUILD_COMMIT;
}

bool build_has_cuda(void) {
    return BUILD_HAS_CUDA;
}

const char *build_compiler(void) {
#ifdef __clang__
    return "clang " __clang_version__;
#else
    return "gcc " __VERSION__;
#endif
}
