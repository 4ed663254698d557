// The picture: title, legend, one or two panels, caption, from top to bottom.
#include "measure/plot.h"

#include "measure/plot_caption.h"
#include "measure/plot_label.h"
#include "measure/plot_svg_parts.h"

#include <stb/stb_ds.h>
#include <string.h>

static const double width = 960, margin = 24, panel_height = 300;
static const double legend_line = 20, note_line = 16;
enum { NOTE_CHARACTERS = 152 };

static const struct line_style arms[2] = {
    [false] = {"uncached", MARK_SQUARE, "cache off", " tok/s"},
    [true] = {"cached", MARK_CIRCLE, "cache on", " tok/s"},
};
static const struct line_style published_arms[2] = {
    [false] = {"published", MARK_DOWN, "published, cache off", " tok/s"},
    [true] = {"published", MARK_UP, "published, cache on", " tok/s"},
};
static const struct line_style gain = {"gain", MARK_DIAMOND, "speed-up", "×"};
static const struct line_style published_gain = {"published", MARK_UP, "published speed-up", "×"};

// ---- legend

struct legend {
    FILE *file; // NULL: only measure
    double x, y;
};

// Moves on by one entry and returns where its sample, 30 wide, begins.
static double place_entry(struct legend *legend, const char *name) {
    double needs = 38 + svg_text_width(name, 12) + 18;
    if (legend->x + needs > width - margin) {
        legend->x = margin;
        legend->y += legend_line;
    }
    double x = legend->x;
    legend->x += needs;
    if (legend->file) svg_write_text(legend->file, x + 38, legend->y + 4, "", "start", name);
    return x;
}

static void add_line_entry(struct legend *legend, const struct line_style *style,
                           const struct plot_point *line) {
    if (arrlen(line) == 0) return;
    double x = place_entry(legend, style->name);
    if (!legend->file) return;
    fprintf(legend->file, "<path class=\"%s line\" d=\"M%.1f %.1fh30\"/>\n", style->colour, x, legend->y);
    svg_write_mark(style, style->mark == MARK_UP || style->mark == MARK_DOWN, x + 15, legend->y, NULL,
                   legend->file);
}

static void add_ceiling_entry(struct legend *legend, const struct line_style *style,
                              const struct plot_point *line) {
    char name[64];
    if (arrlen(line) == 0) return;
    snprintf(name, sizeof name, "ceiling, %s", style->name);
    double x = place_entry(legend, name);
    if (!legend->file) return;
    fprintf(legend->file, "<path class=\"%s line dashed\" d=\"M%.1f %.1fh30\"/>\n", style->colour, x,
            legend->y);
}

// Returns the y below it.
static double lay_legend(const struct plot_data *data, double y, FILE *file) {
    struct legend legend = {file, margin, y + legend_line / 2};
    for (int kv_cache = 1; kv_cache >= 0; kv_cache--)
        add_line_entry(&legend, &arms[kv_cache], data->tok_s[kv_cache]);
    for (int kv_cache = 1; kv_cache >= 0; kv_cache--)
        add_ceiling_entry(&legend, &arms[kv_cache], data->ceiling[kv_cache]);
    for (int kv_cache = 1; kv_cache >= 0; kv_cache--)
        add_line_entry(&legend, &published_arms[kv_cache], data->published_tok_s[kv_cache]);
    add_line_entry(&legend, &gain, data->speedup);
    add_line_entry(&legend, &published_gain, data->published_speedup);
    return legend.y + legend_line / 2;
}

// ---- panels

static bool has_gap(const struct plot_point *line) {
    for (ptrdiff_t i = 0; i < arrlen(line); i++) {
        if (line[i].value == 0) return true;
    }
    return false;
}

// Sets where the ends of the scales are drawn.
static void fit_scales(struct panel *panel, const struct plot_data *data) {
    panel->x = scale_logarithmic(data->lowest_batch, data->highest_batch, 0.04, 0.03);
    panel->x.from = panel->left;
    panel->x.to = panel->right;
    panel->y.from = panel->bottom - svg_gap_strip(panel);
    panel->y.to = panel->top;
}

static void write_throughput(struct panel *panel, const struct plot_data *data, FILE *file) {
    double low = 0, high = 0;
    for (int kv_cache = 0; kv_cache < 2; kv_cache++) {
        plot_data_range(data->tok_s[kv_cache], &low, &high);
        plot_data_range(data->ceiling[kv_cache], &low, &high);
        plot_data_range(data->published_tok_s[kv_cache], &low, &high);
        panel->gap_lines += has_gap(data->tok_s[kv_cache]);
    }
    panel->name = "tokens per second, all rows";
    panel->y = high > 0 ? scale_logarithmic(low, high, 0.05, 0.1) : scale_logarithmic(1, 10, 0, 0);
    fit_scales(panel, data);
    svg_write_axes(panel, data->batches, file);
    for (int kv_cache = 0; kv_cache < 2; kv_cache++)
        svg_write_ceiling(panel, arms[kv_cache].colour, data->ceiling[kv_cache], file);
    for (int kv_cache = 0; kv_cache < 2; kv_cache++)
        svg_write_line(panel, &published_arms[kv_cache], data->published_tok_s[kv_cache], 0, file);
    int gap_line = 0;
    for (int kv_cache = 0; kv_cache < 2; kv_cache++) {
        svg_write_line(panel, &arms[kv_cache], data->tok_s[kv_cache], gap_line, file);
        gap_line += has_gap(data->tok_s[kv_cache]);
    }
}

static void write_speedup(struct panel *panel, const struct plot_data *data, FILE *file) {
    double low = 0, high = 0;
    plot_data_range(data->speedup, &low, &high);
    plot_data_range(data->published_speedup, &low, &high);
    panel->gap_lines = has_gap(data->speedup);
    panel->name = "speed-up by the cache: tok/s on ÷ off";
    panel->y = scale_linear(high > 1.2 ? high : 1.2);
    fit_scales(panel, data);
    svg_write_axes(panel, data->batches, file);
    double one = scale_place(&panel->y, 1);
    fprintf(file, "<path class=\"axis\" d=\"M%.1f %.1fH%.1f\"/>\n", panel->left, one, panel->right);
    svg_write_text(file, panel->right + 4, one + 4, "muted", "start", "1×");
    svg_write_line(panel, &published_gain, data->published_speedup, 0, file);
    svg_write_line(panel, &gain, data->speedup, 0, file);
}

static void write_panels(const struct plot_data *data, double top, FILE *file) {
    bool both = arrlen(data->speedup) > 0;
    struct panel left = {.left = margin + 54,
                         .right = both ? width / 2 - 16 : width - margin,
                         .top = top,
                         .bottom = top + panel_height};
    struct panel right = {
        .left = width / 2 + 62, .right = width - margin - 8, .top = top, .bottom = top + panel_height};
    write_throughput(&left, data, file);
    if (both) write_speedup(&right, data, file);
}

// ---- words

// Writes the notes wrapped, each paragraph from a line of its own; with file NULL only measures. Returns the
// y below.
static double lay_notes(const char *notes, double y, FILE *file) {
    while (*notes) {
        size_t length = label_wrap(notes, NOTE_CHARACTERS);
        y += note_line;
        if (file) {
            fprintf(file, "<text x=\"%.1f\" y=\"%.1f\" class=\"note\">", margin, y);
            label_write_xml(notes, length, file);
            fputs("</text>\n", file);
        }
        notes += length;
        notes += strspn(notes, *notes == '\n' ? "\n" : " ");
    }
    return y;
}

static void write_head(const struct plot_caption *caption, double height, FILE *file) {
    fprintf(file,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%.0f\" height=\"%.0f\" viewBox=\"0 0 %.0f "
            "%.0f\" role=\"img\">\n<title>",
            width, height, width, height);
    label_write_xml(caption->title, strlen(caption->title), file);
    fputs(": ", file);
    label_write_xml(caption->subtitle, strlen(caption->subtitle), file);
    fputs("</title>\n", file);
    svg_write_styles(file);
    fprintf(file, "<rect class=\"paper\" width=\"%.0f\" height=\"%.0f\"/>\n", width, height);
    svg_write_text(file, margin, 36, "title", "start", caption->title);
    svg_write_text(file, margin, 57, "muted", "start", caption->subtitle);
}

enum status plot_write_svg(const struct bench_record *record, const struct reference *reference, FILE *file,
                           struct error *error) {
    struct plot_caption caption;
    struct plot_data data = plot_data_collect(record, reference);
    enum status status = plot_caption_make(record, reference, &data, &caption, error);
    if (status == STATUS_OK) {
        const double legend_top = 68, panel_top = lay_legend(&data, legend_top, NULL) + 14;
        const double notes_top = panel_top + panel_height + 48;
        write_head(&caption, lay_notes(caption.notes, notes_top, NULL) + 16, file);
        lay_legend(&data, legend_top, file);
        write_panels(&data, panel_top, file);
        lay_notes(caption.notes, notes_top, file);
        fputs("</svg>\n", file);
    }
    plot_caption_free(&caption);
    plot_data_free(&data);
    return status;
}
