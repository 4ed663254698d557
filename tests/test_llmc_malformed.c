// Damaged and mistaken llm.c checkpoints: each is refused with a message that names the file and what is
// wrong.
#include "tests/support/model_refusal.h"
#include "tests/support/model_writer.h"
#include "tests/support/scratch_dir.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct checkpoint {
    struct scratch_dir dir;
    char path[300];
    char *bytes;
    size_t size;
};

static void checkpoint_make(struct checkpoint *checkpoint, enum dtype dtype) {
    struct gpt2_config config = tiny_config(2, 4, 2, 5, 3);
    struct host_model weights;
    host_model_make(&config, 8, &weights);
    scratch_dir_make(&checkpoint->dir);
    snprintf(checkpoint->path, sizeof checkpoint->path, "%s/model.bin", checkpoint->dir.path);
    write_llmc_model(&weights, checkpoint->path, dtype, 8);
    checkpoint->bytes = read_whole_file(checkpoint->path, &checkpoint->size);
    host_model_free(&weights);
}

// A new file each time: filesystems put one that is overwritten on the disk at once, which takes
// milliseconds.
static void checkpoint_write(const struct checkpoint *checkpoint, const char *bytes, size_t size) {
    scratch_dir_delete(&checkpoint->dir, "model.bin");
    scratch_dir_write(&checkpoint->dir, "model.bin", bytes, size);
}

static void checkpoint_remove(struct checkpoint *checkpoint) {
    scratch_dir_remove(&checkpoint->dir);
    free(checkpoint->bytes);
}

static void wrong_header_fields_are_refused(void **state) {
    (void)state;
    static const struct {
        int field;
        int32_t value;
        const char *says;
    } cases[] = {
        {0, 0, "expected an llm.c checkpoint (magic 20240326), found magic 0"},
        {0, 20240327, "debug state"},
        {0, 20240328, "tokenizer"},
        {0, 20240520, "training tokens"},
        {0, 20240527, "optimizer state"},
        {0, 0x04034B50, "PyTorch"},
        {1, 0, "expected an llm.c checkpoint of version 3 (f32) or 5 (bf16), found version 0"},
        {1, 1, "found version 1: an older llm.c wrote it"},
        {1, 2, "found version 2: an older llm.c wrote it"},
        {1, 4, "found version 4"},
        {1, 6, "found version 6"},
        {1, -3, "found version -3"},
        {1, 5, "bytes by its header, found"}, // f32 data called bf16
        {2, 0, "(n_positions): expected 1 to 1048576, found 0"},
        {2, 4, "bytes by its header, found"},
        {2, INT32_MAX, "(n_positions): expected"},
        {3, -1, "(vocab_size): expected"},
        {3, 9, "padded vocabulary: expected 9 or more, found 8"},
        {3, 1 << 24, "padded vocabulary: expected"},
        {4, 0, "(n_layer): expected 1 to 1024, found 0"},
        {4, 1024, "truncated"},
        {4, INT32_MIN, "(n_layer): expected"},
        {5, 0, "(n_head): expected"},
        {5, 3, "multiple of the 3 heads"},
        {5, -2, "(n_head): expected"},
        {6, 8, "truncated"},
        {6, 65536, "truncated"},
        {6, 65538, "(n_embd): expected"},
        {6, INT32_MAX - 1, "(n_embd): expected"},
        {6, -4, "(n_embd): expected"},
        {7, 4, "padded vocabulary: expected 5 or more, found 4"},
        {7, 9, "truncated"},
        {7, 7, "bytes by its header, found"},
        {7, -8, "padded vocabulary: expected"},
        {7, INT32_MAX, "padded vocabulary: expected"},
    };
    struct checkpoint checkpoint;
    checkpoint_make(&checkpoint, DTYPE_F32);
    assert_model_opens(checkpoint.path);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int32_t original;
        char *field = checkpoint.bytes + 4 * cases[i].field;
        memcpy(&original, field, 4);
        memcpy(field, &cases[i].value, 4);
        checkpoint_write(&checkpoint, checkpoint.bytes, checkpoint.size);
        assert_model_refused(checkpoint.path, checkpoint.path, cases[i].says);
        memcpy(field, &original, 4);
    }
    checkpoint_remove(&checkpoint);
}

static void every_other_size_is_refused(void **state) {
    (void)state;
    for (int dtype = 0; dtype < 2; dtype++) {
        struct checkpoint checkpoint;
        checkpoint_make(&checkpoint, dtype == 0 ? DTYPE_F32 : DTYPE_BF16);
        for (size_t size = 0; size < checkpoint.size; size++) {
            checkpoint_write(&checkpoint, checkpoint.bytes, size);
            assert_model_refused(checkpoint.path, checkpoint.path, size == 0 ? "empty" : "expected");
        }
        char *longer = calloc(1, checkpoint.size + 1);
        assert_non_null(longer);
        memcpy(longer, checkpoint.bytes, checkpoint.size);
        checkpoint_write(&checkpoint, longer, checkpoint.size + 1);
        assert_model_refused(checkpoint.path, checkpoint.path, "bytes by its header, found");
        free(longer);
        checkpoint_remove(&checkpoint);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wrong_header_fields_are_refused),
        cmocka_unit_test(every_other_size_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
