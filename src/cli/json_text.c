#include "cli/json_text.h"

#include <math.h>
#include <stb/stb_ds.h>
#include <string.h>

// Length of the character at `bytes`, or minus the length of the piece that is none: a lead byte with those
// continuation bytes that could have followed it (Unicode's "maximal subpart").
static int utf8_length(const unsigned char *bytes, size_t available) {
    unsigned char lead = bytes[0];
    if (lead < 0x80) return 1;
    if (lead < 0xc2 || lead > 0xf4) return -1;
    int length = lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
    // The second byte's range keeps out overlong forms, surrogates and what is above U+10FFFF.
    unsigned char low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
    unsigned char high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
    for (int i = 1; i < length; i++) {
        if ((size_t)i >= available || bytes[i] < low || bytes[i] > high) return -i;
        low = 0x80;
        high = 0xbf;
    }
    return length;
}

json_t *json_text(const char *bytes, size_t length) {
    char *valid = NULL;
    for (size_t i = 0; i < length;) {
        int n = utf8_length((const unsigned char *)bytes + i, length - i);
        size_t size = (size_t)(n < 0 ? -n : n);
        if (n > 0)
            memcpy(arraddnptr(valid, size), bytes + i, size);
        else
            memcpy(arraddnptr(valid, 3), "\xef\xbf\xbd", 3);
        i += size;
    }
    json_t *string = json_stringn_nocheck(valid ? valid : "", arrlenu(valid));
    arrfree(valid);
    return string;
}

json_t *json_number(double value) {
    return isfinite(value) ? json_real(value) : json_null();
}

json_t *json_ids(const int32_t *ids, size_t count) {
    json_t *array = json_array();
    for (size_t i = 0; array && i < count; i++) {
        if (json_array_append_new(array, json_integer(ids[i])) == 0) continue;
        json_decref(array);
        return NULL;
    }
    return array;
}

json_t *json_floats(const float *values, size_t count) {
    json_t *array = json_array();
    for (size_t i = 0; array && i < count; i++) {
        if (json_array_append_new(array, json_number((double)values[i])) == 0) continue;
        json_decref(array);
        return NULL;
    }
    return array;
}

enum status json_write(json_t *value, bool compact, FILE *stream, struct error *error) {
    if (!value) return error_set(error, STATUS_OUT_OF_MEMORY, "no host memory for the results as JSON");
    // Nine digits give every float back exactly.
    size_t flags = JSON_REAL_PRECISION(9) | (compact ? JSON_COMPACT : JSON_INDENT(2));
    bool dumped = json_dumpf(value, stream, flags) == 0;
    json_decref(value);
    if (!dumped && !ferror(stream))
        return error_set(error, STATUS_OUT_OF_MEMORY, "no host memory for the results as JSON");
    fputc('\n', stream);
    return STATUS_OK;
}
