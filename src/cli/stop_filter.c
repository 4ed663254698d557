#include "cli/stop_filter.h"

#include <stb/stb_ds.h>
#include <string.h>

static void append(char **bytes, const char *more, size_t length) {
    if (length) memcpy(arraddnptr(*bytes, length), more, length);
}

// How much of a stop text stands at the end of the `length` bytes.
static size_t longest_start(const struct stop_filter *filter, const char *bytes, size_t length) {
    size_t longest = 0;
    for (size_t i = 0; i < filter->count; i++) {
        size_t most = strlen(filter->stops[i]) - 1;
        if (most > length) most = length;
        for (size_t n = most; n > longest; n--) {
            if (memcmp(bytes + length - n, filter->stops[i], n) == 0) longest = n;
        }
    }
    return longest;
}

// Where the first stop text begins in the `length` bytes; `length` when there is none.
static size_t first_stop(const struct stop_filter *filter, const char *bytes, size_t length) {
    for (size_t start = 0; start < length; start++) {
        for (size_t i = 0; i < filter->count; i++) {
            size_t size = strlen(filter->stops[i]);
            if (size <= length - start && memcmp(bytes + start, filter->stops[i], size) == 0) return start;
        }
    }
    return length;
}

bool stop_filter_push(struct stop_filter *filter, const char *bytes, size_t length, char **shown) {
    append(&filter->held, bytes, length);
    size_t size = arrlenu(filter->held);
    if (size == 0) return false;
    size_t stop = first_stop(filter, filter->held, size);
    bool stopped = stop < size;
    size_t safe = stopped ? stop : size - longest_start(filter, filter->held, size);
    append(shown, filter->held, safe);
    if (stopped)
        arrsetlen(filter->held, 0);
    else
        arrdeln(filter->held, 0, safe);
    return stopped;
}

void stop_filter_finish(struct stop_filter *filter, char **shown) {
    append(shown, filter->held, arrlenu(filter->held));
    arrfree(filter->held);
}

void stop_filter_free(struct stop_filter *filter) {
    arrfree(filter->held);
}
