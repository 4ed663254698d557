// The pieces that plot_svg.c puts together: styles, texts, marks, a panel with its axes.
#ifndef MEASURE_PLOT_SVG_PARTS_H
#define MEASURE_PLOT_SVG_PARTS_H

#include "measure/plot_data.h"
#include "measure/plot_scale.h"

#include <stdio.h>

enum plot_mark { MARK_CIRCLE, MARK_SQUARE, MARK_DIAMOND, MARK_UP, MARK_DOWN }; // those that point are hollow

// How a line looks: `colour` is a class of the style sheet.
struct line_style {
    const char *colour;
    enum plot_mark mark;
    const char *name; // in the legend
    const char *unit; // after a point's value when the pointer rests on it
};

// All lengths are pixels; y counts downwards.
struct panel {
    double left, right, top, bottom;
    struct scale x, y; // y ends above the strip of points without a figure
    int gap_lines;     // lines of that strip, at the bottom of the panel
    const char *name;  // of the y axis
};

double svg_gap_strip(const struct panel *panel); // how high the strip is

void svg_write_styles(FILE *file);

// `anchor`: "start", "middle" or "end". The text is clean (plot_label.h), and escaped here.
void svg_write_text(FILE *file, double x, double y, const char *style, const char *anchor, const char *text);
double svg_text_width(const char *text, double font_size); // an estimate, rather too wide

void svg_write_axes(const struct panel *panel, const int *batches, FILE *file);
// `tip` shows when the pointer rests on the mark; NULL: nothing.
void svg_write_mark(const struct line_style *style, bool hollow, double x, double y, const char *tip,
                    FILE *file);

// The points, joined; a gap where a figure is missing, with a cross on line `gap_line` of the strip, counted
// from the bottom.
void svg_write_line(const struct panel *panel, const struct line_style *style, const struct plot_point *line,
                    int gap_line, FILE *file);
void svg_write_ceiling(const struct panel *panel, const char *colour, const struct plot_point *line,
                       FILE *file);

#endif
