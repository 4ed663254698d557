#include "tokenizer/split.h"

#include "tokenizer/utf8.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

// What \s means to the published encoder: Unicode's White_Space. PCRE2's own \s also takes U+180E.
#define SPACE                                                                                                \
    "\\x{09}-\\x{0D}\\x{20}\\x{85}\\x{A0}\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}\\x{202F}\\x{205F}"   \
    "\\x{3000}"

// The pattern of GPT-2's published encoder. One of the alternatives takes every character, so a match is
// always found where it is looked for.
static const char PATTERN[] = "'s|'t|'re|'ve|'m|'ll|'d"
                              "| ?\\p{L}+"
                              "| ?\\p{N}+"
                              "| ?[^" SPACE "\\p{L}\\p{N}]+"
                              "|[" SPACE "]+(?![^" SPACE "])"
                              "|[" SPACE "]+";

// PCRE2's types, under names that split.h can declare without its header.
static pcre2_code *code_of(const struct split_pattern *pattern) {
    return (pcre2_code *)(uintptr_t)pattern;
}
static pcre2_match_data *match_of(struct split_match *match) {
    return (pcre2_match_data *)match;
}

static enum status pcre2_error(int code, const char *what, struct error *error) {
    char message[256] = "";
    pcre2_get_error_message(code, (PCRE2_UCHAR *)message, sizeof message);
    return error_set(error, code == PCRE2_ERROR_NOMEMORY ? STATUS_OUT_OF_MEMORY : STATUS_FAILED, "%s: %s",
                     what, message);
}

enum status split_pattern_open(struct split_pattern **pattern, struct error *error) {
    *pattern = NULL;
    int code;
    PCRE2_SIZE offset;
    pcre2_code *compiled = pcre2_compile((PCRE2_SPTR)PATTERN, PCRE2_ZERO_TERMINATED,
                                         PCRE2_UTF | PCRE2_ANCHORED, &code, &offset, NULL);
    if (!compiled) return pcre2_error(code, "compiling the split pattern", error);
    // Without a just-in-time compiler, or where the system forbids one, matching is interpreted: slower, same
    // pieces.
    (void)pcre2_jit_compile(compiled, PCRE2_JIT_COMPLETE);
    *pattern = (struct split_pattern *)compiled;
    return STATUS_OK;
}

void split_pattern_close(struct split_pattern *pattern) {
    pcre2_code_free(code_of(pattern));
}

enum status split_walk_open(struct split_walk *walk, const struct split_pattern *pattern,
                            struct error *error) {
    *walk = (struct split_walk){.pattern = pattern};
    walk->match = (struct split_match *)pcre2_match_data_create(1, NULL);
    if (!walk->match) return error_set(error, STATUS_OUT_OF_MEMORY, "no host memory to split text");
    return STATUS_OK;
}

void split_walk_start(struct split_walk *walk, const char *text, size_t length) {
    walk->text = text;
    walk->length = length;
    walk->position = walk->run_start = walk->run_end = 0;
}

void split_walk_close(struct split_walk *walk) {
    pcre2_match_data_free(match_of(walk->match));
    walk->match = NULL;
}

static size_t valid_run_end(const char *text, size_t start, size_t length) {
    while (start < length) {
        int size = utf8_character(text + start, length - start);
        if (size <= 0) break;
        start += (size_t)size;
    }
    return start;
}

enum status split_next(struct split_walk *walk, const char **piece, size_t *length, struct error *error) {
    *piece = NULL;
    *length = 0;
    if (walk->position == walk->length) return STATUS_OK;
    *piece = walk->text + walk->position;
    if (walk->position == walk->run_end) {
        walk->run_start = walk->position;
        walk->run_end = valid_run_end(walk->text, walk->position, walk->length);
    }
    if (walk->position == walk->run_end) { // not even one valid character
        walk->run_end = ++walk->position;
        *length = 1;
        return STATUS_OK;
    }
    // The run is valid: without the option PCRE2 would prove it again for every piece.
    int matches = pcre2_match(code_of(walk->pattern), (PCRE2_SPTR)(walk->text + walk->run_start),
                              walk->run_end - walk->run_start, walk->position - walk->run_start,
                              PCRE2_NO_UTF_CHECK, match_of(walk->match), NULL);
    if (matches < 0) return pcre2_error(matches, "splitting text", error);
    size_t end = walk->run_start + pcre2_get_ovector_pointer(match_of(walk->match))[1];
    *length = end - walk->position;
    walk->position = end;
    return STATUS_OK;
}
