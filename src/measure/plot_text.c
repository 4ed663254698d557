// The plot for a terminal: points on a grid of characters, then the speed-ups as bars.
#include "measure/plot.h"

#include "measure/plot_caption.h"
#include "measure/plot_label.h"
#include "measure/plot_scale.h"

#include <math.h>
#include <stb/stb_ds.h>
#include <string.h>

enum { ROWS = 16, LABEL = 7 }; // the grid's height; the width of labels at its left

// What stands in a cell; a later one covers an earlier one.
enum glyph { BLANK, CEILING_OFF, CEILING_ON, PUBLISHED_OFF, PUBLISHED_ON, OFF, ON, OFF_AND_ON, BAR, GLYPHS };

static const char *glyph_text(enum glyph glyph, bool unicode) {
    static const char *const ascii[GLYPHS] = {" ", ":", ".", "v", "^", "x", "o", "*", "#"};
    static const char *const pretty[GLYPHS] = {" ", "∘", "·", "▽", "△", "■", "●", "◆", "█"};
    return unicode ? pretty[glyph] : ascii[glyph];
}

// Clean text; for a terminal without Unicode what this program writes beyond ASCII has another spelling.
static void write_words(const char *text, size_t length, bool unicode, FILE *file) {
    static const char *const spellings[][2] = {{"×", "x"}, {"·", "-"}, {"…", "~"}};
    for (size_t i = 0, next; i < length; i = next) {
        for (next = i + 1; next < length && ((unsigned char)text[next] & 0xC0) == 0x80;) next++;
        if (unicode || next == i + 1) {
            fwrite(text + i, 1, next - i, file);
            continue;
        }
        const char *spelling = "?";
        for (size_t s = 0; s < sizeof spellings / sizeof spellings[0]; s++) {
            if (strncmp(text + i, spellings[s][0], next - i) == 0) spelling = spellings[s][1];
        }
        fputs(spelling, file);
    }
}

static void write_paragraphs(const char *text, const struct plot_terminal *terminal, FILE *file) {
    while (*text) {
        size_t length = label_wrap(text, terminal->columns);
        write_words(text, length, terminal->unicode, file);
        fputc('\n', file);
        text += length;
        text += strspn(text, *text == '\n' ? "\n" : " ");
    }
}

struct text_plot {
    FILE *file;
    bool unicode;
    int columns;         // of the grid
    unsigned char *grid; // (ROWS, columns) enum glyph, stb_ds array
    struct scale x, y;   // to columns and rows
};

static void put_line(struct text_plot *plot, const struct plot_point *line, enum glyph glyph) {
    for (ptrdiff_t i = 0; i < arrlen(line); i++) {
        if (line[i].value == 0) continue;
        int column = (int)lround(scale_place(&plot->x, line[i].batch));
        int row = (int)lround(scale_place(&plot->y, line[i].value));
        unsigned char *cell = &plot->grid[row * plot->columns + column];
        if (*cell + glyph == OFF + ON)
            *cell = OFF_AND_ON;
        else if (glyph > *cell)
            *cell = (unsigned char)glyph;
    }
}

// The label of the row's tick, or blanks.
static void write_y_label(const struct text_plot *plot, const struct ticks *ticks, int row) {
    char label[32] = "";
    for (int i = 0; i < ticks->count; i++) {
        if ((int)lround(scale_place(&plot->y, ticks->values[i])) == row)
            label_number(ticks->values[i], label, sizeof label);
    }
    fprintf(plot->file, "%*s %s", LABEL, label,
            plot->unicode ? (label[0] ? "┤" : "│") : (label[0] ? "+" : "|"));
}

static void write_grid(const struct text_plot *plot) {
    const struct ticks ticks = scale_ticks(&plot->y);
    for (int row = ROWS - 1; row >= 0; row--) {
        const unsigned char *cells = plot->grid + row * plot->columns;
        int end = plot->columns;
        while (end > 0 && cells[end - 1] == BLANK) end--;
        write_y_label(plot, &ticks, row);
        for (int i = 0; i < end; i++) fputs(glyph_text((enum glyph)cells[i], plot->unicode), plot->file);
        fputc('\n', plot->file);
    }
    fprintf(plot->file, "%*s %s", LABEL, "", plot->unicode ? "└" : "+");
    for (int i = 0; i < plot->columns; i++) fputs(plot->unicode ? "─" : "-", plot->file);
    fputc('\n', plot->file);
}

static void write_batches(const struct text_plot *plot, const int *batches) {
    double *places = NULL, *widths = NULL;
    bool *shown = NULL;
    int count = (int)arrlen(batches), at = 0;
    for (int i = 0; i < count; i++) {
        arrput(places, round(scale_place(&plot->x, batches[i])));
        arrput(widths, snprintf(NULL, 0, "%d", batches[i]));
        arrput(shown, false);
    }
    scale_thin_labels(places, widths, count, 1, shown);
    fprintf(plot->file, "%*s  ", LABEL, "batch");
    for (int i = 0; i < count; i++) {
        if (!shown[i]) continue;
        int start = (int)(places[i] - floor(widths[i] / 2));
        at += fprintf(plot->file, "%*s%d", start > at ? start - at : 0, "", batches[i]);
    }
    fputc('\n', plot->file);
    arrfree(places);
    arrfree(widths);
    arrfree(shown);
}

static void write_legend(const struct text_plot *plot, const struct plot_data *data) {
    const struct {
        const struct plot_point *line;
        enum glyph glyph;
        const char *name;
    } entries[] = {{data->tok_s[true], ON, "cache on"},
                   {data->tok_s[false], OFF, "off"},
                   {data->tok_s[true] ? data->tok_s[false] : NULL, OFF_AND_ON, "both"},
                   {data->ceiling[true], CEILING_ON, "ceiling on"},
                   {data->ceiling[false], CEILING_OFF, "off"},
                   {data->published_tok_s[true], PUBLISHED_ON, "published on"},
                   {data->published_tok_s[false], PUBLISHED_OFF, "off"}};
    fputs("tok/s ", plot->file);
    for (size_t i = 0; i < sizeof entries / sizeof entries[0]; i++) {
        if (arrlen(entries[i].line) > 0)
            fprintf(plot->file, "  %s %s", glyph_text(entries[i].glyph, plot->unicode), entries[i].name);
    }
    fputc('\n', plot->file);
}

static void write_throughput(struct text_plot *plot, const struct plot_data *data) {
    double low = 0, high = 0;
    for (int kv_cache = 0; kv_cache < 2; kv_cache++) {
        plot_data_range(data->tok_s[kv_cache], &low, &high);
        plot_data_range(data->ceiling[kv_cache], &low, &high);
        plot_data_range(data->published_tok_s[kv_cache], &low, &high);
    }
    plot->x = scale_logarithmic(data->lowest_batch, data->highest_batch, 0.03, 0.03);
    plot->x.to = plot->columns - 1;
    plot->y = high > 0 ? scale_logarithmic(low, high, 0.03, 0.1) : scale_logarithmic(1, 10, 0, 0);
    plot->y.to = ROWS - 1;
    for (int i = 0; i < ROWS * plot->columns; i++) arrput(plot->grid, BLANK);
    for (int kv_cache = 0; kv_cache < 2; kv_cache++) {
        put_line(plot, data->ceiling[kv_cache], kv_cache ? CEILING_ON : CEILING_OFF);
        put_line(plot, data->published_tok_s[kv_cache], kv_cache ? PUBLISHED_ON : PUBLISHED_OFF);
        put_line(plot, data->tok_s[kv_cache], kv_cache ? ON : OFF);
    }
    write_legend(plot, data);
    write_grid(plot);
    write_batches(plot, data->batches);
}

static double value_at(const struct plot_point *line, int batch) {
    for (ptrdiff_t i = 0; i < arrlen(line); i++) {
        if (line[i].batch == batch) return line[i].value;
    }
    return 0;
}

static void write_speedups(const struct text_plot *plot, const struct plot_data *data) {
    const char *times = plot->unicode ? "×" : "x";
    double low = 0, high = 1;
    plot_data_range(data->speedup, &low, &high);
    if (arrlen(data->speedup) == 0) return;
    int room = plot->columns - 10 - (data->published_speedup ? 18 : 0);
    fprintf(plot->file, "\n%*s  speed-up by the cache\n", LABEL, "batch");
    for (ptrdiff_t i = 0; i < arrlen(data->speedup); i++) {
        const struct plot_point *point = &data->speedup[i];
        int bar = (int)lround(point->value / high * room);
        fprintf(plot->file, "%*d  ", LABEL, point->batch);
        for (int column = 0; column < bar; column++) fputs(glyph_text(BAR, plot->unicode), plot->file);
        if (point->value > 0)
            fprintf(plot->file, "%s%.2f%s", bar ? " " : "", point->value, times);
        else
            fputs("no data", plot->file);
        double published = value_at(data->published_speedup, point->batch);
        if (published > 0) fprintf(plot->file, "  published %.2f%s", published, times);
        fputc('\n', plot->file);
    }
}

enum status plot_write_text(const struct bench_record *record, const struct reference *reference,
                            const struct plot_terminal *terminal, FILE *file, struct error *error) {
    struct plot_caption caption;
    struct plot_data data = plot_data_collect(record, reference);
    struct text_plot plot = {
        .file = file, .unicode = terminal->unicode, .columns = terminal->columns - LABEL - 3};
    enum status status = plot_caption_make(record, reference, &data, &caption, error);
    if (status == STATUS_OK) {
        fputc('\n', file);
        write_paragraphs(caption.title, terminal, file);
        write_paragraphs(caption.subtitle, terminal, file);
        fputc('\n', file);
        write_throughput(&plot, &data);
        write_speedups(&plot, &data);
        fputc('\n', file);
        write_paragraphs(caption.notes, terminal, file);
    }
    arrfree(plot.grid);
    plot_caption_free(&caption);
    plot_data_free(&data);
    return status;
}
