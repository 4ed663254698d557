#include "cuda/check.h"

// Errors after which the process's CUDA context refuses all further work.
static bool context_is_lost(cudaError_t code) {
    switch (code) {
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchFailure:
    case cudaErrorLaunchTimeout:
    case cudaErrorAssert:
    case cudaErrorIllegalInstruction:
    case cudaErrorMisalignedAddress:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorHardwareStackError:
    case cudaErrorECCUncorrectable:
    case cudaErrorNvlinkUncorrectable:
        return true;
    default:
        return false;
    }
}

enum status cuda_status(cudaError_t code, const char *what, struct error *error) {
    if (code == cudaSuccess) return STATUS_OK;
    (void)cudaGetLastError(); // the runtime repeats an error at the next query unless it is fetched
    if (code == cudaErrorMemoryAllocation)
        return error_set(error, STATUS_OUT_OF_MEMORY, "%s: out of device memory", what);
    return error_set(error, STATUS_FAILED, "%s: %s (%s)%s", what, cudaGetErrorString(code),
                     cudaGetErrorName(code),
                     context_is_lost(code) ? "; this process cannot use the device any more" : "");
}
