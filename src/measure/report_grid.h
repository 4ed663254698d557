// Rows of short cells, shown aligned for a person or as a Markdown table.
#ifndef MEASURE_REPORT_GRID_H
#define MEASURE_REPORT_GRID_H

#include <stdbool.h>
#include <stdio.h>

enum { GRID_COLUMNS = 16, GRID_CELL = 128 };

struct grid_row {
    char cells[GRID_COLUMNS][GRID_CELL]; // UTF-8
};

struct grid {
    int columns;
    bool left[GRID_COLUMNS]; // aligned to the left; numbers go to the right
    struct grid_row *rows;   // stb_ds array; the first row is the header
};

// Appends a column with this header; only before any other row exists.
void grid_add_column(struct grid *grid, const char *header, bool left);
struct grid_row *grid_add_row(struct grid *grid); // all cells empty; valid until the next is added
// Formats the next cell of a row; *column counts up.
void grid_put(struct grid_row *row, int *column, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void grid_free(struct grid *grid);

void grid_write(const struct grid *grid, bool markdown, FILE *file);

#endif
