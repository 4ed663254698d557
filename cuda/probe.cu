#include "cuda/probe.h"

#include "cuda/check.h"
#include "cuda/gemm.h"
#include "cuda/session.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <math.h>
#include <stdlib.h>

enum {
    LAUNCHES = 15,        // of which the median is taken
    LEAST_EXECUTIONS = 4, // in one graph
    EMPTY_NODES = 100,    // of a graph that tells what one costs among others
    READ_BLOCKS_PER_UNIT = 8,
    READ_THREADS = 256,
};

static const int MOST_BUFFERS = 256; // of cold data in turn

// ---- measuring

static int compare_floats(const void *a, const void *b) {
    const float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

// Median seconds of one launch of several in a row: the host runs ahead, as it does while decoding, so that
// its own time to launch is not counted.
static enum status time_launches(cudaGraphExec_t executable, const cudaEvent_t *events, cudaStream_t stream,
                                 double *seconds, struct error *error) {
    float milliseconds[LAUNCHES];
    CUDA_TRY(cudaGraphLaunch(executable, stream)); // loads code, warms clocks
    for (int i = 0; i <= LAUNCHES; i++) {
        CUDA_TRY(cudaEventRecord(events[i], stream));
        if (i < LAUNCHES) CUDA_TRY(cudaGraphLaunch(executable, stream));
    }
    CUDA_TRY(cudaStreamSynchronize(stream));
    for (int i = 0; i < LAUNCHES; i++)
        CUDA_TRY(cudaEventElapsedTime(&milliseconds[i], events[i], events[i + 1]));
    qsort(milliseconds, LAUNCHES, sizeof milliseconds[0], compare_floats);
    *seconds = 1e-3 * milliseconds[LAUNCHES / 2];
    return STATUS_OK;
}

static enum status time_graph(cudaGraph_t graph, cudaStream_t stream, double *seconds, struct error *error) {
    cudaGraphExec_t executable = NULL;
    cudaEvent_t events[LAUNCHES + 1] = {};
    enum status status = cuda_status(cudaGraphInstantiate(&executable, graph, 0), "graph of a probe", error);
    for (cudaEvent_t &event : events) {
        if (status == STATUS_OK) status = cuda_status(cudaEventCreate(&event), "event", error);
    }
    if (status == STATUS_OK) status = time_launches(executable, events, stream, seconds, error);
    for (cudaEvent_t event : events) {
        if (event) cudaEventDestroy(event);
    }
    if (executable) cudaGraphExecDestroy(executable);
    return status;
}

// Median seconds of one execution, from graphs of `executions` of them. `launch(i)` returns a status.
template <typename Launch>
static enum status time_executions(int executions, cudaStream_t stream, double *seconds, struct error *error,
                                   Launch launch) {
    cudaGraph_t graph = NULL;
    CUDA_TRY(cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed));
    enum status status = STATUS_OK;
    for (int i = 0; i < executions && status == STATUS_OK; i++) status = launch(i);
    cudaError_t code = cudaStreamEndCapture(stream, &graph);
    if (status == STATUS_OK) status = cuda_status(code, "capture of a probe", error);
    if (status == STATUS_OK) status = time_graph(graph, stream, seconds, error);
    if (graph) cudaGraphDestroy(graph);
    *seconds /= executions;
    return status;
}

// How many buffers of `bytes` in turn are never found in the L2 cache again.
static int cold_buffers(const struct cuda_backend *backend, int64_t bytes) {
    int cache = 0;
    if (cudaDeviceGetAttribute(&cache, cudaDevAttrL2CacheSize, backend->base.index) != cudaSuccess)
        cache = 64 << 20;
    const int64_t count = (int64_t)(2.5 * cache) / (bytes > 0 ? bytes : 1) + 1;
    return (int)(count < MOST_BUFFERS ? count : MOST_BUFFERS);
}

// ---- kernels

static __global__ void empty_kernel() {}

// Sums `count` words of 16 bytes; each thread keeps four loads in flight.
static __global__ void read_kernel(const uint4 *data, int64_t count, unsigned *sink) {
    const int64_t threads = (int64_t)gridDim.x * blockDim.x;
    int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    unsigned sum = 0;
    for (; i + 3 * threads < count; i += 4 * threads) {
        uint4 words[4];
#pragma unroll
        for (int j = 0; j < 4; j++) words[j] = __ldcs(&data[i + j * threads]);
#pragma unroll
        for (int j = 0; j < 4; j++) sum += words[j].x ^ words[j].y ^ words[j].z ^ words[j].w;
    }
    for (; i < count; i += threads) {
        const uint4 word = __ldcs(&data[i]);
        sum += word.x ^ word.y ^ word.z ^ word.w;
    }
    // Hardly ever true, which the compiler cannot know: it has to keep the loads.
    if (sum == 0x9e3779b9u) *sink = sum;
}

template <typename T>
__device__ T from_float(float value);
template <>
__device__ float from_float(float value) {
    return value;
}
template <>
__device__ __half from_float(float value) {
    return __float2half_rn(value);
}
template <>
__device__ __nv_bfloat16 from_float(float value) {
    return __float2bfloat16_rn(value);
}

// Numbers spread over -0.05 .. 0.05 like trained weights: products of zeros draw less power and run faster.
template <typename T>
static __global__ void fill_kernel(T *data, int64_t count) {
    const int64_t threads = (int64_t)gridDim.x * blockDim.x;
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += threads) {
        unsigned bits = (unsigned)i * 2654435761u;
        bits ^= bits >> 15;
        bits *= 2246822519u;
        bits ^= bits >> 13;
        data[i] = from_float<T>(((float)(bits >> 8) * 0x1p-24f - 0.5f) * 0.1f);
    }
}

static enum status fill(enum dtype dtype, void *data, int64_t count, cudaStream_t stream,
                        struct error *error) {
    enum { BLOCKS = 1024, THREADS = 256 };
    switch (dtype) {
    case DTYPE_F16:
        fill_kernel<<<BLOCKS, THREADS, 0, stream>>>((__half *)data, count);
        break;
    case DTYPE_BF16:
        fill_kernel<<<BLOCKS, THREADS, 0, stream>>>((__nv_bfloat16 *)data, count);
        break;
    default:
        fill_kernel<<<BLOCKS, THREADS, 0, stream>>>((float *)data, count);
        break;
    }
    CUDA_TRY(cudaGetLastError());
    return STATUS_OK;
}

// ---- the probes

static enum status probe_launch(struct cuda_backend *backend, double *seconds, struct error *error) {
    return time_executions(EMPTY_NODES, backend->stream, seconds, error, [&](int) {
        empty_kernel<<<1, 32, 0, backend->stream>>>();
        return cuda_status(cudaGetLastError(), "empty kernel", error);
    });
}

static enum status probe_read(struct cuda_backend *backend, int64_t bytes, double *seconds,
                              struct error *error) {
    const int64_t words = bytes / (int64_t)sizeof(uint4);
    const int buffers = cold_buffers(backend, bytes);
    const int executions = buffers > LEAST_EXECUTIONS ? buffers : LEAST_EXECUTIONS;
    int units;
    if (words < 1) return error_set(error, STATUS_USAGE, "a read probe of %lld bytes", (long long)bytes);
    if (words > INT64_MAX / (int64_t)sizeof(uint4) / MOST_BUFFERS)
        return error_set(error, STATUS_OUT_OF_MEMORY, "a read probe of %lld bytes", (long long)bytes);
    CUDA_TRY(cudaDeviceGetAttribute(&units, cudaDevAttrMultiProcessorCount, backend->base.index));
    uint4 *data = NULL;
    const size_t total = (size_t)(words * buffers) * sizeof *data;
    TRY(cuda_status(cudaMalloc((void **)&data, total + sizeof *data), "memory of a read probe", error));
    enum status status = fill(DTYPE_F32, data, (int64_t)(total / sizeof(float)), backend->stream, error);
    if (status == STATUS_OK) {
        status = time_executions(executions, backend->stream, seconds, error, [&](int i) {
            read_kernel<<<units * READ_BLOCKS_PER_UNIT, READ_THREADS, 0, backend->stream>>>(
                data + words * (i % buffers), words, (unsigned *)(data + words * buffers));
            return cuda_status(cudaGetLastError(), "read probe", error);
        });
    }
    cudaFree(data);
    return status;
}

// A product's memory: weights `copies` times over, input and output, each aligned.
struct product_memory {
    char *memory;
    size_t weight_bytes, input_bytes, output_bytes;
    int copies;
};

static struct gemm_operands product_copy(const struct product_memory *product, int copy) {
    char *weights = product->memory + GEMM_WORKSPACE_BYTES;
    char *input = weights + product->weight_bytes * (size_t)product->copies;
    return {weights + product->weight_bytes * (size_t)copy, NULL, input, input + product->input_bytes};
}

static enum status time_product(struct cuda_backend *backend, const struct gemm_shape *shape,
                                const struct product_memory *product, double *seconds, struct error *error) {
    struct gemm_operands operands[MOST_BUFFERS];
    const struct gemm_target target = {backend->stream, product->memory};
    const struct gemm_plan *plan;
    const size_t filled = product->weight_bytes * (size_t)product->copies + product->input_bytes;
    for (int i = 0; i < product->copies; i++) operands[i] = product_copy(product, i);
    TRY(fill(shape->input, product->memory + GEMM_WORKSPACE_BYTES,
             (int64_t)(filled / dtype_size(shape->input)), backend->stream, error));
    TRY(gemm_find(backend->gemms, shape, operands, product->copies, &target, &plan, error));
    const int executions = product->copies > LEAST_EXECUTIONS ? product->copies : LEAST_EXECUTIONS;
    return time_executions(executions, backend->stream, seconds, error, [&](int i) {
        return gemm_run(plan, shape->tokens, &operands[i % product->copies], &target, error);
    });
}

static size_t aligned_bytes(int64_t rows, int64_t columns, enum dtype dtype) {
    return ((size_t)rows * (size_t)columns * dtype_size(dtype) + 255) / 256 * 256;
}

// (m, k) x (n, k)^T: m tokens, n outputs. Cold weights, or the same ones again and again for the peak.
static enum status probe_product(struct cuda_backend *backend, const struct probe *probe, double *seconds,
                                 struct error *error) {
    const enum dtype dtype = backend->base.options.dtype;
    if (probe->m < 1 || probe->n < 1 || probe->k < 1)
        return error_set(error, STATUS_USAGE, "a product of m = %d, n = %d, k = %d", probe->m, probe->n,
                         probe->k);
    const struct gemm_shape shape = {probe->n, probe->k, probe->m, dtype, dtype, GEMM_PLAIN};
    struct product_memory product;
    product.weight_bytes = aligned_bytes(probe->n, probe->k, dtype);
    product.input_bytes = aligned_bytes(probe->m, probe->k, dtype);
    product.output_bytes = aligned_bytes(probe->m, probe->n, dtype);
    product.copies = probe->kind == PROBE_MATMUL ? cold_buffers(backend, (int64_t)product.weight_bytes) : 1;
    const size_t total = GEMM_WORKSPACE_BYTES + product.weight_bytes * (size_t)product.copies +
                         product.input_bytes + product.output_bytes;
    TRY(cuda_status(cudaMalloc((void **)&product.memory, total), "memory of a product probe", error));
    enum status status = time_product(backend, &shape, &product, seconds, error);
    cudaStreamSynchronize(backend->stream);
    cudaFree(product.memory);
    return status;
}

enum status cuda_probe(struct backend *base, const struct probe *probe, double *seconds,
                       struct error *error) {
    struct cuda_backend *backend = (struct cuda_backend *)base;
    CUDA_TRY(cudaSetDevice(base->index));
    switch (probe->kind) {
    case PROBE_READ:
        return probe_read(backend, probe->bytes, seconds, error);
    case PROBE_LAUNCH:
        return probe_launch(backend, seconds, error);
    default:
        return probe_product(backend, probe, seconds, error);
    }
}
