#include "cuda/persistent_step.h"

#include "cuda/decode_linear.h"
#include "cuda/launch.cuh"
#include "cuda/pack_slices.h"
#include "cuda/persistent_kernel.cuh"

#include <new>

namespace persistent {

// ---- what fits, and what lies where

enum { SHARED_BYTES = 227 << 10, MIN_STAGES = 4, HEAD_SLOTS_IN_FLIGHT = 4 };

// Slots that are on their way at once. What is asked for beyond what keeps the memory busy waits in front of
// it, and whatever the blocks want from each other waits behind that: with all slots asked for at once,
// gpt2-large takes an eighth longer. The fewest that do are two of GPT-2's sizes, three of gpt2-xl (H100,
// H200), and four where slots are kept while blocks wait for each other. In the LM head nobody waits for
// anybody until it ends, and what counts is that its slowest block has never been without weights on the way.
static int slots_in_flight(int slot_bytes, bool kept) {
    const int least_bytes = 24 << 10;
    return kept ? 4 : max(slot_bytes > least_bytes ? 3 : 2, divide_up(least_bytes, slot_bytes));
}

// `groups`: of hidden units, of a cluster, at most.
static ring_layout lay_out(int B, int C, int groups) {
    const int rows = rows_of_instance(C, B);
    const shared_layout at = shared_layout_of(rows, C);
    ring_layout ring;
    ring.inner_row = groups * SLICE_BYTES + 16;
    ring.slots = round_up(at.inner + 2 * rows * ring.inner_row, SLOT_BYTES);
    ring.stages = min((SHARED_BYTES - ring.slots) / at.slot, (int)MAX_STAGES);
    ring.bytes = ring.slots + ring.stages * at.slot;
    ring.in_flight = min(slots_in_flight(at.slot, has_stream_once(rows)), ring.stages);
    ring.in_flight_head = min((int)HEAD_SLOTS_IN_FLIGHT, ring.stages);
    return ring;
}

static step_function function_of(enum dtype dtype, int C, int B) {
    return dtype == DTYPE_BF16 ? bf16_instance(C, B) : f16_instance(C, B);
}

// A launch of clusters that must all be resident at once.
struct launch {
    cudaLaunchAttribute attributes[2];
    cudaLaunchConfig_t config;

    launch(int clusters, int shared_bytes, cudaStream_t stream) : attributes(), config() {
        attributes[0].id = cudaLaunchAttributeClusterDimension;
        attributes[0].val.clusterDim.x = CLUSTER;
        attributes[0].val.clusterDim.y = attributes[0].val.clusterDim.z = 1;
        attributes[1].id = cudaLaunchAttributeCooperative;
        attributes[1].val.cooperative = 1;
        config.gridDim = dim3((unsigned)(clusters * CLUSTER));
        config.blockDim = dim3(THREADS);
        config.dynamicSmemBytes = (size_t)shared_bytes;
        config.stream = stream;
        config.attrs = attributes;
        config.numAttrs = 2;
    }
};

// How many clusters fit on the device at once, at most MAX_CLUSTERS; 0: none, or the device cannot tell.
static int clusters_that_fit(step_function kernel, int shared_bytes) {
    int clusters = 0;
    const launch most(MAX_CLUSTERS, shared_bytes, NULL);
    const bool known = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                            SHARED_BYTES) == cudaSuccess &&
                       cudaOccupancyMaxActiveClusters(&clusters, kernel, &most.config) == cudaSuccess;
    cudaGetLastError(); // an answer, not an error
    return known ? min(clusters, (int)MAX_CLUSTERS) : 0;
}

enum { LEAST_CLUSTERS = 8 };

// Whether the driver launches so many at once, which it may refuse where the device is shared. No steps: the
// kernel returns at once.
static bool can_launch(step_function kernel, int clusters, int shared_bytes, cudaStream_t stream) {
    const launch resident(clusters, shared_bytes, stream);
    const bool can = cudaLaunchKernelEx(&resident.config, kernel, arguments{}) == cudaSuccess;
    cudaGetLastError(); // an answer, not an error
    return can;
}

// With more clusters a block has fewer hidden units to keep, and room for more stages.
static ring_layout lay_out_at_least(int B, int C, int F) {
    return lay_out(B, C, divide_up(F / HEAD_D, (int)LEAST_CLUSTERS));
}

// Deals groups of hidden units out to the clusters: each to the one whose blocks have least to read so far
// (a head is four slots of weights, a group two), but none more than an even share rounded up: a phase takes
// as long as its busiest cluster. Returns the most that one has.
static int deal_groups(arguments *a) {
    const int groups = a->m.F / HEAD_D, most = divide_up(groups, a->clusters);
    int count[MAX_CLUSTERS] = {};
    for (int group = 0; group < groups; group++) {
        int least = -1, least_slots = 0;
        for (int c = 0; c < a->clusters; c++) {
            const int slots = 4 * count_of(a->m.H, a->clusters, c) + 2 * count[c];
            if (count[c] == most || (least >= 0 && slots >= least_slots)) continue;
            least = c;
            least_slots = slots;
        }
        count[least]++;
    }
    a->first_group[0] = 0;
    for (int c = 0; c < a->clusters; c++) a->first_group[c + 1] = a->first_group[c] + count[c];
    return most;
}

// Where the parts of the workspace lie, in bytes.
struct workspace_layout {
    size_t attproj, fcproj, partials, stream, moments, candidates, bytes;
};
static workspace_layout lay_out_workspace(int L, int C, int F, int B) {
    const size_t rows = (size_t)rows_of_instance(C, B), layers = (size_t)L;
    workspace_layout at = {};
    at.fcproj = layers * C * C * 2;
    at.partials = at.fcproj + layers * C * F * 2;
    const size_t published = has_stream_once((int)rows) ? 2 * (2 * layers + 1) * rows * C : 0; // channels
    at.stream = at.partials + 2 * 2 * layers * MAX_CLUSTERS * rows * C * sizeof(float);
    at.moments = at.stream + published * 2;
    at.candidates = at.moments + published / CHUNK_K * sizeof(uint2);
    at.bytes = at.candidates + 3 * rows * MAX_CLUSTERS * CLUSTER * sizeof(uint2);
    return at;
}

} // namespace persistent

using namespace persistent;

struct persistent_step {
    step_function kernel;
    arguments a;
};

bool persistent_supports(enum dtype dtype, int B, int C, int H, int F, cudaStream_t stream) {
    if (dtype == DTYPE_F32 || B < 1 || B > PERSISTENT_ROWS || C % 64 != 0 || C > MAX_C ||
        C != H * PERSISTENT_D || F % HEAD_D != 0 || !decode_device_supported())
        return false;
    const ring_layout ring = lay_out_at_least(B, C, F);
    if (ring.stages < MIN_STAGES) return false;
    const step_function kernel = function_of(dtype, C, B);
    const int clusters = clusters_that_fit(kernel, ring.bytes);
    return clusters >= LEAST_CLUSTERS && can_launch(kernel, clusters, ring.bytes, stream);
}

size_t persistent_workspace_bytes(int L, int C, int F, int B) {
    return lay_out_workspace(L, C, F, B).bytes;
}

static cudaError_t fill(struct persistent_step *step, const struct persistent_model *m,
                        const struct persistent_rows *rows, char *workspace, cudaStream_t stream) {
    const workspace_layout at = lay_out_workspace(m->L, m->C, m->F, rows->B);
    arguments &a = step->a;
    step->kernel = function_of(m->dtype, m->C, rows->B);
    a.m = *m;
    a.r = *rows;
    a.attproj = workspace + at.attproj;
    a.fcproj = workspace + at.fcproj;
    a.partials = reinterpret_cast<float *>(workspace + at.partials);
    a.stream = reinterpret_cast<uint4 *>(workspace + at.stream);
    a.moments = reinterpret_cast<uint2 *>(workspace + at.moments);
    a.candidates = reinterpret_cast<uint2 *>(workspace + at.candidates);
    a.ring = lay_out_at_least(rows->B, m->C, m->F);
    a.clusters = clusters_that_fit(step->kernel, a.ring.bytes);
    if (a.clusters < LEAST_CLUSTERS) return cudaErrorCooperativeLaunchTooLarge;
    a.ring = lay_out(rows->B, m->C, deal_groups(&a));
    cudaError_t code = pack_slices(workspace + at.attproj, &m->attprojw, m->L, m->C, m->C, stream);
    if (code != cudaSuccess) return code;
    code = pack_slices(workspace + at.fcproj, &m->fcprojw, m->L, m->C, m->F, stream);
    if (code != cudaSuccess) return code;
    return cudaMemsetAsync(workspace + at.partials, 0xff, at.bytes - at.partials, stream); // EMPTY
}

cudaError_t persistent_open(const struct persistent_model *model, const struct persistent_rows *rows,
                            void *workspace, cudaStream_t stream, struct persistent_step **opened) {
    persistent_step *step = new (std::nothrow) persistent_step();
    if (!step) return cudaErrorMemoryAllocation;
    cudaError_t code = fill(step, model, rows, static_cast<char *>(workspace), stream);
    if (code == cudaSuccess)
        *opened = step;
    else
        delete step;
    return code;
}

void persistent_close(struct persistent_step *step) {
    delete step;
}

cudaError_t persistent_run(struct persistent_step *step, int steps, cudaStream_t stream) {
    const launch resident(step->a.clusters, step->a.ring.bytes, stream);
    step->a.steps = steps;
    const cudaError_t code = cudaLaunchKernelEx(&resident.config, step->kernel, step->a);
    if (code == cudaSuccess) step->a.turn = (step->a.turn + steps) % TURNS;
    return code;
}
