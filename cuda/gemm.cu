#include "cuda/gemm.h"

#include "cuda/check.h"
#include "cuda/pointwise.h"

#include <cublasLt.h>
#include <float.h>
#include <stdlib.h>
#include <string.h>

struct gemm_plan {
    struct gemm_shape shape; // tokens rounded up to the count that shares this plan
    cublasLtHandle_t handle;
    bool deterministic; // the table
    cublasLtMatmulDescOpaque_t operation;
    cublasLtMatrixLayoutOpaque_t weight, input, output;
    cublasLtMatmulAlgo_t algorithm;
    bool bias_kernel; // bias (and gelu) follow in a kernel of their own
    struct gemm_plan *next;
};

struct gemm_table {
    cublasLtHandle_t handle;
    bool deterministic;
    struct gemm_plan *plans;
};

static enum status cublas_check(cublasStatus_t result, const char *what, const struct gemm_shape *shape,
                                struct error *error) {
    if (result == CUBLAS_STATUS_SUCCESS) return STATUS_OK;
    return error_set(error, result == CUBLAS_STATUS_ALLOC_FAILED ? STATUS_OUT_OF_MEMORY : STATUS_FAILED,
                     "cuBLAS, %s for %d tokens of %d -> %d in %s: %s", what, shape->tokens, shape->inputs,
                     shape->outputs, dtype_name(shape->input), cublasLtGetStatusString(result));
}

enum status gemm_open(bool deterministic, struct gemm_table **table, struct error *error) {
    *table = (struct gemm_table *)calloc(1, sizeof **table);
    if (!*table) return error_set(error, STATUS_OUT_OF_MEMORY, "no host memory for the table of products");
    (*table)->deterministic = deterministic;
    cublasStatus_t result = cublasLtCreate(&(*table)->handle);
    if (result == CUBLAS_STATUS_SUCCESS) return STATUS_OK;
    free(*table);
    *table = NULL;
    return error_set(error, result == CUBLAS_STATUS_ALLOC_FAILED ? STATUS_OUT_OF_MEMORY : STATUS_FAILED,
                     "cuBLAS does not start: %s", cublasLtGetStatusString(result));
}

void gemm_close(struct gemm_table *table) {
    if (!table) return;
    while (table->plans) {
        struct gemm_plan *next = table->plans->next;
        free(table->plans);
        table->plans = next;
    }
    cublasLtDestroy(table->handle);
    free(table);
}

// ---- one product

static cudaDataType_t cuda_type(enum dtype dtype) {
    switch (dtype) {
    case DTYPE_F16:
        return CUDA_R_16F;
    case DTYPE_BF16:
        return CUDA_R_16BF;
    default:
        return CUDA_R_32F;
    }
}

static cublasStatus_t set_attribute(struct gemm_plan *plan, cublasLtMatmulDescAttributes_t attribute,
                                    const void *value, size_t size) {
    return cublasLtMatmulDescSetAttribute(&plan->operation, attribute, value, size);
}

static cublasStatus_t set_tokens(struct gemm_plan *plan, int tokens) {
    uint64_t columns = (uint64_t)tokens;
    cublasStatus_t result =
        cublasLtMatrixLayoutSetAttribute(&plan->input, CUBLASLT_MATRIX_LAYOUT_COLS, &columns, sizeof columns);
    if (result != CUBLAS_STATUS_SUCCESS) return result;
    return cublasLtMatrixLayoutSetAttribute(&plan->output, CUBLASLT_MATRIX_LAYOUT_COLS, &columns,
                                            sizeof columns);
}

// The descriptors of D = A^T B: A (inputs, outputs), B (inputs, tokens), D (outputs, tokens), column-major.
static cublasStatus_t describe_product(struct gemm_plan *plan) {
    const struct gemm_shape *shape = &plan->shape;
    uint64_t m = (uint64_t)shape->outputs, n = (uint64_t)shape->tokens, k = (uint64_t)shape->inputs;
    const cublasOperation_t transpose = CUBLAS_OP_T;
    cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
    if (shape->epilogue != GEMM_PLAIN && !plan->bias_kernel)
        epilogue = shape->epilogue == GEMM_GELU ? CUBLASLT_EPILOGUE_GELU_BIAS : CUBLASLT_EPILOGUE_BIAS;
    const int32_t bias_type = (int32_t)cuda_type(shape->output);
    // CUBLAS_COMPUTE_32F keeps f32 operands whole: TF32 has a compute type of its own.
    const cublasStatus_t results[] = {
        cublasLtMatmulDescInit(&plan->operation, CUBLAS_COMPUTE_32F, CUDA_R_32F),
        set_attribute(plan, CUBLASLT_MATMUL_DESC_TRANSA, &transpose, sizeof transpose),
        set_attribute(plan, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue),
        set_attribute(plan, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &bias_type, sizeof bias_type),
        cublasLtMatrixLayoutInit(&plan->weight, cuda_type(shape->input), k, m, (int64_t)k),
        cublasLtMatrixLayoutInit(&plan->input, cuda_type(shape->input), k, n, (int64_t)k),
        cublasLtMatrixLayoutInit(&plan->output, cuda_type(shape->output), m, n, (int64_t)m),
    };
    for (cublasStatus_t result : results) {
        if (result != CUBLAS_STATUS_SUCCESS) return result;
    }
    return CUBLAS_STATUS_SUCCESS;
}

// The bias pointer lives in the descriptor, so that a plan is changed by running it: one thread per table.
static cublasStatus_t set_bias(struct gemm_plan *plan, const void *bias) {
    if (plan->shape.epilogue == GEMM_PLAIN || plan->bias_kernel) return CUBLAS_STATUS_SUCCESS;
    return set_attribute(plan, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof bias);
}

static cublasStatus_t multiply(struct gemm_plan *plan, const cublasLtMatmulAlgo_t *algorithm, int tokens,
                               const struct gemm_operands *operands, const struct gemm_target *target) {
    const float alpha = 1.0f, beta = plan->shape.epilogue == GEMM_RESIDUAL ? 1.0f : 0.0f;
    cublasStatus_t result = set_tokens(plan, tokens);
    if (result == CUBLAS_STATUS_SUCCESS) result = set_bias(plan, operands->bias);
    if (result != CUBLAS_STATUS_SUCCESS) return result;
    return cublasLtMatmul(plan->handle, &plan->operation, &alpha, operands->weight, &plan->weight,
                          operands->input, &plan->input, &beta, operands->output, &plan->output,
                          operands->output, &plan->output, algorithm, target->workspace, GEMM_WORKSPACE_BYTES,
                          target->stream);
}

enum status gemm_run(const struct gemm_plan *plan, int tokens, const struct gemm_operands *operands,
                     const struct gemm_target *target, struct error *error) {
    struct gemm_plan *mutable_plan = const_cast<struct gemm_plan *>(plan);
    TRY(cublas_check(multiply(mutable_plan, &plan->algorithm, tokens, operands, target), "product",
                     &plan->shape, error));
    if (!plan->bias_kernel) return STATUS_OK;
    CUDA_TRY(bias_gelu(plan->shape.output, operands->output, operands->bias, tokens, plan->shape.outputs,
                       plan->shape.epilogue == GEMM_GELU, target->stream));
    return STATUS_OK;
}

// ---- choosing the algorithm

enum { CANDIDATES = 16, TRIAL_ROUNDS = 3 };

static cublasStatus_t list_candidates(struct gemm_plan *plan, const struct gemm_operands *trial,
                                      cublasLtMatmulHeuristicResult_t *candidates, int *count) {
    *count = 0;
    cublasLtMatmulPreferenceOpaque_t preference;
    const size_t workspace = GEMM_WORKSPACE_BYTES;
    // Partial sums of a split product are kept in f32: never in a 16-bit output.
    const uint32_t reductions = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE |
                                (plan->shape.output == DTYPE_F32 ? CUBLASLT_REDUCTION_SCHEME_INPLACE : 0);
    const cublasStatus_t results[] = {
        cublasLtMatmulPreferenceInit(&preference),
        cublasLtMatmulPreferenceSetAttribute(&preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                             &workspace, sizeof workspace),
        cublasLtMatmulPreferenceSetAttribute(&preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
                                             &reductions, sizeof reductions),
        set_tokens(plan, plan->shape.tokens),
        set_bias(plan, trial->bias), // its alignment is looked at
    };
    for (cublasStatus_t result : results) {
        if (result != CUBLAS_STATUS_SUCCESS) return result;
    }
    return cublasLtMatmulAlgoGetHeuristic(plan->handle, &plan->operation, &plan->weight, &plan->input,
                                          &plan->output, &plan->output, &preference, CANDIDATES, candidates,
                                          count);
}

// Seconds one product may take, from below: 600 TFLOP/s in 16 bits, 50 in f32.
static double least_seconds(const struct gemm_shape *shape) {
    double flop = 2.0 * shape->outputs * shape->inputs * shape->tokens;
    return flop / (shape->input == DTYPE_F32 ? 50e12 : 600e12);
}

// Records `runs` products in a graph, because the launch of a small one takes the host longer than the
// product takes the device. False when the algorithm cannot run.
static bool capture_trial(struct gemm_plan *plan, const cublasLtMatmulAlgo_t *algorithm, int tokens, int runs,
                          const struct gemm_operands *trials, int count, const struct gemm_target *target,
                          cudaGraphExec_t *executable) {
    cudaGraph_t graph = NULL;
    if (cudaStreamBeginCapture(target->stream, cudaStreamCaptureModeRelaxed) != cudaSuccess) return false;
    bool fine = true;
    for (int i = 0; i < runs && fine; i++)
        fine = multiply(plan, algorithm, tokens, &trials[i % count], target) == CUBLAS_STATUS_SUCCESS;
    fine = cudaStreamEndCapture(target->stream, &graph) == cudaSuccess && fine;
    if (fine) fine = cudaGraphInstantiate(executable, graph, 0) == cudaSuccess;
    if (graph) cudaGraphDestroy(graph);
    return fine;
}

// The shortest of a few rounds in milliseconds; FLT_MAX when the algorithm cannot run.
static float time_trial(cudaGraphExec_t executable, cudaEvent_t start, cudaEvent_t stop, int rounds,
                        cudaStream_t stream) {
    float best = FLT_MAX;
    if (cudaGraphLaunch(executable, stream) != cudaSuccess) return best;
    for (int i = 0; i < rounds; i++) {
        float elapsed;
        if (cudaEventRecord(start, stream) != cudaSuccess ||
            cudaGraphLaunch(executable, stream) != cudaSuccess ||
            cudaEventRecord(stop, stream) != cudaSuccess || cudaEventSynchronize(stop) != cudaSuccess ||
            cudaEventElapsedTime(&elapsed, start, stop) != cudaSuccess)
            return FLT_MAX;
        if (elapsed < best) best = elapsed;
    }
    return best;
}

// Index of the fastest candidate, or of the first that runs, -1 when none does. cuBLAS's first choice stays
// unless another one is clearly faster, so that noise does not change the rounding of results from run to
// run.
static int fastest_candidate(struct gemm_plan *plan, int tokens,
                             const cublasLtMatmulHeuristicResult_t *candidates, int candidate_count,
                             const struct gemm_operands *trials, int count, const struct gemm_target *target,
                             cudaEvent_t start, cudaEvent_t stop) {
    const double seconds = least_seconds(&plan->shape);
    const int runs = seconds > 200e-6 ? 2 : count > 12 ? count : 12;
    const int rounds = seconds > 200e-6 ? 1 : TRIAL_ROUNDS;
    const int tried = seconds > 200e-6 && candidate_count > 6 ? 6 : candidate_count;
    int best = -1;
    float best_time = FLT_MAX;
    for (int i = 0; i < tried && !(plan->deterministic && best >= 0); i++) {
        if (candidates[i].state != CUBLAS_STATUS_SUCCESS) continue;
        cudaGraphExec_t executable = NULL;
        float elapsed = FLT_MAX;
        if (capture_trial(plan, &candidates[i].algo, tokens, runs, trials, count, target, &executable))
            elapsed = time_trial(executable, start, stop, rounds, target->stream);
        if (executable) cudaGraphExecDestroy(executable);
        if (elapsed < (best < 0 ? FLT_MAX : 0.97f * best_time)) {
            best = i;
            best_time = elapsed;
        }
    }
    return best;
}

static enum status choose_algorithm(struct gemm_plan *plan, int tokens, const struct gemm_operands *trials,
                                    int count, const struct gemm_target *target, bool *found,
                                    struct error *error) {
    cublasLtMatmulHeuristicResult_t candidates[CANDIDATES];
    int candidate_count;
    *found = false;
    TRY(cublas_check(describe_product(plan), "description", &plan->shape, error));
    // No candidate is an ordinary answer here: the caller asks for less.
    if (list_candidates(plan, trials, candidates, &candidate_count) != CUBLAS_STATUS_SUCCESS)
        return STATUS_OK;
    cudaEvent_t start = NULL, stop = NULL;
    int best = -1;
    if (cudaEventCreate(&start) == cudaSuccess && cudaEventCreate(&stop) == cudaSuccess)
        best =
            fastest_candidate(plan, tokens, candidates, candidate_count, trials, count, target, start, stop);
    if (start) cudaEventDestroy(start);
    if (stop) cudaEventDestroy(stop);
    cudaGetLastError(); // what a refused candidate left behind; an error that stays is found by the next call
    if (best >= 0) plan->algorithm = candidates[best].algo;
    *found = best >= 0;
    return cuda_status(cudaStreamSynchronize(target->stream), "timing of matrix products", error);
}

static enum status make_plan(struct gemm_plan *plan, int tokens, const struct gemm_operands *trials,
                             int count, const struct gemm_target *target, struct error *error) {
    bool found = false;
    // cuBLAS does not say how exactly its GELU computes tanh, so f32, the reference, uses our own.
    plan->bias_kernel = plan->shape.epilogue == GEMM_GELU && plan->shape.output == DTYPE_F32;
    TRY(choose_algorithm(plan, tokens, trials, count, target, &found, error));
    if (!found && plan->shape.epilogue != GEMM_PLAIN && !plan->bias_kernel) {
        plan->bias_kernel = true; // not every shape has an algorithm with this epilogue
        TRY(choose_algorithm(plan, tokens, trials, count, target, &found, error));
    }
    if (found) return STATUS_OK;
    return cublas_check(CUBLAS_STATUS_NOT_SUPPORTED, "choice of an algorithm", &plan->shape, error);
}

// ---- the table

// Exact up to 256, where every decode batch is tuned for itself; above, eight steps per octave.
static int shared_tokens(int tokens) {
    if (tokens <= 256) return tokens;
    int step = 1;
    while (tokens >> 4 >= step) step <<= 1; // tokens / 16 < step <= tokens / 8
    return (tokens - 1) / step * step + step;
}

static bool same_shape(const struct gemm_shape *a, const struct gemm_shape *b) {
    return a->outputs == b->outputs && a->inputs == b->inputs && a->tokens == b->tokens &&
           a->input == b->input && a->output == b->output && a->epilogue == b->epilogue;
}

enum status gemm_find(struct gemm_table *table, const struct gemm_shape *shape,
                      const struct gemm_operands *trials, int count, const struct gemm_target *target,
                      const struct gemm_plan **plan, struct error *error) {
    struct gemm_shape wanted = *shape;
    wanted.tokens = shared_tokens(shape->tokens);
    for (const struct gemm_plan *known = table->plans; known; known = known->next) {
        if (!same_shape(&known->shape, &wanted)) continue;
        *plan = known;
        return STATUS_OK;
    }
    struct gemm_plan *made = (struct gemm_plan *)calloc(1, sizeof *made);
    if (!made) return error_set(error, STATUS_OUT_OF_MEMORY, "no host memory for a matrix product's plan");
    made->shape = wanted;
    made->handle = table->handle;
    made->deterministic = table->deterministic;
    enum status status = make_plan(made, shape->tokens, trials, count, target, error);
    if (status != STATUS_OK) {
        free(made);
        return status;
    }
    made->next = table->plans;
    table->plans = made;
    *plan = made;
    return STATUS_OK;
}
