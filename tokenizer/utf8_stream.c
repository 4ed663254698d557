#include "tokenizer/tokenizer.h"
#include "tokenizer/utf8.h"

#include <stb/stb_ds.h>
#include <string.h>

static void give_out(struct utf8_stream *stream, int count, char **bytes) {
    memcpy(arraddnptr(*bytes, (size_t)count), stream->held, (size_t)count);
    stream->count -= count;
    memmove(stream->held, stream->held + count, (size_t)stream->count);
}

void utf8_stream_push(struct utf8_stream *stream, const char *text, size_t length, bool last, char **bytes) {
    for (size_t i = 0; i < length; i++) {
        stream->held[stream->count++] = text[i];
        int size = utf8_character(stream->held, (size_t)stream->count);
        if (size == 0 && stream->count > 1) { // what was held can never be completed; the new byte may begin
            give_out(stream, stream->count - 1, bytes);
            size = utf8_character(stream->held, 1);
        }
        if (size >= 0) give_out(stream, stream->count, bytes);
    }
    if (last && stream->count > 0) give_out(stream, stream->count, bytes);
}
