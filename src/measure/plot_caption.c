#include "measure/plot_caption.h"

#include "base/text.h"
#include "measure/plot_label.h"

#include <stb/stb_ds.h>
#include <stdlib.h>

enum { NAME = 60, NAME_BYTES = 4 * NAME + 4 };

static char *make_title(const struct plot_data *data) {
    if (data->tok_s[false] && data->tok_s[true])
        return text_format("Tokens per second over batch size, KV cache on and off");
    return text_format("Tokens per second over batch size, KV cache %s", data->tok_s[true] ? "on" : "off");
}

static char *make_subtitle(const struct bench_record *record) {
    char device[NAME_BYTES], model[NAME_BYTES], parameters[32];
    label_clean(record->device.name, NAME, device, sizeof device);
    label_clean(record->model.name, NAME, model, sizeof model);
    label_number((double)record->model.parameters, parameters, sizeof parameters);
    return text_format("%s · %s, %s parameters · %s · %d prompt + %d new tokens per row", device, model,
                       parameters, dtype_name(record->workload.dtype), record->workload.prompt_len,
                       record->workload.gen_len);
}

static void write_timing(const struct bench_record *record, FILE *file) {
    fprintf(
        file,
        "Points: median of the repetitions; bars: 95 %% interval of their mean. tok/s counts new tokens of "
        "all rows, timed from prompt ids on the host to the last new id on the host: prefill and decode, "
        "no loading and no warm-up. Greedy, logits of %s.\n",
        record->workload.logits == LOGITS_ALL ? "all positions" : "the last position");
}

static void write_ceilings(const struct bench_record *record, FILE *file) {
    char bandwidth[32], rate[32];
    label_quantity(record->ceilings.bandwidth, "B/s", bandwidth, sizeof bandwidth);
    label_quantity(record->ceilings.matmul_rate, "FLOP/s", rate, sizeof rate);
    fprintf(file,
            "Dashed: what the device's ceilings allow by formula. Measured: %s read, %s matrix "
            "product, %.4g us per operation.\n",
            bandwidth, rate, record->ceilings.launch * 1e6);
}

// "; cache off at 512 (oom), 1024 (oom)": the rows without a figure, or those with one that are not ok.
static int write_odd_rows(const struct plot_point *line, bool kv_cache, bool measured, int before,
                          FILE *file) {
    enum { most = 12 };
    int count = 0;
    for (ptrdiff_t i = 0; i < arrlen(line); i++) {
        if ((line[i].value > 0) != measured || (measured && line[i].status == ROW_OK)) continue;
        if (count == 0) fprintf(file, "%scache %s at ", before ? "; " : "", kv_cache ? "on" : "off");
        if (count < most)
            fprintf(file, "%s%d (%s)", count ? ", " : "", line[i].batch, row_status_name(line[i].status));
        count++;
    }
    if (count > most) fprintf(file, " and %d more", count - most);
    return count;
}

static void write_odd_points(const struct plot_data *data, bool measured, const char *heading, FILE *file) {
    char *text = NULL;
    size_t size;
    FILE *list = open_memstream(&text, &size);
    if (!list) return;
    int count = write_odd_rows(data->tok_s[true], true, measured, 0, list);
    count += write_odd_rows(data->tok_s[false], false, measured, count, list);
    if (fclose(list) == 0 && count > 0) fprintf(file, "%s: %s.\n", heading, text);
    free(text);
}

static void write_engine(const struct record_engine *engine, FILE *file) {
    char version[NAME_BYTES], commit[NAME_BYTES];
    label_clean(engine->version, NAME, version, sizeof version);
    label_clean(engine->commit, NAME, commit, sizeof commit);
    fprintf(file, "gpt2infer %s%s%s%s\n", version, commit[0] ? " (" : "", commit, commit[0] ? ")" : "");
}

static bool write_notes(const struct bench_record *record, const struct reference *reference,
                        const struct plot_data *data, char **notes) {
    size_t size;
    FILE *file = open_memstream(notes, &size);
    if (!file) return false;
    write_timing(record, file);
    if (record->ceilings.bandwidth > 0) write_ceilings(record, file);
    write_odd_points(data, false, "Not measured (×)", file);
    write_odd_points(data, true, "Measured but not ok", file);
    if (reference)
        fprintf(file, "Published: %s; %s. Its model was not GPT-2: %s.\n", reference->source,
                reference->workload, reference->difference);
    write_engine(&record->engine, file);
    bool whole = !ferror(file);
    return fclose(file) == 0 && whole;
}

enum status plot_caption_make(const struct bench_record *record, const struct reference *reference,
                              const struct plot_data *data, struct plot_caption *caption,
                              struct error *error) {
    *caption = (struct plot_caption){.title = make_title(data), .subtitle = make_subtitle(record)};
    if (write_notes(record, reference, data, &caption->notes) && caption->title && caption->subtitle)
        return STATUS_OK;
    return error_set(error, STATUS_OUT_OF_MEMORY, "no host memory for the plot's caption");
}

void plot_caption_free(struct plot_caption *caption) {
    free(caption->title);
    free(caption->subtitle);
    free(caption->notes);
    *caption = (struct plot_caption){0};
}
