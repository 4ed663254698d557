#include "measure/cache.h"

#include "base/mapped_file.h"
#include "base/output_file.h"
#include "base/version.h"

#include <errno.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *const schema = "gpt2infer.cache/1";
enum { PATH_SIZE = 4096 };

static enum status cache_directory(char path[PATH_SIZE], struct error *error) {
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    int length;
    if (cache && cache[0] == '/') // the specification has relative paths ignored
        length = snprintf(path, PATH_SIZE, "%s/gpt2infer", cache);
    else if (home && home[0] == '/')
        length = snprintf(path, PATH_SIZE, "%s/.cache/gpt2infer", home);
    else
        return error_set(error, STATUS_FAILED, "no cache directory: XDG_CACHE_HOME and HOME are not set");
    if (length >= PATH_SIZE - 64)
        return error_set(error, STATUS_FAILED, "the path of the cache directory is too long");
    return STATUS_OK;
}

// The file's name is a hash (FNV-1a 64) of the key; the key itself is in the file and is compared.
static enum status cache_path(const char *kind, const json_t *key, char path[PATH_SIZE],
                              struct error *error) {
    TRY(cache_directory(path, error));
    char *text = json_dumps(key, JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY);
    if (!text) return error_set(error, STATUS_OUT_OF_MEMORY, "no host memory for a cache key");
    uint64_t hash = 0xcbf29ce484222325u;
    for (const char *c = text; *c; c++) hash = (hash ^ (unsigned char)*c) * 0x100000001b3u;
    free(text);
    size_t length = strlen(path);
    snprintf(path + length, PATH_SIZE - length, "/%s-%016" PRIx64 ".json", kind, hash);
    return STATUS_OK;
}

static enum status take_value(const char *path, const json_t *key, json_t *document, json_t **value,
                              struct error *error) {
    const char *found_schema = json_string_value(json_object_get(document, "schema"));
    if (!found_schema || strcmp(found_schema, schema) != 0)
        return error_set(error, STATUS_FAILED, "%s: expected the schema \"%s\", found %.40s", path, schema,
                         found_schema ? found_schema : "none");
    if (!json_equal(json_object_get(document, "key"), key))
        return error_set(error, STATUS_FAILED, "%s: holds another device's or workload's finding", path);
    json_t *found = json_object_get(document, "value");
    if (!found) return error_set(error, STATUS_FAILED, "%s: \"value\" is missing", path);
    *value = json_incref(found);
    return STATUS_OK;
}

enum status cache_read(const char *kind, const json_t *key, json_t **value, struct error *error) {
    char path[PATH_SIZE];
    struct mapped_file file;
    json_error_t json_error;
    *value = NULL;
    TRY(cache_path(kind, key, path, error));
    if (access(path, F_OK) != 0 && (errno == ENOENT || errno == ENOTDIR)) return STATUS_OK;
    TRY(mapped_file_open(path, &file, error));
    json_t *document = json_loadb((const char *)file.data, file.size, JSON_REJECT_DUPLICATES, &json_error);
    mapped_file_close(&file);
    if (!document)
        return error_set(error, STATUS_FAILED, "%s: line %d: %s", path, json_error.line, json_error.text);
    enum status status = take_value(path, key, document, value, error);
    json_decref(document);
    return status;
}

// Makes the directories that lead to a file, as mkdir -p does.
static enum status make_directories(const char *file_path, struct error *error) {
    char path[PATH_SIZE];
    snprintf(path, sizeof path, "%s", file_path);
    for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdir(path, 0700) != 0 && errno != EEXIST)
            return error_set(error, STATUS_FAILED, "%s: cannot be made: %s", path, strerror(errno));
        *slash = '/';
    }
    return STATUS_OK;
}

enum status cache_write(const char *kind, json_t *key, json_t *value, struct error *error) {
    char path[PATH_SIZE];
    struct output_file output;
    TRY(cache_path(kind, key, path, error));
    TRY(make_directories(path, error));
    TRY(output_file_open(path, &output, error));
    json_t *document = json_pack("{s:s, s:O, s:O}", "schema", schema, "key", key, "value", value);
    int written = document ? json_dumpf(document, output.stream, JSON_INDENT(2)) : -1;
    json_decref(document);
    if (written != 0 && !ferror(output.stream)) {
        output_file_discard(&output);
        return error_set(error, STATUS_OUT_OF_MEMORY, "%s: no host memory to write it", path);
    }
    return output_file_commit(&output, error);
}

enum status cache_backend_key(const struct backend *backend, json_t **key, struct error *error) {
    struct device_info device;
    TRY(device_describe(backend_device(backend), &device, error));
    *key = json_pack("{s:s, s:s, s:s, s:i, s:i, s:b, s:s, s:s}", "backend", device.backend, "name",
                     device.name, "detail", device.detail, "compute_units", device.compute_units, "threads",
                     backend->options.threads, "deterministic", backend->options.deterministic, "dtype",
                     dtype_name(backend_dtype(backend)), "version", GPT2INFER_VERSION);
    return *key ? STATUS_OK : error_set(error, STATUS_OUT_OF_MEMORY, "no host memory for a cache key");
}

static bool read_finding(const struct cache_finding *finding, json_t *key, void *value, struct error *note) {
    json_t *stored;
    if (cache_read(finding->kind, key, &stored, note) != STATUS_OK || !stored) return false;
    const bool good = finding->read(stored, value, note);
    json_decref(stored);
    return good;
}

// A note of the reading stays: it says why there was something to write.
static void write_finding(const struct cache_finding *finding, json_t *key, const void *value,
                          struct error *note) {
    struct error error;
    json_t *stored = finding->write(value);
    if (stored && cache_write(finding->kind, key, stored, &error) != STATUS_OK && !note->message[0])
        *note = error;
    json_decref(stored);
}

enum status cache_find(const struct cache_finding *finding, json_t *key, struct backend *backend,
                       const void *context, bool refresh, void *value, struct error *note,
                       struct error *error) {
    if (!refresh && read_finding(finding, key, value, note)) return STATUS_OK;
    TRY(finding->make(backend, context, value, error));
    write_finding(finding, key, value, note);
    return STATUS_OK;
}
