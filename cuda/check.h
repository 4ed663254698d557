// CUDA runtime errors as the program's own statuses.
#ifndef CUDA_CHECK_H
#define CUDA_CHECK_H

#include "base/status.h"

#include <cuda_runtime_api.h>

// STATUS_OK, or a message naming `what` and the CUDA error. Exhausted device memory is STATUS_OUT_OF_MEMORY
// and is cleared, so that the context stays usable; every other error is STATUS_FAILED, and says so when the
// context is lost with it (an illegal address and the like stay with the process until it ends).
CHECKED enum status cuda_status(cudaError_t code, const char *what, struct error *error);

// Returns from the enclosing function when a runtime call or a kernel launcher fails; needs `error` in scope.
// Like TRY, only for functions that own nothing yet.
#define CUDA_TRY(call) TRY(cuda_status((call), #call, error))

#endif
