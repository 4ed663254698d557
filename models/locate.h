// Where a model named on the command line lies.
#ifndef MODELS_LOCATE_H
#define MODELS_LOCATE_H

#include "base/status.h"

// A path (anything with a slash, ending in .bin or .safetensors, or "." and "..") stands for itself; a bare
// NAME is looked up as models/NAME under the working directory, then beside the executable, then as a
// directory NAME. *file is the named file, NULL when a directory was named; *directory is the one it lies in,
// or the named one. The caller frees both; on failure both are NULL.
CHECKED enum status model_locate(const char *name, char **file, char **directory, struct error *error);

#endif
