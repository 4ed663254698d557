#include "measure/predict_report.h"

#include "measure/machine_json.h"
#include "measure/report_grid.h"
#include "measure/report_values.h"

// One batch size in one arm on one device.
struct predicted_row {
    const struct predicted_device *device;
    int batch;
    bool kv_cache;
    struct prediction time;
    double speedup; // over the uncached arm; on cached rows
    double memory_bytes;
    const char *limit;
};

static struct predicted_row predict_row(const struct predicted_curve *curve,
                                        const struct predicted_device *device, int batch, bool kv_cache) {
    struct generation_shape shape = {.config = curve->config,
                                     .dtype = device->dtype,
                                     .logits = curve->logits,
                                     .kv_cache = kv_cache,
                                     .batch = batch,
                                     .prompt_len = curve->prompt_len,
                                     .gen_len = curve->gen_len};
    struct predicted_row row = {.device = device, .batch = batch, .kv_cache = kv_cache};
    row.time = predict(&device->machine, &shape);
    row.memory_bytes = predict_memory_bytes(&shape);
    row.limit = curve->gen_len > 1 ? predict_limit(&device->machine, &shape) : "";
    shape.kv_cache = false;
    if (kv_cache) row.speedup = row.time.tok_s / predict(&device->machine, &shape).tok_s;
    return row;
}

static bool fits(const struct predicted_row *row) {
    return row->memory_bytes <= row->device->memory_bytes;
}

// Calls `write` for every row, in the order of the report; stops when it fails.
typedef bool row_writer(void *context, const struct predicted_row *row);
static bool write_rows(const struct predicted_curve *curve, row_writer *write, void *context) {
    for (int d = 0; d < curve->device_count; d++) {
        for (int b = 0; b < curve->batch_count; b++) {
            for (int arm = 1; arm >= 0; arm--) {
                if (!(arm ? curve->cached : curve->uncached)) continue;
                const struct predicted_row row =
                    predict_row(curve, &curve->devices[d], curve->batches[b], arm);
                if (!write(context, &row)) return false;
            }
        }
    }
    return true;
}

// ---- for people
// ------------------------------------------------------------------------------------------------------

static void put_number(struct grid_row *cells, int *column, double number) {
    grid_put(cells, column, "%.*f", number >= 1000 ? 0 : number >= 100 ? 1 : number >= 1 ? 2 : 4, number);
}

static bool put_row(void *context, const struct predicted_row *row) {
    struct grid_row *cells = grid_add_row(context);
    int column = 0;
    grid_put(cells, &column, "%s", row->device->name);
    grid_put(cells, &column, "%d", row->batch);
    grid_put(cells, &column, "%s", row->kv_cache ? "on" : "off");
    put_number(cells, &column, row->time.tok_s);
    put_number(cells, &column, row->time.tok_s / row->batch);
    put_number(cells, &column, row->time.prefill_ms);
    put_number(cells, &column, row->time.ms_per_step);
    if (row->speedup > 0)
        grid_put(cells, &column, "%.2f×", row->speedup);
    else
        column++;
    grid_put(cells, &column, "%s", row->limit);
    grid_put(cells, &column, "%.2f", row->memory_bytes / 1e9);
    if (!fits(row)) grid_put(cells, &column, "does not fit in %.1f GB", row->device->memory_bytes / 1e9);
    return true;
}

static void write_table(const struct predicted_curve *curve, bool markdown, FILE *file) {
    static const struct {
        const char *header;
        bool left;
    } columns[] = {{"device", true},     {"batch", false},      {"cache", true},    {"tok/s", false},
                   {"tok/s/row", false}, {"prefill ms", false}, {"ms/step", false}, {"speed-up", false},
                   {"bound", true},      {"memory GB", false},  {"", true}};
    struct grid grid = {0};
    for (size_t i = 0; i < sizeof columns / sizeof columns[0]; i++)
        grid_add_column(&grid, columns[i].header, columns[i].left);
    write_rows(curve, put_row, &grid);
    fprintf(file, "predicted %s: L %d, C %d, H %d, V %d; %d prompt + %d new tokens per row, logits %s\n\n",
            curve->model, curve->config->layers, curve->config->channels, curve->config->heads,
            curve->config->vocab, curve->prompt_len, curve->gen_len, logits_mode_name(curve->logits));
    grid_write(&grid, markdown, file);
    fprintf(file, "\n%s\n", predict_notice());
    grid_free(&grid);
}

// ---- for programs
// ----------------------------------------------------------------------------------------------------

// Everything that one row says, standing alone.
static json_t *row_json(const struct predicted_curve *curve, const struct predicted_row *row) {
    return json_pack("{s:s, s:s, s:o, s:i, s:i, s:s, s:o, s:s, s:o, s:i, s:s, s:f, s:f, s:f, s:f, s:o, s:s, "
                     "s:f, s:f, s:b}",
                     "schema", "gpt2infer.predict/1", "notice", predict_notice(), "model",
                     report_text(curve->model), "prompt_len", curve->prompt_len, "gen_len", curve->gen_len,
                     "logits", logits_mode_name(curve->logits), "device", report_text(row->device->name),
                     "dtype", dtype_name(row->device->dtype), "machine", machine_json(&row->device->machine),
                     "batch", row->batch, "kvcache", row->kv_cache ? "on" : "off", "tok_s", row->time.tok_s,
                     "tok_s_per_row", row->time.tok_s / row->batch, "prefill_ms", row->time.prefill_ms,
                     "ms_per_step", row->time.ms_per_step, "speedup",
                     report_known(row->speedup, row->speedup > 0), "bound_by", row->limit, "needs_bytes",
                     row->memory_bytes, "memory_bytes", row->device->memory_bytes, "fits", (int)fits(row));
}

struct writer {
    const struct predicted_curve *curve;
    FILE *file;
    struct error *error;
    json_t *rows; // of a document
    bool begun;   // CSV: the names are written
    enum status status;
};

static bool add_to_document(void *context, const struct predicted_row *row) {
    struct writer *writer = context;
    return json_array_append_new(writer->rows, row_json(writer->curve, row)) == 0;
}

static bool write_line(void *context, const struct predicted_row *row) {
    struct writer *writer = context;
    writer->status =
        report_write_json(row_json(writer->curve, row), JSON_COMPACT, writer->file, writer->error);
    return writer->status == STATUS_OK;
}

static bool write_csv(void *context, const struct predicted_row *row) {
    struct writer *writer = context;
    json_t *json = row_json(writer->curve, row);
    if (!json) return false;
    if (!writer->begun) report_write_csv_line(json, true, writer->file);
    report_write_csv_line(json, false, writer->file);
    writer->begun = true;
    json_decref(json);
    return true;
}

static enum status no_memory(struct error *error) {
    return error_set(error, STATUS_OUT_OF_MEMORY, "no host memory for the report");
}

static enum status write_document(struct writer *writer) {
    writer->rows = json_array();
    bool whole = writer->rows && write_rows(writer->curve, add_to_document, writer);
    json_t *document = whole ? json_pack("{s:s, s:s, s:O}", "schema", "gpt2infer.predict/1", "notice",
                                         predict_notice(), "rows", writer->rows)
                             : NULL;
    json_decref(writer->rows);
    return report_write_json(document, JSON_INDENT(2), writer->file, writer->error);
}

enum status predict_report_write(const struct predicted_curve *curve, enum report_format format, FILE *file,
                                 struct error *error) {
    struct writer writer = {.curve = curve, .file = file, .error = error};
    switch (format) {
    case REPORT_CSV:
        return write_rows(curve, write_csv, &writer) ? STATUS_OK : no_memory(error);
    case REPORT_JSON:
        return write_document(&writer);
    case REPORT_JSONL:
        (void)write_rows(curve, write_line, &writer);
        return writer.status;
    case REPORT_TABLE:
        write_table(curve, false, file);
        break;
    case REPORT_MARKDOWN:
        write_table(curve, true, file);
        break;
    }
    return STATUS_OK;
}
