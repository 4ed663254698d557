#include "measure/metrics.h"

#include <math.h>
#include <string.h>

static struct generation_shape shape_of_row(const struct bench_record *record, const struct bench_row *row) {
    const struct record_workload *workload = &record->workload;
    return (struct generation_shape){.config = &record->model.config,
                                     .dtype = workload->dtype,
                                     .logits = workload->logits,
                                     .kv_cache = row->kv_cache,
                                     .batch = row->batch,
                                     .prompt_len = workload->prompt_len,
                                     .gen_len = workload->gen_len};
}

// Without the kernels that did not decode this row; one not begun has those that auto would choose. The
// persistent kernel's line ends where auto's choice does: asked for with more rows, it is taken at its end.
static struct machine machine_of_row(const struct bench_record *record, const struct bench_row *row) {
    struct machine machine = record->machine;
    const char *path = row->decode_path;
    const bool begun = path[0] != '\0', persistent = strcmp(path, "persistent") == 0;
    if (begun && !persistent) machine.persistent_rows = 0;
    if (persistent && machine.persistent_rows > 0)
        machine.persistent_rows = fmax(machine.persistent_rows, row->batch);
    if (strcmp(path, "graph") == 0) machine.fused_rows = 0;
    return machine;
}

struct row_metrics row_metrics(const struct bench_record *record, const struct bench_row *row) {
    struct row_metrics metrics;
    memset(&metrics, 0, sizeof metrics);
    const struct generation_shape shape = shape_of_row(record, row);
    const struct ceilings *ceilings = &record->ceilings;
    metrics.prefill = roofline_prefill(&shape);
    metrics.step = roofline_mean_step(&shape);
    metrics.textbook_share =
        row->speedup / roofline_token_steps(record->workload.prompt_len, record->workload.gen_len).ratio;
    if (row->ms_per_step > 0) metrics.busy_share = row->step.mean / row->ms_per_step;
    const struct machine machine = machine_of_row(record, row);
    if (machine.rate > 0) metrics.predicted = predict(&machine, &shape);
    if (row->tok_s.median > 0) metrics.predicted_share = metrics.predicted.tok_s / row->tok_s.median;
    if (row->ms_per_step == 0 || ceilings->bandwidth == 0 || ceilings->matmul_rate == 0) return metrics;
    double seconds = row->ms_per_step / 1e3;
    metrics.against_device = true;
    metrics.floor = roofline_floor(&metrics.step, ceilings);
    metrics.floor_share = metrics.floor.seconds / seconds;
    metrics.bandwidth_share = metrics.step.bytes / seconds / ceilings->bandwidth;
    metrics.matmul_share = metrics.step.flop / seconds / ceilings->matmul_rate;
    return metrics;
}
