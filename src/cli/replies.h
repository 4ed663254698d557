// What generate has got for each prompt so far, and how it is shown.
#ifndef CLI_REPLIES_H
#define CLI_REPLIES_H

#include "cli/options.h"
#include "cli/stop_filter.h"
#include "engine/generate.h"
#include "tokenizer/tokenizer.h"

struct reply {
    int32_t *ids; // generated ones (stb_ds array)
    char *text;   // bytes that belong to the text, stop texts filtered (stb_ds array)
    struct stop_filter stop;
    bool finished;
    enum generate_finish finish;
};

struct replies {
    struct reply *replies; // (count)
    int count;
    int32_t **prompts;                 // (count) stb_ds arrays, the caller's
    const struct tokenizer *tokenizer; // NULL: ids only
    int32_t eos;                       // shown as no text, -1: none
    enum format format;                // FORMAT_TABLE, FORMAT_JSON or FORMAT_JSONL
    FILE *stream;
    int next;        // the first reply that has not been written
    bool streaming;  // a single reply, written as it comes
    size_t streamed; // bytes of it that were written or are held in `characters`
    struct utf8_stream characters;
    enum status status; // of writing; not ok: memory ran out
    struct error error;
};

// The fields from `replies` to `streaming` are the caller's to fill, the others begin as zero.
CHECKED enum status replies_begin(struct replies *replies, const char *const *stops, struct error *error);

// Takes a token. False: a stop text is complete, or the stream takes no more.
bool replies_token(struct replies *replies, int index, int32_t token);

// Takes the end of a reply and writes every reply whose turn has come. False: the stream takes no more.
bool replies_finished(struct replies *replies, int index, enum generate_finish finish);

// Closes the document. A failed write is left in ferror(stream).
CHECKED enum status replies_end(struct replies *replies, struct error *error);

void replies_free(struct replies *replies);

#endif
