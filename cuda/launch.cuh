// Programmatic dependent launch: a kernel may be resident, with its weights already on the way, before the
// kernel in front of it is done.
//
// The rule that makes it safe: a kernel launched with launch_dependent calls dependency_wait() in every
// thread before it touches anything an earlier kernel of the same step writes. A grid is complete only when
// all its blocks are, so waiting for the kernel in front is waiting for all before it. Before the wait a
// kernel may read weights. Attention also reads the rows' lengths and the cache, which earlier steps wrote:
// the first product of a step lets the next kernel start only after its own wait (decode_linear.cu), when
// those are complete, and a kernel starts only when all blocks of the one in front have; any other kernel in
// front of attention lets it start at its end.
//
// After the wait, read activations past the L1 (load_fresh): a line another grid's block left there may be
// stale.
#ifndef CUDA_LAUNCH_CUH
#define CUDA_LAUNCH_CUH

#include "cuda/device.cuh"

#include <cuda_runtime.h>
#include <utility>

// Lets the next kernel's blocks start as soon as there is room for them. They wait for this grid's results.
__device__ inline void dependency_trigger() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

// Returns when the grid in front is complete and its writes are visible; at once after an ordinary launch.
__device__ inline void dependency_wait() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// One vector of elements, past the L1.
template <typename T, int N>
__device__ inline vec<T, N> load_fresh(const vec<T, N> *from) {
    if constexpr (sizeof(vec<T, N>) == sizeof(uint4)) {
        uint4 raw = __ldcg(reinterpret_cast<const uint4 *>(from));
        return reinterpret_cast<vec<T, N> &>(raw);
    } else {
        vec<T, N> value;
#pragma unroll
        for (int i = 0; i < N; i++) value.at[i] = __ldcg(&from->at[i]);
        return value;
    }
}

// `cluster` blocks along x form a thread-block cluster (1: none).
template <typename... Parameters, typename... Arguments>
cudaError_t launch_dependent(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes,
                             int cluster, cudaStream_t stream, Arguments &&...arguments) {
    cudaLaunchAttribute attributes[2] = {};
    attributes[0].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attributes[0].val.programmaticStreamSerializationAllowed = 1;
    attributes[1].id = cudaLaunchAttributeClusterDimension;
    attributes[1].val.clusterDim.x = (unsigned)cluster;
    attributes[1].val.clusterDim.y = attributes[1].val.clusterDim.z = 1;
    cudaLaunchConfig_t config = {};
    config.gridDim = grid;
    config.blockDim = block;
    config.dynamicSmemBytes = shared_bytes;
    config.stream = stream;
    config.attrs = attributes;
    config.numAttrs = cluster > 1 ? 2 : 1;
    return cudaLaunchKernelEx(&config, kernel, std::forward<Arguments>(arguments)...);
}

// Multiprocessors of the current device; 1 where there is none to ask, and a launch will say why.
inline int multiprocessor_count() {
    int device = 0, count = 0;
    if (cudaGetDevice(&device) != cudaSuccess ||
        cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device) != cudaSuccess)
        return 1;
    return count;
}

#endif
