#include "models/locate.h"

#include "base/text.h"
#include "models/model.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static enum status no_memory(const char *name, struct error *error) {
    return error_set(error, STATUS_OUT_OF_MEMORY, "model %s: no memory to look for it", name);
}

static bool is_directory(const char *path) {
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

// ---- a path -------------------------------------------------------------------------------------

static bool is_path(const char *name) {
    const char *dot = strrchr(name, '.');
    if (strchr(name, '/') != NULL || strcmp(name, ".") == 0 || strcmp(name, "..") == 0) return true;
    return dot != NULL && (strcmp(dot, ".bin") == 0 || strcmp(dot, ".safetensors") == 0);
}

static char *directory_of(const char *path) {
    const char *slash = strrchr(path, '/');
    if (slash == NULL) return text_format(".");
    if (slash == path) return text_format("/");
    return text_format("%.*s", (int)(slash - path), path);
}

static enum status locate_path(const char *path, char **file, char **directory, struct error *error) {
    struct stat info;
    if (stat(path, &info) != 0) return error_set(error, STATUS_FAILED, "model %s: %s", path, strerror(errno));
    if (S_ISDIR(info.st_mode)) {
        *directory = text_format("%s", path);
        return *directory == NULL ? no_memory(path, error) : STATUS_OK;
    }
    *file = text_format("%s", path);
    *directory = directory_of(path);
    return *file == NULL || *directory == NULL ? no_memory(path, error) : STATUS_OK;
}

// ---- a bare name --------------------------------------------------------------------------------

// The running program's directory, "" when the system does not say.
static void executable_directory(char directory[PATH_MAX]) {
    ssize_t length = readlink("/proc/self/exe", directory, PATH_MAX - 1);
    directory[length > 0 ? length : 0] = '\0';
    char *slash = strrchr(directory, '/');
    if (slash != NULL) *slash = '\0';
}

static enum status locate_name(const char *name, char **directory, struct error *error) {
    char program[PATH_MAX];
    executable_directory(program);
    // in the order they are tried
    char *paths[] = {text_format("models/%s", name), text_format("%s/models/%s", program, name),
                     text_format("%s", name)};
    enum { COUNT = sizeof paths / sizeof paths[0] };
    enum status status = STATUS_OK;
    if (paths[0] == NULL || paths[1] == NULL || paths[2] == NULL) status = no_memory(name, error);
    for (int i = 0; status == STATUS_OK && *directory == NULL && i < COUNT; i++) {
        if (!is_directory(paths[i])) continue;
        *directory = paths[i];
        paths[i] = NULL;
    }
    if (status == STATUS_OK && *directory == NULL) {
        status =
            error_set(error, STATUS_FAILED,
                      "model %s: no directory %s, %s or ./%s; tools/download.sh fetches gpt2, gpt2-medium, "
                      "gpt2-large and gpt2-xl; random:gpt2 and the like need no download",
                      name, paths[0], paths[1], paths[2]);
    }
    for (int i = 0; i < COUNT; i++) free(paths[i]);
    return status;
}

// ---- either -------------------------------------------------------------------------------------

enum status model_locate(const char *name, char **file, char **directory, struct error *error) {
    *file = *directory = NULL;
    if (*name == '\0')
        return error_set(error, STATUS_USAGE, "model: expected a name or a path, found nothing");
    enum status status =
        is_path(name) ? locate_path(name, file, directory, error) : locate_name(name, directory, error);
    if (status != STATUS_OK) {
        free(*file);
        free(*directory);
        *file = *directory = NULL;
    }
    return status;
}

enum status model_find_directory(const char *name, char **directory, struct error *error) {
    *directory = NULL;
    if (strncmp(name, "random:", 7) == 0) return STATUS_OK;
    char *file;
    TRY(model_locate(name, &file, directory, error));
    free(file);
    return STATUS_OK;
}
