// What is written to a stream, as text.
#ifndef TESTS_SUPPORT_WRITTEN_TEXT_H
#define TESTS_SUPPORT_WRITTEN_TEXT_H

#include <stdio.h>

// One at a time. The running test fails if there is no memory.
FILE *written_text_open(void);
// Closes the stream that written_text_open returned; the caller frees what was written to it.
char *written_text_close(FILE *file);

#endif
