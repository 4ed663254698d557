// Remembers discovered batch sizes.
#ifndef MEASURE_DISCOVER_CACHE_H
#define MEASURE_DISCOVER_CACHE_H

#include "measure/discover.h"

// 0: nothing is remembered. What is wrong with the cache is told in note->message and is no failure.
int discover_cache_read(struct backend *backend, const struct discover_options *options, struct error *note);
void discover_cache_write(struct backend *backend, const struct discover_options *options, int batch,
                          struct error *note);

#endif
