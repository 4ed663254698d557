// The CUDA backend: which devices there are, and a model resident on one of them.
#include "cuda/cached_step.h"
#include "cuda/check.h"
#include "cuda/decode.h"
#include "cuda/probe.h"
#include "cuda/results.h"
#include "cuda/rows.h"
#include "cuda/score_sequence.h"
#include "cuda/session.h"

#include <stdio.h>
#include <stdlib.h>

// ---- devices

// Whether this build has code for a device of compute capability major.minor (as 10 major + minor): machine
// code runs on its own major version from its minor version on, the PTX of the newest architecture on all
// later ones. Asking the runtime instead would create a context, with its memory, on every device.
static bool code_runs_on(int capability) {
    static const int architectures[] = {__CUDA_ARCH_LIST__}; // ascending, e.g. 800, 900
    const int count = (int)(sizeof architectures / sizeof architectures[0]);
    for (int architecture : architectures) {
        const int built = architecture / 10;
        if (built / 10 == capability / 10 && built <= capability) return true;
    }
    return architectures[count - 1] / 10 <= capability;
}

static int capability_of(int index) {
    int major = 0, minor = 0;
    if (cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, index) != cudaSuccess ||
        cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, index) != cudaSuccess) {
        cudaGetLastError();
        return 0;
    }
    return 10 * major + minor;
}

// Devices from 0 on that this build has code for; CUDA orders them fastest first.
static int cuda_device_count(void) {
    int present = 0, usable = 0;
    if (cudaGetDeviceCount(&present) != cudaSuccess) {
        cudaGetLastError(); // no driver or no device is not an error
        return 0;
    }
    while (usable < present && code_runs_on(capability_of(usable))) usable++;
    return usable;
}

static enum status cuda_describe(int index, struct device_info *info, struct error *error) {
    cudaDeviceProp properties;
    int driver, runtime;
    size_t available, total;
    CUDA_TRY(cudaSetDevice(index));
    CUDA_TRY(cudaGetDeviceProperties(&properties, index));
    CUDA_TRY(cudaDriverGetVersion(&driver));
    CUDA_TRY(cudaRuntimeGetVersion(&runtime));
    CUDA_TRY(cudaMemGetInfo(&available, &total));
    CUDA_TRY(cudaDeviceGetPCIBusId(info->pci_bus_id, sizeof info->pci_bus_id, index));
    const int capability = 10 * properties.major + properties.minor;
    snprintf(info->backend, sizeof info->backend, "cuda");
    snprintf(info->name, sizeof info->name, "%.127s", properties.name);
    snprintf(info->detail, sizeof info->detail, "sm_%d, driver %d.%d, runtime %d.%d", capability,
             driver / 1000, driver % 1000 / 10, runtime / 1000, runtime % 1000 / 10);
    info->index = index;
    info->compute_units = properties.multiProcessorCount;
    info->memory_bytes = (int64_t)total;
    info->memory_free = (int64_t)available;
    info->cache_bytes = properties.l2CacheSize;
    info->dtypes = 1u << DTYPE_F32 | 1u << DTYPE_F16 | (capability >= 80 ? 1u << DTYPE_BF16 : 0);
    info->fastest_dtype = capability >= 80 ? DTYPE_BF16 : DTYPE_F16;
    return STATUS_OK;
}

// ---- one model on one device

static void cuda_close(struct backend *base) {
    struct cuda_backend *backend = (struct cuda_backend *)base;
    cudaSetDevice(base->index);
    gemm_close(backend->gemms);
    weights_free(&backend->weights);
    if (backend->stream) cudaStreamDestroy(backend->stream);
    free(backend);
}

static enum status open_parts(struct cuda_backend *backend, const struct model *model, struct error *error) {
    CUDA_TRY(cudaSetDevice(backend->base.index));
    CUDA_TRY(cudaStreamCreateWithFlags(&backend->stream, cudaStreamNonBlocking));
    TRY(gemm_open(backend->base.options.deterministic, &backend->gemms, error));
    cached_step_find_kernels(backend);
    return weights_upload(&backend->weights, model, &backend->base.options, error);
}

static enum status cuda_open(const struct backend *base, const struct model *model, struct backend **opened,
                             struct error *error) {
    struct cuda_backend *backend = (struct cuda_backend *)calloc(1, sizeof *backend);
    if (!backend) return error_set(error, STATUS_OUT_OF_MEMORY, "no host memory for a backend");
    backend->base = *base;
    enum status status = open_parts(backend, model, error);
    if (status != STATUS_OK) {
        cuda_close(&backend->base);
        return status;
    }
    *opened = &backend->base;
    return STATUS_OK;
}

// In the order of struct backend_ops.
extern "C" const struct backend_ops cuda_backend_ops = {
    "cuda",           cuda_device_count, cuda_describe,      cuda_open,       cuda_close,
    cuda_ledger,      cuda_session_open, cuda_session_close, cuda_prefill,    cuda_decode,
    cuda_collect,     cuda_retire,       cuda_logits,        cuda_step_times, cuda_score,
    cached_step_path, cuda_probe,
};
