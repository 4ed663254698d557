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

// "[####....]  50 %  ", or the percentage alone where no bar can be drawn; empty while nothing is known.
static void format_done(const struct progress *progress, double fraction, char *text, size_t size) {
    enum { WIDTH = 24 };
    char bar[WIDTH + 1];
    for (int i = 0; i < WIDTH; i++) bar[i] = i < (int)(fraction * WIDTH + 0.5) ? '#' : '.';
    bar[WIDTH] = '\0';
    if (fraction < 0)
        text[0] = '\0';
    else if (progress->terminal)
        snprintf(text, size, "[%s] %3.0f %%  ", bar, 100 * fraction);
    else
        snprintf(text, size, "%3.0f %%  ", 100 * fraction);
}

void progress_update(struct progress *progress, const char *text, double fraction, double eta_seconds) {
    double now = clock_seconds();
    if (progress->silent || now - progress->last < (progress->terminal ? seconds_per_bar : seconds_per_line))
        return;
    progress->last = now;
    if (fraction > 1) fraction = 1;
    if (eta_seconds < 0 && fraction > 0) eta_seconds = (now - progress->began) * (1 / fraction - 1);
    char done[48], left[48];
    format_done(progress, fraction, done, sizeof done);
    format_left(eta_seconds, left, sizeof left);
    // A bar is kept below 80 columns, since a wrapped line cannot be taken back.
    if (progress->terminal)
        fprintf(stderr, "\r\033[K%s%.26s%s", done, text, left);
    else
        fprintf(stderr, "%s%s%s\n", done, text, left);
    fflush(stderr);
    progress->shown = progress->terminal;
}

void progress_clear(struct progress *progress) {
    if (!progress->shown) return;
    fputs("\r\033[K", stderr);
    fflush(stderr);
    progress->shown = false;
}
