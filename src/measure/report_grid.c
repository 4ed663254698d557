#include "measure/report_grid.h"

#include <stb/stb_ds.h>
#include <stdarg.h>
#include <string.h>

static const int gap = 2; // blanks between columns of a table

struct grid_row *grid_add_row(struct grid *grid) {
    struct grid_row empty;
    memset(&empty, 0, sizeof empty);
    arrput(grid->rows, empty);
    return &arrlast(grid->rows);
}

void grid_add_column(struct grid *grid, const char *header, bool left) {
    struct grid_row *row = arrlen(grid->rows) ? grid->rows : grid_add_row(grid);
    snprintf(row->cells[grid->columns], GRID_CELL, "%s", header);
    grid->left[grid->columns++] = left;
}

void grid_put(struct grid_row *row, int *column, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(row->cells[(*column)++], GRID_CELL, format, arguments);
    va_end(arguments);
}

void grid_free(struct grid *grid) {
    arrfree(grid->rows);
    memset(grid, 0, sizeof *grid);
}

// Characters on the screen: bytes that do not continue a UTF-8 character.
static int text_width(const char *text) {
    int width = 0;
    for (; *text; text++) width += ((unsigned char)*text & 0xC0) != 0x80;
    return width;
}

static int column_width(const struct grid *grid, int column) {
    int widest = 0;
    for (ptrdiff_t i = 0; i < arrlen(grid->rows); i++) {
        int width = text_width(grid->rows[i].cells[column]);
        if (width > widest) widest = width;
    }
    return widest;
}

// Without blanks at the end of the line.
static void write_padded(const char *text, int width, bool left, bool last, FILE *file) {
    int blanks = width - text_width(text);
    if (!left) fprintf(file, "%*s", blanks, "");
    fputs(text, file);
    if (left && !last) fprintf(file, "%*s", blanks, "");
}

static void write_table(const struct grid *grid, FILE *file) {
    for (ptrdiff_t i = 0; i < arrlen(grid->rows); i++) {
        int last = grid->columns - 1;
        while (last > 0 && grid->rows[i].cells[last][0] == '\0') last--;
        for (int column = 0; column <= last; column++) {
            if (column > 0) fprintf(file, "%*s", gap, "");
            write_padded(grid->rows[i].cells[column], column_width(grid, column), grid->left[column],
                         column == last, file);
        }
        fputc('\n', file);
    }
}

static void write_markdown_row(const struct grid *grid, const struct grid_row *row, FILE *file) {
    fputc('|', file);
    for (int column = 0; column < grid->columns; column++) {
        fputc(' ', file);
        for (const char *text = row->cells[column]; *text; text++) {
            if (*text == '|') fputc('\\', file);
            fputc(*text, file);
        }
        fputs(" |", file);
    }
    fputc('\n', file);
}

static void write_markdown(const struct grid *grid, FILE *file) {
    for (ptrdiff_t i = 0; i < arrlen(grid->rows); i++) {
        write_markdown_row(grid, &grid->rows[i], file);
        if (i > 0) continue;
        fputc('|', file);
        for (int column = 0; column < grid->columns; column++)
            fputs(grid->left[column] ? "---|" : "--:|", file);
        fputc('\n', file);
    }
}

void grid_write(const struct grid *grid, bool markdown, FILE *file) {
    if (markdown)
        write_markdown(grid, file);
    else
        write_table(grid, file);
}
