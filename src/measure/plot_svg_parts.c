#include "measure/plot_svg_parts.h"

#include "measure/plot_label.h"

#include <stb/stb_ds.h>
#include <stdlib.h>
#include <string.h>

// Colours that eyes of all kinds tell apart (Okabe and Ito's), lighter ones on a dark ground.
void svg_write_styles(FILE *file) {
    fputs("<style>\n"
          "text{font-family:system-ui,-apple-system,'Segoe UI',Helvetica,Arial,sans-serif;font-size:12px;"
          "fill:#1f2328}\n"
          "text.title{font-size:17px;font-weight:600}\n"
          "text.muted{fill:#59636e}\n"
          "text.note{font-size:11px;fill:#59636e}\n"
          ".paper{fill:#ffffff}\n"
          ".grid{stroke:#e4e7eb;stroke-width:1}\n"
          ".axis{stroke:#818b98;stroke-width:1;fill:none}\n"
          ".cached{stroke:#0072b2;fill:#0072b2}\n"
          ".uncached{stroke:#d55e00;fill:#d55e00}\n"
          ".gain{stroke:#00845f;fill:#00845f}\n"
          ".published{stroke:#767f8a;fill:#767f8a}\n"
          ".line{fill:none;stroke-width:2;stroke-linejoin:round}\n"
          ".published.line{stroke-width:1.25}\n"
          ".interval{stroke-width:1.25}\n"
          ".dashed{stroke-dasharray:6 4;stroke-width:1.5}\n"
          ".hollow{fill:#ffffff;stroke-width:1.75}\n"
          "@media (prefers-color-scheme:dark){\n"
          "text{fill:#e6edf3}\n"
          "text.muted,text.note{fill:#9da7b3}\n"
          ".paper{fill:#0d1117}\n"
          ".grid{stroke:#262c36}\n"
          ".axis{stroke:#6e7681}\n"
          ".cached{stroke:#56b4e9;fill:#56b4e9}\n"
          ".uncached{stroke:#f0883e;fill:#f0883e}\n"
          ".gain{stroke:#2fc196;fill:#2fc196}\n"
          ".published{stroke:#9da7b3;fill:#9da7b3}\n"
          ".line{fill:none}\n"
          ".hollow{fill:#0d1117}\n"
          "}\n"
          "</style>\n",
          file);
}

void svg_write_text(FILE *file, double x, double y, const char *style, const char *anchor, const char *text) {
    fprintf(file, "<text x=\"%.1f\" y=\"%.1f\" class=\"%s\" text-anchor=\"%s\">", x, y, style, anchor);
    label_write_xml(text, strlen(text), file);
    fputs("</text>\n", file);
}

double svg_text_width(const char *text, double font_size) {
    return 0.55 * font_size * label_characters(text, strlen(text));
}

// ---- axes

static const double gap_line_height = 15, gap_strip_edge = 3;

double svg_gap_strip(const struct panel *panel) {
    return panel->gap_lines > 0 ? panel->gap_lines * gap_line_height + 2 * gap_strip_edge : 0;
}

static void write_segment(FILE *file, const char *style, double x1, double y1, double x2, double y2) {
    fprintf(file, "<line class=\"%s\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>\n", style, x1, y1, x2,
            y2);
}

static void write_y_axis(const struct panel *panel, FILE *file) {
    const struct ticks ticks = scale_ticks(&panel->y);
    for (int i = 0; i < ticks.count; i++) {
        double y = scale_place(&panel->y, ticks.values[i]);
        char label[32];
        label_number(ticks.values[i], label, sizeof label);
        write_segment(file, "grid", panel->left, y, panel->right, y);
        svg_write_text(file, panel->left - 7, y + 4, "muted", "end", label);
    }
    double x = panel->left - 44, y = (panel->top + panel->bottom) / 2;
    fprintf(file,
            "<text class=\"muted\" text-anchor=\"middle\" transform=\"translate(%.1f %.1f) rotate(-90)\">%s"
            "</text>\n",
            x, y, panel->name);
}

static void write_batch_labels(const struct panel *panel, const int *batches, FILE *file) {
    int count = (int)arrlen(batches);
    double *places = NULL, *widths = NULL;
    bool *shown = NULL;
    char label[16];
    for (int i = 0; i < count; i++) {
        snprintf(label, sizeof label, "%d", batches[i]);
        arrput(places, scale_place(&panel->x, batches[i]));
        arrput(widths, svg_text_width(label, 12));
        arrput(shown, false);
    }
    scale_thin_labels(places, widths, count, 5, shown);
    for (int i = 0; i < count; i++) {
        // A tick for each, where they stand apart; labels where those do.
        if (shown[i] || i == 0 || places[i] - places[i - 1] > 2)
            write_segment(file, "axis", places[i], panel->bottom, places[i], panel->bottom + 4);
        snprintf(label, sizeof label, "%d", batches[i]);
        if (shown[i]) svg_write_text(file, places[i], panel->bottom + 18, "muted", "middle", label);
    }
    arrfree(places);
    arrfree(widths);
    arrfree(shown);
}

void svg_write_axes(const struct panel *panel, const int *batches, FILE *file) {
    write_y_axis(panel, file);
    if (panel->gap_lines > 0) {
        double y = panel->bottom - svg_gap_strip(panel);
        write_segment(file, "axis", panel->left, y, panel->right, y);
        svg_write_text(file, panel->left - 7, (y + panel->bottom) / 2 + 4, "note", "end", "no data");
    }
    fprintf(file, "<path class=\"axis\" d=\"M%.1f %.1fV%.1fH%.1f\"/>\n", panel->left, panel->top,
            panel->bottom, panel->right);
    write_batch_labels(panel, batches, file);
    svg_write_text(file, (panel->left + panel->right) / 2, panel->bottom + 37, "muted", "middle",
                   "batch size (rows)");
}

// ---- lines

void svg_write_mark(const struct line_style *style, bool hollow, double x, double y, const char *tip,
                    FILE *file) {
    static const char *const shapes[] = {[MARK_CIRCLE] = "m-4.5 0a4.5 4.5 0 1 0 9 0a4.5 4.5 0 1 0-9 0z",
                                         [MARK_SQUARE] = "m-4-4h8v8h-8z",
                                         [MARK_DIAMOND] = "m0-5.5l5.5 5.5l-5.5 5.5l-5.5-5.5z",
                                         [MARK_UP] = "m0-5l4.8 8.5h-9.6z",
                                         [MARK_DOWN] = "m0 5l4.8-8.5h-9.6z"};
    fprintf(file, "<path class=\"%s%s\" d=\"M%.1f %.1f%s\">", style->colour, hollow ? " hollow" : "", x, y,
            shapes[style->mark]);
    if (tip) {
        fputs("<title>", file);
        label_write_xml(tip, strlen(tip), file);
        fputs("</title>", file);
    }
    fputs("</path>\n", file);
}

static void write_joined(const struct panel *panel, const char *style, const struct plot_point *line,
                         FILE *file) {
    bool joined = false;
    if (arrlen(line) == 0) return;
    fprintf(file, "<path class=\"%s\" d=\"", style);
    for (ptrdiff_t i = 0; i < arrlen(line); i++) {
        if (line[i].value > 0)
            fprintf(file, "%c%.1f %.1f", joined ? 'L' : 'M', scale_place(&panel->x, line[i].batch),
                    scale_place(&panel->y, line[i].value));
        joined = line[i].value > 0;
    }
    fputs("\"/>\n", file);
}

static void write_interval(const struct panel *panel, const struct line_style *style,
                           const struct plot_point *point, FILE *file) {
    double x = scale_place(&panel->x, point->batch);
    fprintf(file, "<path class=\"%s line interval\" d=\"M%.1f %.1fh12m-6 0V%.1fm-6 0h12\"/>\n", style->colour,
            x - 6, scale_place(&panel->y, point->low), scale_place(&panel->y, point->high));
}

static void write_point(const struct panel *panel, const struct line_style *style,
                        const struct plot_point *point, FILE *file) {
    char value[32], tip[192];
    label_number(point->value, value, sizeof value);
    snprintf(tip, sizeof tip, "batch %d, %s: %s%s", point->batch, style->name, value, style->unit);
    if (point->low < point->high) write_interval(panel, style, point, file);
    bool hollow = point->status != ROW_OK || style->mark == MARK_UP || style->mark == MARK_DOWN;
    svg_write_mark(style, hollow, scale_place(&panel->x, point->batch), scale_place(&panel->y, point->value),
                   tip, file);
}

static void write_gap(const struct panel *panel, const struct line_style *style,
                      const struct plot_point *point, int gap_line, FILE *file) {
    fprintf(file,
            "<path class=\"%s line\" d=\"M%.1f %.1fm-3.5-3.5l7 7m0-7l-7 7\"><title>batch %d, %s: %s"
            "</title></path>\n",
            style->colour, scale_place(&panel->x, point->batch),
            panel->bottom - gap_strip_edge - (gap_line + 0.5) * gap_line_height, point->batch, style->name,
            row_status_name(point->status));
}

void svg_write_line(const struct panel *panel, const struct line_style *style, const struct plot_point *line,
                    int gap_line, FILE *file) {
    char classes[64];
    snprintf(classes, sizeof classes, "%s line", style->colour);
    write_joined(panel, classes, line, file);
    for (ptrdiff_t i = 0; i < arrlen(line); i++) {
        if (line[i].value > 0)
            write_point(panel, style, &line[i], file);
        else
            write_gap(panel, style, &line[i], gap_line, file);
    }
}

void svg_write_ceiling(const struct panel *panel, const char *colour, const struct plot_point *line,
                       FILE *file) {
    char classes[64];
    snprintf(classes, sizeof classes, "%s line dashed", colour);
    write_joined(panel, classes, line, file);
}
