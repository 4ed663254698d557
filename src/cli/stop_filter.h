// Ends a text before a stop text, which may arrive in pieces: what could still become one is held back.
#ifndef CLI_STOP_FILTER_H
#define CLI_STOP_FILTER_H

#include <stdbool.h>
#include <stddef.h>

struct stop_filter {
    const char *const *stops; // not empty ones
    size_t count;
    char *held; // stb_ds array: the start of a stop text, perhaps
};

// Appends to *shown (stb_ds array) what is certainly no part of a stop text after these bytes. True when a
// stop text is complete: what came before it has been appended, and the filter takes no more.
bool stop_filter_push(struct stop_filter *filter, const char *bytes, size_t length, char **shown);

// The text has ended: appends what was held back.
void stop_filter_finish(struct stop_filter *filter, char **shown);

void stop_filter_free(struct stop_filter *filter);

#endif
