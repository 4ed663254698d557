#include "cli/progress.h"
#include "base/clock.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const double seconds_per_bar = 0.1, seconds_per_line = 5.0;

void progress_start(struct progress *progress, bool quiet, bool at_once) {
    const char *term = getenv("TERM");
    // The bar has no colour, so NO_COLOR asks nothing of it.
    bool drawable = isatty(STDERR_FILENO) && term && strcmp(term, "dumb") != 0;
    double now = clock_seconds();
    *progress = (struct progress){
        .silent = quiet, .terminal = drawable, .began = now, .last = at_once ? -INFINITY : now};
}

static void format_left(double seconds, char *text, size_t size) {
    long whole = seconds < 1e6 ? lround(seconds) : 1000000;
    if (seconds < 0)
        text[0] = '\0';
    else if (whole < 60)
        snprintf(text, size, ", %ld s left", whole);
    else if (whole < 3600)
        snprintf(text, size, ", %ld min %02ld s left", whole / 60, whole % 60);
    else
        snprintf(text, size, ", %.1f h left", (double)whole / 3600);
}

void progress_update(struct progress *progress, const char *text, double fraction, double eta_seconds) {
    double now = clock_seconds();
    if (progress->silent || now - progress->last < (progress->terminal ? seconds_per_bar : seconds_per_line))
        return;
    progress->last = now;
    if (!(fraction > 0)) fraction = 0;
    if (fraction > 1) fraction = 1;
    if (eta_seconds < 0 && fraction > 0) eta_seconds = (now - progress->began) * (1 / fraction - 1);
    char left[48];
    format_left(eta_seconds, left, sizeof left);
    if (!progress->terminal) {
        fprintf(stderr, "%s: %.0f %%%s\n", text, 100 * fraction, left);
        return;
    }
    enum { WIDTH = 24 };
    char bar[WIDTH + 1];
    for (int i = 0; i < WIDTH; i++) bar[i] = i < (int)(fraction * WIDTH + 0.5) ? '#' : '.';
    bar[WIDTH] = '\0';
    // Kept below 80 columns, since a wrapped line cannot be taken back.
    fprintf(stderr, "\r\033[K[%s] %3.0f %%  %.26s%s", bar, 100 * fraction, text, left);
    fflush(stderr);
    progress->shown = true;
}

void progress_clear(struct progress *progress) {
    if (!progress->shown) return;
    fputs("\r\033[K", stderr);
    fflush(stderr);
    progress->shown = false;
}
