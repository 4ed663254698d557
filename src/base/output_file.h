// Results that appear under their name only when they are complete.
//
//   struct output_file output;
//   TRY(output_file_open(path, &output, error));
//   fprintf(output.stream, ...);                       // write errors may be ignored here: commit finds them
//   status = finished ? output_file_commit(&output, error) : (output_file_discard(&output), status);
#ifndef BASE_OUTPUT_FILE_H
#define BASE_OUTPUT_FILE_H

#include "base/status.h"

#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif

struct output_file {
    FILE *stream;    // write here; NULL once committed or discarded
    char *path;      // what the target is called, links resolved
    char *temporary; // where the bytes go until commit; NULL: straight to the target
};

// Starts a temporary file beside `path`. NULL or "-" is standard output; an existing pipe or device is
// written directly. An existing file keeps its content until commit, and its permissions after. On failure
// output->stream is NULL and nothing is left behind.
CHECKED enum status output_file_open(const char *path, struct output_file *output, struct error *error);

// Puts everything on the disk and under its name. On failure (a full disk, say) the temporary file is
// removed, and what was there before is untouched.
CHECKED enum status output_file_commit(struct output_file *output, struct error *error);

// Forgets what was written, except to standard output, pipes and devices. Allowed after commit and on a
// zeroed struct.
void output_file_discard(struct output_file *output);

#ifdef __cplusplus
}
#endif
#endif
