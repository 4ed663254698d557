#include "tests/support/xml_check.h"

#include "tokenizer/utf8.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <setjmp.h>

#include <cmocka.h>

enum { DEEPEST = 16, NAME = 32 };

static const char *fault(const char *what, const char *at) {
    fail_msg("%s at: %.60s", what, at);
    return at;
}

static const char *read_name(const char *at, char *name) {
    size_t length = 0;
    while ((isalnum((unsigned char)at[length]) || at[length] == '-' || at[length] == ':') &&
           length + 1 < NAME)
        length++;
    if (length == 0) return fault("expected a name", at);
    memcpy(name, at, length);
    name[length] = '\0';
    return at + length;
}

// One character of text or of an attribute's value.
static const char *read_character(const char *at) {
    static const char *const entities[] = {"&amp;", "&lt;", "&gt;", "&quot;"};
    if (*at == '&') {
        for (size_t i = 0; i < sizeof entities / sizeof entities[0]; i++) {
            if (strncmp(at, entities[i], strlen(entities[i])) == 0) return at + strlen(entities[i]);
        }
        return fault("a bare &", at);
    }
    if ((unsigned char)*at < 0x20 && *at != '\n') return fault("a control character", at);
    int bytes = utf8_character(at, strlen(at));
    if (bytes <= 0) return fault("no UTF-8", at);
    return at + bytes;
}

static const char *read_attributes(const char *at) {
    while (*at == ' ') {
        char name[NAME];
        at = read_name(at + 1, name);
        if (strncmp(at, "=\"", 2) != 0) return fault("expected =\"", at);
        for (at += 2; *at != '"';) {
            if (*at == '<') return fault("a < in an attribute", at);
            at = read_character(at);
        }
        at++;
    }
    return at;
}

void assert_well_formed(const char *xml) {
    char open[DEEPEST][NAME];
    int depth = 0, roots = 0;
    for (const char *at = xml; *at;) {
        if (*at != '<') {
            if (depth == 0 && *at != '\n') fault("text outside the root", at);
            at = read_character(at);
            continue;
        }
        char name[NAME];
        bool closing = at[1] == '/';
        at = read_name(at + 1 + closing, name);
        if (closing) {
            if (depth == 0 || strcmp(open[--depth], name) != 0) fault("a tag that was not open", at);
        } else {
            at = read_attributes(at);
            roots += depth == 0;
            assert_true(depth < DEEPEST);
            if (*at == '/')
                at++;
            else
                strcpy(open[depth++], name);
        }
        if (*at != '>') fault("expected >", at);
        at++;
    }
    if (depth != 0 || roots != 1) fault("expected one root, closed", xml);
}
