// What this machine really does: read bandwidth, products by our path and by the vendor's, the cost of a
// parallel region.
//
// Cold means that what is read was not read since enough other bytes passed to push it out of the last-level
// cache: executions rotate over copies that fill twice that cache together, but at least 64 MiB and at most
// 1 GiB (virtual machines report caches that many share).
#include "base/clock.h"
#include "cpu/cpu.h"
#include "cpu/host.h"
#include "cpu/vector.h"

#include <cblas.h>
#include <omp.h>
#include <stdlib.h>

// ---- timing
// ------------------------------------------------------------------------------------------------

static int compare_doubles(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, int count) {
    qsort(values, (size_t)count, sizeof *values, compare_doubles);
    return values[count / 2];
}

// Work to time: called by all threads of a region together with index 0, 1, ..; ends with the team's barrier.
struct work {
    void (*execute)(void *context, int index);
    void *context;
    struct team *team;
    int threads;
};

// Median seconds of one execution: as many as fit into a fifth of a second, at least 5.
static double median_seconds(const struct work *work) {
    enum { MOST = 501, LEAST = 5 };
    double seconds[MOST];
    const double start = clock_seconds();
    int count = 0;
    bool enough = false;
#pragma omp parallel num_threads(work->threads)
    {
        work->execute(work->context, 0); // wakes the threads
        for (;;) {
            double before = clock_seconds();
            if (omp_get_thread_num() == 0) enough = count >= MOST || (count >= LEAST && before - start > 0.2);
            team_barrier(work->team);
            if (enough) break;
            work->execute(work->context, count + 1);
            if (omp_get_thread_num() == 0) seconds[count++] = clock_seconds() - before;
        }
    }
    return median(seconds, count);
}

static int64_t cold_bytes(void) {
    const int64_t least = 64 << 20, most = 1 << 30;
    int64_t twice = 2 * host_cache_bytes();
    return twice < least ? least : twice > most ? most : twice;
}

static enum status take(struct arena *arena, int threads, struct error *error) {
    if (arena->used <= host_memory().available && arena_reserve(arena, threads)) return STATUS_OK;
    return error_set(error, STATUS_OUT_OF_MEMORY, "out of memory: a probe needs %.1f MiB",
                     (double)arena->used / (1024.0 * 1024.0));
}

// ---- reading
// -----------------------------------------------------------------------------------------------

struct read_probe {
    const float *data; // (copies, floats)
    int64_t floats;
    int copies;
    struct team *team;
    float sum;
};

// Four sums per thread: additions keep up with memory.
static float sum_floats(const float *from, int64_t count) {
    vector_f32 sum[4] = {{0}};
    for (int64_t i = 0; i + 4 * VECTOR_WIDTH <= count; i += 4 * VECTOR_WIDTH) {
        for (int j = 0; j < 4; j++) sum[j] += vector_load(from + i + j * VECTOR_WIDTH);
    }
    return vector_sum((sum[0] + sum[1]) + (sum[2] + sum[3]));
}

static void execute_read(void *context, int index) {
    struct read_probe *p = context;
    const float *data = p->data + p->floats * (index % p->copies);
    int64_t threads = omp_get_num_threads(), self = omp_get_thread_num();
    int64_t begin = p->floats * self / threads, end = p->floats * (self + 1) / threads;
    float sum = sum_floats(data + begin, end - begin);
#pragma omp atomic
    p->sum += sum; // somebody needs the result: the reads cannot be left out
    team_barrier(p->team);
}

static enum status probe_read(struct cpu_backend *b, const struct probe *probe, double *seconds,
                              struct error *error) {
    const int threads = b->base.options.threads;
    int64_t copies = (cold_bytes() + probe->bytes - 1) / probe->bytes;
    struct read_probe p = {.floats = probe->bytes / (int64_t)sizeof(float),
                           .copies = copies > 1 ? (int)copies : 1,
                           .team = &b->team};
    struct arena arena = {0};
    arena_take(&arena, (size_t)p.copies, (size_t)p.floats * sizeof(float));
    TRY(take(&arena, threads, error));
    p.data = arena_take(&arena, (size_t)p.copies, (size_t)p.floats * sizeof(float));
    *seconds = median_seconds(&(struct work){execute_read, &p, &b->team, threads});
    arena_free(&arena);
    return STATUS_OK;
}

// ---- products
// ----------------------------------------------------------------------------------------------

struct product_probe {
    struct matrix matrix; // panels of copy 0
    size_t panel_bytes;
    struct team *team;
    int copies, rows;
    float *x, *weights, *out; // (rows, inputs); (outputs, inputs) for the vendor's; (rows, outputs)
};

static void execute_matmul(void *context, int index) {
    struct product_probe *p = context;
    struct matrix matrix = p->matrix;
    matrix.panels = (char *)matrix.panels + p->panel_bytes * (size_t)(index % p->copies);
    matmul(&matrix, MATMUL_PLAIN, p->rows, p->x, p->out, p->team);
}

// One slice of the outputs per thread, each a product of its own: the library's threads stay out of the way
// of ours.
static void execute_sgemm(void *context, int index) {
    (void)index;
    struct product_probe *p = context;
    int64_t K = p->matrix.inputs, N = p->matrix.outputs;
    int64_t threads = omp_get_num_threads(), self = omp_get_thread_num();
    int64_t begin = N * self / threads, end = N * (self + 1) / threads;
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, p->rows, (blasint)(end - begin), (blasint)K, 1.0f,
                p->x, (blasint)K, p->weights + begin * K, (blasint)K, 0.0f, p->out + begin, (blasint)N);
    team_barrier(p->team);
}

static void layout_product(struct product_probe *p, struct arena *arena, bool vendor) {
    size_t m = (size_t)p->rows, n = (size_t)p->matrix.outputs, k = (size_t)p->matrix.inputs;
    p->x = arena_take(arena, m, k * sizeof(float));
    p->out = arena_take(arena, m, n * sizeof(float));
    p->weights = vendor ? arena_take(arena, n, k * sizeof(float)) : NULL;
    p->matrix.panels = vendor ? NULL : arena_take(arena, (size_t)p->copies, p->panel_bytes);
    p->matrix.bias = arena_take(arena, 1, matrix_bias_bytes((int)n));
}

static enum status probe_product(struct cpu_backend *b, const struct probe *probe, bool vendor,
                                 double *seconds, struct error *error) {
    struct product_probe p = {
        .matrix = {.dtype = b->base.options.dtype, .inputs = probe->k, .outputs = probe->n},
        .panel_bytes = matrix_panel_bytes(b->base.options.dtype, probe->k, probe->n),
        .team = &b->team,
        .rows = probe->m,
    };
    p.copies = (int)(cold_bytes() / (int64_t)p.panel_bytes) + 1;
    struct arena arena = {0};
    layout_product(&p, &arena, vendor);
    const int threads = b->base.options.threads;
    TRY(take(&arena, threads, error));
    layout_product(&p, &arena, vendor);
    int library_threads = openblas_get_num_threads();
    openblas_set_num_threads(1);
    *seconds = median_seconds(&(struct work){vendor ? execute_sgemm : execute_matmul, &p, &b->team, threads});
    openblas_set_num_threads(library_threads);
    arena_free(&arena);
    return STATUS_OK;
}

// ---- launching
// ---------------------------------------------------------------------------------------------

static double launch_seconds(struct cpu_backend *b) {
    enum { COUNT = 501 };
    double seconds[COUNT];
    for (int i = 0; i < COUNT; i++) {
        double before = clock_seconds();
#pragma omp parallel num_threads(b->base.options.threads)
        team_barrier(&b->team);
        seconds[i] = clock_seconds() - before;
    }
    return median(seconds, COUNT);
}

enum status cpu_probe(struct backend *backend, const struct probe *probe, double *seconds,
                      struct error *error) {
    struct cpu_backend *b = (struct cpu_backend *)backend;
    const bool product = probe->kind == PROBE_MATMUL || probe->kind == PROBE_PEAK_MATMUL;
    if (probe->kind == PROBE_READ && probe->bytes < 1)
        return error_set(error, STATUS_USAGE, "a read probe of %lld bytes", (long long)probe->bytes);
    if (product && (probe->m < 1 || probe->n < 1 || probe->k < 1))
        return error_set(error, STATUS_USAGE, "a product probe of %d x %d x %d", probe->m, probe->n,
                         probe->k);
    switch (probe->kind) {
    case PROBE_READ:
        return probe_read(b, probe, seconds, error);
    case PROBE_MATMUL:
        return probe_product(b, probe, false, seconds, error);
    case PROBE_PEAK_MATMUL:
        return probe_product(b, probe, true, seconds, error);
    case PROBE_LAUNCH:
        break;
    }
    *seconds = launch_seconds(b);
    return STATUS_OK;
}
