// Damaged, mislabelled and hostile safetensors files and indexes: each is refused with a message that names
// the file and what is wrong.
#include "tests/support/model_refusal.h"
#include "tests/support/model_writer.h"
#include "tests/support/scratch_dir.h"

#include "models/model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static const char single[] = "model.safetensors", index_name[] = "model.safetensors.index.json";

struct tiny_model {
    struct scratch_dir dir;
    char path[300]; // of the single file, or the index
};

// (V, C) = (5, 4), T = 3, one layer; f32. wpe is the second tensor: bytes 80 to 128.
static void tiny_model_make(struct tiny_model *tiny, int shards) {
    struct gpt2_config config = tiny_config(1, 4, 2, 5, 3);
    struct host_model weights;
    host_model_make(&config, 6, &weights);
    scratch_dir_make(&tiny->dir);
    write_huggingface_model(&weights, tiny->dir.path, &(struct safetensors_style){.shards = shards});
    snprintf(tiny->path, sizeof tiny->path, "%s/%s", tiny->dir.path, shards == 0 ? single : index_name);
    host_model_free(&weights);
}

// ---- header -------------------------------------------------------------------------------------

#define WTE "\"wte.weight\":{\"dtype\":\"F32\",\"shape\":[5,4],\"data_offsets\":[0,80]}"
#define WPE "\"wpe.weight\":{\"dtype\":\"F32\",\"shape\":[3,4],\"data_offsets\":[80,128]}"

static void wrong_headers_are_refused(void **state) {
    (void)state;
    static const struct {
        const char *find, *replacement, *says;
    } cases[] = {
        // dtype
        {"F32", "F64", "tensor wte.weight: expected dtype F32, F16 or BF16, found F64"},
        {"F32", "I32", "found I32"},
        {"F32", "F16", "tensor wte.weight: data_offsets: expected the size of F16 [5,4], found 80 bytes"},
        {"\"F32\"", "32", "tensor wte.weight: dtype: expected a name, found 32"},
        {"\"dtype\":\"F32\",", "", "dtype: expected a name, found nothing"},
        // shape
        {"[5,4]", "[4,5]", "tensor wte.weight: expected shape [5, 4] by config.json, found [4, 5]"},
        {"[5,4]", "[20]", "expected shape [5, 4] by config.json, found [20]"},
        {"[5,4]", "[1,5,4]", "found [1, 5, 4]"},
        {"[5,4]", "[2,2,5,1,1,1,1,1]", "found [2, 2, 5, 1, 1, 1, 1, 1]"},
        {"[5,4]", "[1,1,1,1,1,1,1,5,4]", "shape: expected up to 8 lengths"},
        {"[5,4]", "[5,3]", "expected the size of F32 [5,3], found 80 bytes"},
        {"[5,4]", "[]", "expected the size of F32 [], found 80 bytes"},
        {"[5,4]", "[0,4]", "expected the size of F32 [0,4]"},
        {"[5,4]", "[-5,-4]", "shape: expected up to 8 lengths, found [-5,-4]"},
        {"[5,4]", "[5.0,4]", "shape: expected"},
        {"[5,4]", "[\"5\",4]", "shape: expected"},
        {"[5,4]", "\"5x4\"", "shape: expected up to 8 lengths, found \"5x4\""},
        {"[5,4]", "null", "shape: expected"},
        {"\"shape\":[5,4],", "", "shape: expected up to 8 lengths, found nothing"},
        {"[5,4]", "[4611686018427387909,4]",
         "expected the size of F32 [4611686018427387909,4]"}, // 4 n = 20 mod 2^64
        {"[5,4]", "[9223372036854775807,9223372036854775807]", "expected the size"},
        {"[5,4]", "[9223372036854775807,0]", "expected the size"},
        {"[5,4]", "[99999999999999999999,4]", "expected a JSON object"},
        // offsets
        {"[0,80]", "[0,81]", "expected the size of F32 [5,4], found 81 bytes"},
        {"[5,4],\"data_offsets\":[0,80]", "[5000,4],\"data_offsets\":[0,80000]", "a begin and an end within"},
        {"[0,80]", "[80,0]", "data_offsets: expected a begin and an end within"},
        {"[0,80]", "[-80,0]", "data_offsets: expected a begin and an end within"},
        {"[0,80]", "[0,-80]", "data_offsets: expected a begin and an end within"},
        {"[0,80]", "[9223372036854775800,9223372036854775807]",
         "data_offsets: expected a begin and an end within"},
        {"[0,80]", "[1152921504606846976,1152921504606847056]",
         "data_offsets: expected a begin and an end within"},
        {"[0,80]", "[0,18446744073709551696]", "expected a JSON object"},
        {"[0,80]", "[0.0,80.0]", "data_offsets: expected a begin and an end within"},
        {"[0,80]", "[0]", "data_offsets: expected a begin and an end within"},
        {"[0,80]", "[0,40,80]", "data_offsets: expected a begin and an end within"},
        {"[0,80]", "{}", "data_offsets: expected a begin and an end within"},
        {",\"data_offsets\":[0,80]", "", "data_offsets: expected a begin and an end"},
        {"[80,128]", "[0,48]", "expected a tensor to begin at byte"},      // overlaps wte
        {"[80,128]", "[81,129]", "expected a tensor to begin at byte 80"}, // leaves a gap, then overlaps
        // entries
        {WTE, "\"wte.weight\":7", "tensor wte.weight: dtype: expected"},
        {WTE, "\"wte.weight\":[]", "tensor wte.weight: dtype: expected"},
        {"wte.weight", "other.weight", "tensor wte.weight is missing"},
        {"wpe.weight", "wte.weight", "expected a JSON object"}, // twice the same key
        {"h.0.attn.c_attn.bias", "h.0.attn.bias", "tensor h.0.attn.c_attn.bias is missing"},
        {"h.0.ln_1.weight", "h.1.ln_1.weight", "tensor h.1.ln_1.weight has no place in a GPT-2 of 1 layers"},
        {"h.0.ln_1.weight", "h.01.ln_1.weight", "tensor h.01.ln_1.weight has no place"},
        {"h.0.ln_1.weight", "h.0.lora_A.weight", "tensor h.0.lora_A.weight has no place"},
        {"h.0.ln_1.weight", "transformer.h.0.lora_A", "tensor transformer.h.0.lora_A has no place"},
        {"ln_f.bias", "ln_f.bia", "tensor ln_f.bia has no place"},
        {"ln_f.bias", "lm_head.bias", "tensor lm_head.bias has no place"},
        {"{\"__metadata__\":{\"format\":\"pt\"}",
         "{\"transformer.wpe.weight\":{\"dtype\":\"F32\",\"shape\":[0,4],\"data_offsets\":[0,0]}",
         "expected one tensor wpe.weight, found another as transformer.wpe.weight"},
        {"wte.weight", "\\u001b[31mred", "tensor wte.weight is missing"},
        {"\"wte.weight\":{\"dtype\":\"F32\"", "\"\\u001b[31mred\":{\"dtype\":32", "tensor ?[31mred: dtype"},
        {"wte.weight", "wte\\u0000weight", "expected a JSON object"},
        {"wte.weight", "wte\xFFweight", "expected a JSON object"},
        // JSON
        {"{", "", "expected a JSON object"},
        {"{", "[{", "expected a JSON object"},
        {"[0,80]", "NaN", "expected a JSON object"},
        {"[0,80]", "[0,80", "expected a JSON object"},
        {NULL, "[]", "expected a JSON object, found an array"},
        {NULL, "", "expected a JSON object"},
        {NULL, "null", "expected a JSON object"},
        {NULL, "{}", "by the header"},
        {NULL, "{} {}", "expected a JSON object"},
        {NULL, "{\"__metadata__\":{}}", "expected 0 bytes of data by the header"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct tiny_model tiny;
        tiny_model_make(&tiny, 0);
        assert_model_opens(tiny.dir.path);
        replace_in_header(&tiny.dir, single, cases[i].find, cases[i].replacement);
        assert_model_refused(tiny.dir.path, tiny.path, cases[i].says);
        scratch_dir_remove(&tiny.dir);
    }
}

static void other_heads_and_any_order_are_accepted(void **state) {
    (void)state;
    struct tiny_model tiny;
    tiny_model_make(&tiny, 0);
    replace_in_header(&tiny.dir, single, "{\"__metadata__\":{\"format\":\"pt\"}",
                      "{\"score.weight\":{\"dtype\":\"I4X\",\"shape\":[2,0],\"data_offsets\":[0,0]}");
    replace_in_header(&tiny.dir, single, WTE "," WPE, WPE "," WTE);
    assert_model_opens(tiny.dir.path);
    scratch_dir_remove(&tiny.dir);
}

static void deep_nesting_is_refused(void **state) {
    (void)state;
    enum { DEPTH = 1000000 };
    char *brackets = malloc(DEPTH + 16);
    assert_non_null(brackets);
    memcpy(brackets, "{\"a\":", 5);
    memset(brackets + 5, '[', DEPTH);
    brackets[DEPTH + 5] = '\0';
    struct tiny_model tiny;
    tiny_model_make(&tiny, 0);
    replace_in_header(&tiny.dir, single, NULL, brackets);
    assert_model_refused(tiny.dir.path, tiny.path, "expected a JSON object");
    scratch_dir_remove(&tiny.dir);
    free(brackets);
}

// ---- bytes --------------------------------------------------------------------------------------

// A new file each time: filesystems put one that is overwritten on the disk at once, which takes
// milliseconds.
static void write_anew(const struct tiny_model *tiny, const char *bytes, size_t size) {
    scratch_dir_delete(&tiny->dir, single);
    scratch_dir_write(&tiny->dir, single, bytes, size);
}

static void every_truncation_is_refused(void **state) {
    (void)state;
    struct tiny_model tiny;
    size_t size;
    tiny_model_make(&tiny, 0);
    char *bytes = read_whole_file(tiny.path, &size);
    for (size_t length = 0; length < size; length++) {
        write_anew(&tiny, bytes, length);
        assert_model_refused(tiny.dir.path, tiny.path, "");
    }
    char *longer = calloc(1, size + 1);
    assert_non_null(longer);
    memcpy(longer, bytes, size);
    write_anew(&tiny, longer, size + 1);
    assert_model_refused(tiny.dir.path, tiny.path, "bytes of data by the header, found");
    scratch_dir_remove(&tiny.dir);
    free(longer);
    free(bytes);
}

static void lying_header_lengths_are_refused(void **state) {
    (void)state;
    static const uint64_t lengths[] = {0,
                                       1,
                                       100000001,
                                       (uint64_t)1 << 31,
                                       (uint64_t)1 << 32,
                                       UINT64_MAX,
                                       UINT64_MAX - 7,
                                       INT64_MAX,
                                       (uint64_t)INT64_MAX + 1};
    struct tiny_model tiny;
    size_t size;
    tiny_model_make(&tiny, 0);
    char *bytes = read_whole_file(tiny.path, &size);
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        memcpy(bytes, &lengths[i], 8);
        write_anew(&tiny, bytes, size);
        assert_model_refused(tiny.dir.path, tiny.path, "expected");
    }
    scratch_dir_remove(&tiny.dir);
    free(bytes);
}

// Whatever one byte of the header turns into, nothing is read outside the file: that is for the sanitizers to
// see, so what still opens is read through.
static void any_changed_byte_is_survived(void **state) {
    (void)state;
    struct tiny_model tiny;
    size_t size;
    uint64_t length;
    tiny_model_make(&tiny, 0);
    char *bytes = read_whole_file(tiny.path, &size);
    memcpy(&length, bytes, 8);
    int opened = 0, refused = 0;
    for (size_t i = 0; i < 8 + length; i++) {
        static const char changes[] = "\x01\x80\x10";
        for (int c = 0; c < 3; c++) {
            struct error error;
            struct model *model;
            bytes[i] = (char)(bytes[i] ^ changes[c]);
            write_anew(&tiny, bytes, size);
            bytes[i] = (char)(bytes[i] ^ changes[c]);
            if (model_open(tiny.dir.path, &model, &error) != STATUS_OK) {
                refused++;
                continue;
            }
            opened++;
            float weights[64];
            for (int t = 0; t < GPT2_LMHEAD; t++) model_read(model, (enum gpt2_tensor)t, 0, weights);
            model_close(model);
        }
    }
    assert_true(refused > 100 && opened > 0); // e.g. a changed letter of __metadata__'s content
    scratch_dir_remove(&tiny.dir);
    free(bytes);
}

static void other_things_than_files_are_refused(void **state) {
    (void)state;
    struct tiny_model tiny;
    tiny_model_make(&tiny, 0);
    scratch_dir_delete(&tiny.dir, single);
    assert_model_refused(tiny.dir.path, tiny.dir.path, "found neither");
    assert_int_equal(mkdir(tiny.path, 0700), 0);
    assert_model_refused(tiny.dir.path, tiny.path, "found a directory");
    assert_int_equal(rmdir(tiny.path), 0);
    assert_int_equal(mkfifo(tiny.path, 0600), 0);
    assert_model_refused(tiny.dir.path, tiny.path, "expected a regular file");
    scratch_dir_remove(&tiny.dir);
}

// ---- shards -------------------------------------------------------------------------------------

static void wrong_indexes_are_refused(void **state) {
    (void)state;
#define FIRST "\"model-00001-of-00002.safetensors\""
    static const struct {
        const char *find, *replacement, *says;
    } cases[] = {
        {FIRST, "\"../model-00001-of-00002.safetensors\"", "expected the name of a file beside the index"},
        {FIRST, "\"/etc/passwd\"", "expected the name of a file beside the index"},
        {FIRST, "\"sub/model.safetensors\"", "expected the name of a file beside the index"},
        {FIRST, "\"..\"", "expected the name of a file beside the index"},
        {FIRST, "\".\"", "expected the name of a file beside the index"},
        {FIRST, "\"\"", "expected the name of a file beside the index"},
        {FIRST, "7", "expected the name of a file beside the index for tensor other_head.weight, found 7"},
        {FIRST, "\"missing.safetensors\"", "missing.safetensors: No such file"},
        {"weight_map", "weights", "weight_map: expected an object, found nothing"},
        {"\"wte.weight\"", "\"wpe.weight\"", "expected a JSON object"}, // twice the same key
        {"}}", "", "expected a JSON object"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct tiny_model tiny;
        tiny_model_make(&tiny, 2);
        assert_model_opens(tiny.dir.path);
        replace_in_file(&tiny.dir, index_name, cases[i].find, cases[i].replacement);
        assert_model_refused(tiny.dir.path, tiny.path, cases[i].says);
        scratch_dir_remove(&tiny.dir);
    }
}

static void indexes_that_do_not_fit_their_shards_are_refused(void **state) {
    (void)state;
    struct tiny_model tiny;
    char shard[400];
    tiny_model_make(&tiny, 2);
    snprintf(shard, sizeof shard, "%s/model-00002-of-00002.safetensors", tiny.dir.path);
    replace_in_file(&tiny.dir, index_name, "\"wpe.weight\"", "\"other.weight\"");
    assert_model_refused(tiny.dir.path, tiny.dir.path, "tensor wpe.weight is missing");
    replace_in_file(&tiny.dir, index_name, "\"other.weight\":\"model-00002", "\"wpe.weight\":\"model-00001");
    assert_model_refused(tiny.dir.path, tiny.dir.path,
                         "tensor wpe.weight is missing, which the index places there");
    replace_in_file(&tiny.dir, index_name, "\"wpe.weight\":\"model-00001", "\"wpe.weight\":\"model-00002");
    assert_model_opens(tiny.dir.path);
    replace_in_header(&tiny.dir, "model-00002-of-00002.safetensors", "F32", "F99");
    assert_model_refused(tiny.dir.path, shard, "found F99");
    scratch_dir_write(&tiny.dir, index_name, "{\"weight_map\":{}}", 17);
    assert_model_refused(tiny.dir.path, tiny.dir.path, "names no file");
    scratch_dir_write(&tiny.dir, index_name, "[]", 2);
    assert_model_refused(tiny.dir.path, tiny.path, "expected a JSON object, found an array");
    scratch_dir_remove(&tiny.dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wrong_headers_are_refused),
        cmocka_unit_test(other_heads_and_any_order_are_accepted),
        cmocka_unit_test(deep_nesting_is_refused),
        cmocka_unit_test(every_truncation_is_refused),
        cmocka_unit_test(lying_header_lengths_are_refused),
        cmocka_unit_test(any_changed_byte_is_survived),
        cmocka_unit_test(other_things_than_files_are_refused),
        cmocka_unit_test(wrong_indexes_are_refused),
        cmocka_unit_test(indexes_that_do_not_fit_their_shards_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
