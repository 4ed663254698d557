#define _XOPEN_SOURCE 700 // realpath
#include "base/output_file.h"

#include "base/text.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static enum status open_failed(const char *path, struct error *error) {
    return error_set(error, STATUS_FAILED, "%s: cannot write: %s", path, strerror(errno));
}

// Creates a file in the directory of `path` under a name that nobody else has.
static int create_temporary(const char *path, mode_t mode, char **name) {
    const char *slash = strrchr(path, '/');
    int directory = slash == NULL ? 0 : (int)(slash + 1 - path);
    int descriptor = -1;
    for (int attempt = 0; attempt < 1000; attempt++) {
        *name = text_format("%.*s.gpt2infer-%ld-%d.tmp", directory, path, (long)getpid(), attempt);
        if (*name == NULL) break;
        descriptor = open(*name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
        if (descriptor >= 0) break;
        free(*name);
        *name = NULL;
        if (errno != EEXIST) break;
    }
    return descriptor;
}

// Opens the descriptor that bytes go to; output->path is known.
static int open_target(struct output_file *output, bool exists, const struct stat *target) {
    if (!exists) return create_temporary(output->path, 0666, &output->temporary);
    if (!S_ISREG(target->st_mode)) return open(output->path, O_WRONLY | O_CLOEXEC);
    if (access(output->path, W_OK) != 0) return -1;
    int descriptor = create_temporary(output->path, 0600, &output->temporary);
    if (descriptor >= 0) (void)!fchmod(descriptor, target->st_mode & 07777); // at worst stays private
    return descriptor;
}

enum status output_file_open(const char *path, struct output_file *output, struct error *error) {
    *output = (struct output_file){0};
    if (path == NULL || strcmp(path, "-") == 0) {
        output->stream = stdout;
        return STATUS_OK;
    }
    struct stat target;
    bool exists = stat(path, &target) == 0;
    if (!exists && (errno != ENOENT || *path == '\0')) return open_failed(path, error);
    // Through a link, or the rename would replace the link.
    output->path = exists && S_ISREG(target.st_mode) ? realpath(path, NULL) : strdup(path);
    if (output->path == NULL) return open_failed(path, error);
    int descriptor = open_target(output, exists, &target);
    if (descriptor >= 0) output->stream = fdopen(descriptor, "w");
    if (output->stream != NULL) return STATUS_OK;
    enum status status = open_failed(path, error);
    if (descriptor >= 0) close(descriptor);
    output_file_discard(output);
    return status;
}

// True when every byte has reached the disk; errno says why not.
static bool flush_all(struct output_file *output) {
    errno = 0;
    if (fflush(output->stream) != 0) return false;
    if (ferror(output->stream)) return false; // an earlier write failed
    return output->temporary == NULL || fsync(fileno(output->stream)) == 0;
}

enum status output_file_commit(struct output_file *output, struct error *error) {
    const char *path = output->path == NULL ? "standard output" : output->path;
    bool complete = flush_all(output);
    if (complete && output->path != NULL) {
        FILE *stream = output->stream;
        output->stream = NULL;
        complete = fclose(stream) == 0;
    }
    if (complete && output->temporary != NULL) {
        complete = rename(output->temporary, output->path) == 0;
        if (complete) {
            free(output->temporary);
            output->temporary = NULL;
        }
    }
    enum status status = STATUS_OK;
    if (!complete) {
        status = error_set(error, STATUS_FAILED, "%s: cannot write: %s", path,
                           errno != 0 ? strerror(errno) : "an earlier write failed");
    }
    output_file_discard(output);
    return status;
}

void output_file_discard(struct output_file *output) {
    if (output->stream != NULL && output->stream != stdout) fclose(output->stream);
    if (output->temporary != NULL) unlink(output->temporary);
    free(output->temporary);
    free(output->path);
    *output = (struct output_file){0};
}
