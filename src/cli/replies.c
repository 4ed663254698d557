#include "cli/replies.h"
#include "cli/json_text.h"

#include <stb/stb_ds.h>
#include <stdlib.h>
#include <string.h>

static void write_bytes(const struct replies *replies, const char *bytes, size_t length) {
    if (length) fwrite(bytes, 1, length, replies->stream);
}

// ---- plain text: the prompt, then what continues it

static void write_prompt(const struct replies *replies, int index) {
    for (size_t i = 0; replies->tokenizer && i < arrlenu(replies->prompts[index]); i++) {
        int32_t id = replies->prompts[index][i];
        size_t length = 0;
        const char *bytes = tokenizer_token(replies->tokenizer, id, &length);
        if (bytes && id != replies->eos) write_bytes(replies, bytes, length);
    }
}

static void write_plain(const struct replies *replies, int index) {
    const struct reply *reply = &replies->replies[index];
    fprintf(replies->stream, "%s==> prompt %d <==\n", index ? "\n" : "", index);
    write_prompt(replies, index);
    write_bytes(replies, reply->text, arrlenu(reply->text));
    for (size_t i = 0; !replies->tokenizer && i < arrlenu(reply->ids); i++)
        fprintf(replies->stream, "%s%d", i ? " " : "", reply->ids[i]);
    fputc('\n', replies->stream);
}

// Writes what the streamed reply has got since the last time, whole characters only.
static void stream_text(struct replies *replies, bool last) {
    const struct reply *reply = &replies->replies[0];
    char *ready = NULL;
    size_t length = arrlenu(reply->text);
    utf8_stream_push(&replies->characters, length ? reply->text + replies->streamed : "",
                     length - replies->streamed, last, &ready);
    replies->streamed = length;
    write_bytes(replies, ready, arrlenu(ready));
    arrfree(ready);
    fflush(replies->stream);
}

static void stream_token(struct replies *replies, int32_t token) {
    if (replies->tokenizer) {
        stream_text(replies, false);
    } else {
        fprintf(replies->stream, "%s%d", arrlenu(replies->replies[0].ids) > 1 ? " " : "", token);
        fflush(replies->stream);
    }
}

// ---- JSON

static const char *finish_name(enum generate_finish finish) {
    switch (finish) {
    case GENERATE_STOPPED:
        return "stop";
    case GENERATE_LENGTH:
        return "length";
    case GENERATE_INTERRUPTED:
        return "interrupted";
    }
    return "";
}

static void write_object(struct replies *replies, int index) {
    const struct reply *reply = &replies->replies[index];
    const int32_t *prompt = replies->prompts[index];
    json_t *text =
        replies->tokenizer ? json_text(reply->text ? reply->text : "", arrlenu(reply->text)) : json_null();
    json_t *object = json_pack(
        "{s:i, s:o, s:o, s:o, s:s}", "index", index, "prompt_ids", json_ids(prompt, arrlenu(prompt)), "ids",
        json_ids(reply->ids, arrlenu(reply->ids)), "text", text, "finish_reason", finish_name(reply->finish));
    if (replies->format == FORMAT_JSON) fputs(index ? "," : "[\n", replies->stream);
    replies->status = json_write(object, true, replies->stream, &replies->error);
}

// ---- replies

static bool can_go_on(const struct replies *replies) {
    return replies->status == STATUS_OK && !ferror(replies->stream);
}

enum status replies_begin(struct replies *replies, const char *const *stops, struct error *error) {
    replies->replies = calloc((size_t)replies->count, sizeof *replies->replies);
    if (!replies->replies)
        return error_set(error, STATUS_OUT_OF_MEMORY, "no host memory for %d replies", replies->count);
    for (int i = 0; i < replies->count; i++)
        replies->replies[i].stop = (struct stop_filter){.stops = stops, .count = arrlenu(stops)};
    if (replies->streaming) {
        write_prompt(replies, 0);
        fflush(replies->stream);
    }
    return STATUS_OK;
}

bool replies_token(struct replies *replies, int index, int32_t token) {
    struct reply *reply = &replies->replies[index];
    arrput(reply->ids, token);
    bool stopped = false;
    if (replies->tokenizer && token != replies->eos) {
        size_t length = 0;
        const char *bytes = tokenizer_token(replies->tokenizer, token, &length);
        if (bytes) stopped = stop_filter_push(&reply->stop, bytes, length, &reply->text);
    }
    if (replies->streaming) stream_token(replies, token);
    return !stopped && can_go_on(replies);
}

bool replies_finished(struct replies *replies, int index, enum generate_finish finish) {
    struct reply *finished = &replies->replies[index];
    stop_filter_finish(&finished->stop, &finished->text);
    finished->finished = true;
    finished->finish = finish;
    for (; replies->next < replies->count && replies->replies[replies->next].finished; replies->next++) {
        if (!can_go_on(replies)) break;
        struct reply *reply = &replies->replies[replies->next];
        if (replies->streaming) {
            if (replies->tokenizer) stream_text(replies, true);
            fputc('\n', replies->stream);
        } else if (replies->format == FORMAT_TABLE) {
            write_plain(replies, replies->next);
        } else {
            write_object(replies, replies->next);
        }
        arrfree(reply->ids);
        arrfree(reply->text);
        fflush(replies->stream);
    }
    return can_go_on(replies);
}

enum status replies_end(struct replies *replies, struct error *error) {
    if (replies->status != STATUS_OK) {
        *error = replies->error;
        return replies->status;
    }
    if (replies->format == FORMAT_JSON) fputs("]\n", replies->stream);
    return STATUS_OK;
}

void replies_free(struct replies *replies) {
    for (int i = 0; replies->replies && i < replies->count; i++) {
        arrfree(replies->replies[i].ids);
        arrfree(replies->replies[i].text);
        stop_filter_free(&replies->replies[i].stop);
    }
    free(replies->replies);
}
