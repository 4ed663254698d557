// Findings about a device that are dear to make again, kept in files under the user's cache directory:
// $XDG_CACHE_HOME/gpt2infer, else ~/.cache/gpt2infer. One file per kind and key.
#ifndef MEASURE_CACHE_H
#define MEASURE_CACHE_H

#include "base/status.h"
#include "engine/backend.h"

#include <jansson.h>
#include <stdbool.h>

// Finds what was stored for this key. *value is a new reference, or NULL when there is nothing: STATUS_OK. A
// file that cannot be read, is not ours or holds another key is an error that names it, with *value NULL; the
// caller can go on as if there were nothing.
CHECKED enum status cache_read(const char *kind, const json_t *key, json_t **value, struct error *error);

// Stores it, replacing what was there in one step; makes the directories. A failure leaves the old file.
CHECKED enum status cache_write(const char *kind, json_t *key, json_t *value, struct error *error);

// What every finding about an opened backend depends on: the device with its driver, threads, determinism,
// dtype, the engine's version. The caller adds to it what else it depends on, and owns it.
CHECKED enum status cache_backend_key(const struct backend *backend, json_t **key, struct error *error);

// A finding that is made where it is not stored. `value` is the caller's structure.
struct cache_finding {
    const char *kind;
    // False: the stored finding makes no sense, and note->message says so.
    bool (*read)(const json_t *stored, void *value, struct error *note);
    json_t *(*write)(const void *value); // a new reference, NULL when memory runs out
    enum status (*make)(struct backend *backend, const void *context, void *value, struct error *error);
};

// Reads the finding, or makes and then stores it; `refresh` makes it in any case. What was wrong with the
// cache is put in note->message, which the caller has emptied: the value is good all the same.
CHECKED enum status cache_find(const struct cache_finding *finding, json_t *key, struct backend *backend,
                               const void *context, bool refresh, void *value, struct error *note,
                               struct error *error);

#endif
