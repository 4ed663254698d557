#include "cuda/step_graphs.h"

#include "cuda/cached_step.h"
#include "cuda/check.h"
#include "cuda/rows.h"
#include "cuda/schedule.h"

#include <stdlib.h>

enum { PREFILLS = 8 }; // whose graphs a session keeps: lengths of prompts are as many as they like

struct step_graph {
    struct graph_key key;
    cudaGraphExec_t executable;
    struct step_graph *next; // older
};

static void free_graph(struct step_graph *graph) {
    if (graph->executable) cudaGraphExecDestroy(graph->executable);
    free(graph);
}

void step_graphs_free(struct cuda_session *session) {
    while (session->graphs) {
        struct step_graph *next = session->graphs->next;
        free_graph(session->graphs);
        session->graphs = next;
    }
}

// ---- capture

static enum status launch_kernels(struct cuda_session *session, const struct graph_key *key,
                                  struct error *error) {
    if (key->tokens > 0) return rows_run_packed(session, key->prompts, key->tokens, key->longest, error);
    for (int step = 0; step < key->steps; step++) TRY(cached_step_run(session, key->longest, error));
    return STATUS_OK;
}

static enum status capture(struct cuda_session *session, struct step_graph *graph, struct error *error) {
    const cudaStream_t stream = cuda_backend_of(session)->stream;
    const struct graph_key *key = &graph->key;
    const int heads = key->prompts > 0 ? key->prompts : session->base.spec.rows;
    const int positions = session->base.spec.logits == LOGITS_ALL ? key->tokens : 0;
    if (key->tokens > 0) TRY(schedule_prepare(session, key->tokens, heads, positions, error));
    CUDA_TRY(cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed));
    enum status status = launch_kernels(session, key, error);
    cudaGraph_t recorded = NULL;
    cudaError_t code = cudaStreamEndCapture(stream, &recorded); // even after a failure: it ends the capture
    if (status == STATUS_OK) status = cuda_status(code, "capture of a step", error);
    if (status == STATUS_OK)
        status = cuda_status(cudaGraphInstantiate(&graph->executable, recorded, 0), "graph of a step", error);
    if (recorded) cudaGraphDestroy(recorded);
    TRY(status);
    CUDA_TRY(cudaGraphUpload(graph->executable, stream));
    return STATUS_OK;
}

// ---- those that are there

static bool same_key(const struct graph_key *a, const struct graph_key *b) {
    return a->prompts == b->prompts && a->tokens == b->tokens && a->steps == b->steps &&
           a->longest == b->longest;
}

// Forgets the oldest prefill if there are as many as may stay.
static enum status make_room(struct cuda_session *session, struct error *error) {
    struct step_graph **oldest = NULL;
    int prefills = 0;
    for (struct step_graph **link = &session->graphs; *link; link = &(*link)->next) {
        if ((*link)->key.prompts == 0) continue;
        prefills++;
        oldest = link;
    }
    if (prefills < PREFILLS) return STATUS_OK;
    CUDA_TRY(cudaStreamSynchronize(cuda_backend_of(session)->stream)); // it may be running
    struct step_graph *gone = *oldest;
    *oldest = gone->next;
    free_graph(gone);
    return STATUS_OK;
}

static enum status find_graph(struct cuda_session *session, const struct graph_key *key,
                              cudaGraphExec_t *executable, struct error *error) {
    for (struct step_graph *known = session->graphs; known; known = known->next) {
        if (!same_key(&known->key, key)) continue;
        *executable = known->executable;
        return STATUS_OK;
    }
    if (key->prompts > 0) TRY(make_room(session, error));
    struct step_graph *graph = (struct step_graph *)calloc(1, sizeof *graph);
    if (!graph) return error_set(error, STATUS_OUT_OF_MEMORY, "no host memory for a step's graph");
    graph->key = *key;
    const enum status status = capture(session, graph, error);
    if (status != STATUS_OK) {
        free_graph(graph);
        return status;
    }
    graph->next = session->graphs;
    session->graphs = graph;
    *executable = graph->executable;
    return STATUS_OK;
}

enum status step_graphs_launch(struct cuda_session *session, const struct graph_key *key,
                               struct error *error) {
    cudaGraphExec_t executable = NULL;
    TRY(find_graph(session, key, &executable, error));
    CUDA_TRY(cudaGraphLaunch(executable, cuda_backend_of(session)->stream));
    return STATUS_OK;
}
