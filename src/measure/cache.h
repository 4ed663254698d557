// Findings about a device that are dear to make again, kept in files under the user's cache directory:
// $XDG_CACHE_HOME/gpt2infer, else ~/.cache/gpt2infer. One file per kind and key.
#ifndef MEASURE_CACHE_H
#define MEASURE_CACHE_H

#include "base/status.h"

#include <jansson.h>

// Finds what was stored for this key. *value is a new reference, or NULL when there is nothing: STATUS_OK. A
// file that cannot be read, is not ours or holds another key is an error that names it, with *value NULL; the
// caller can go on as if there were nothing.
CHECKED enum status cache_read(const char *kind, const json_t *key, json_t **value, struct error *error);

// Stores it, replacing what was there in one step; makes the directories. A failure leaves the old file.
CHECKED enum status cache_write(const char *kind, json_t *key, json_t *value, struct error *error);

#endif
