// Progress on standard error: a bar on a terminal, now and then a plain line elsewhere.
#ifndef CLI_PROGRESS_H
#define CLI_PROGRESS_H

#include <stdbool.h>

struct progress {
    bool silent;
    bool terminal;      // a bar can be drawn and redrawn
    bool shown;         // a bar stands there now
    double began, last; // when it started, when something was shown; clock seconds
};

// `at_once`: the first update is shown whenever it comes, for work that is known to be long.
void progress_start(struct progress *progress, bool quiet, bool at_once);

// Shows `text`, the fraction done (0 .. 1, below 0: not known) and the seconds left, unless it is too soon
// after the last time. Seconds below 0 are not known: what is left at the pace so far, if that can be told.
void progress_update(struct progress *progress, const char *text, double fraction, double eta_seconds);

// Takes the bar away, before anything else is written and at the end.
void progress_clear(struct progress *progress);

#endif
