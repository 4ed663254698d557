#include "tests/support/written_text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static char *text; // the stream keeps the addresses
static size_t size;

FILE *written_text_open(void) {
    FILE *file = open_memstream(&text, &size);
    assert_non_null(file);
    return file;
}

char *written_text_close(FILE *file) {
    assert_int_equal(fclose(file), 0);
    return text;
}
