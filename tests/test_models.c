// Every format gives the same model: one tiny model is written in all of them and read back.
#include "models/model.h"
#include "tests/support/model_writer.h"
#include "tests/support/scratch_dir.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static struct model *open_model(const char *name) {
    struct error error;
    struct model *model;
    if (model_open(name, &model, &error) != STATUS_OK) fail_msg("%s", error.message);
    return model;
}

static size_t elements(const struct gpt2_config *config, int tensor) {
    struct gpt2_shape shape = gpt2_tensor_shape(config, (enum gpt2_tensor)tensor);
    return (size_t)shape.rows * (size_t)shape.columns;
}

static int layers(const struct gpt2_config *config, int tensor) {
    return gpt2_tensor_info((enum gpt2_tensor)tensor)->per_layer ? config->layers : 1;
}

static float as_stored(enum dtype dtype, float weight) {
    if (dtype == DTYPE_F16) return f16_to_f32(f32_to_f16(weight));
    return dtype == DTYPE_BF16 ? bf16_to_f32(f32_to_bf16(weight)) : weight;
}

// Every weight that `name` gives is the written one, rounded to the dtype it was stored in, to the bit. What
// lies behind a tensor's room is left alone.
static void assert_reads_back(const char *name, const struct host_model *written, enum dtype dtype,
                              bool mixed) {
    struct model *model = open_model(name);
    const struct gpt2_config *config = model_config(model);
    for (int t = 0; t < GPT2_TENSORS; t++) {
        size_t count = elements(config, t);
        assert_int_equal(count, elements(&written->config, t));
        if (count == 0) continue;
        enum dtype stored = (enum dtype)(mixed ? ((int)dtype + t) % 3 : (int)dtype);
        float *found = malloc((count + 1) * sizeof *found);
        assert_non_null(found);
        for (int layer = 0; layer < layers(config, t); layer++) {
            const float *expected = host_model_weights(written, (enum gpt2_tensor)t, layer);
            found[count] = 12345;
            model_read(model, (enum gpt2_tensor)t, layer, found);
            assert_true(found[count] == 12345);
            for (size_t i = 0; i < count; i++) {
                if (found[i] == as_stored(stored, expected[i])) continue;
                fail_msg("%s: %s of layer %d: element %zu is %g, expected %g", name,
                         gpt2_tensor_info((enum gpt2_tensor)t)->name, layer, i, (double)found[i],
                         (double)as_stored(stored, expected[i]));
            }
        }
        free(found);
    }
    model_close(model);
}

static void assert_same_config(const char *name, const struct gpt2_config *expected) {
    struct model *model = open_model(name);
    const struct gpt2_config *found = model_config(model);
    assert_int_equal(found->context, expected->context);
    assert_int_equal(found->vocab, expected->vocab);
    assert_int_equal(found->layers, expected->layers);
    assert_int_equal(found->heads, expected->heads);
    assert_int_equal(found->channels, expected->channels);
    assert_int_equal(found->inner, expected->inner);
    assert_true(found->layer_norm_epsilon == expected->layer_norm_epsilon);
    assert_int_equal(found->scale_attention, expected->scale_attention);
    assert_int_equal(found->scale_attention_by_layer, expected->scale_attention_by_layer);
    assert_int_equal(found->tied_lm_head, expected->tied_lm_head);
    assert_int_equal(found->eos_token, expected->eos_token);
    model_close(model);
}

// Larger than a transposition tile in every direction, and no multiple of it.
static struct gpt2_config odd_config(void) {
    return tiny_config(3, 68, 4, 131, 70);
}

// ---- Hugging Face -------------------------------------------------------------------------------

static void safetensors_of_every_style_read_back(void **state) {
    (void)state;
    static const struct safetensors_style styles[] = {
        {.dtype = DTYPE_F32},
        {.dtype = DTYPE_BF16},
        {.dtype = DTYPE_F16},
        {.dtype = DTYPE_F32, .prefix = true},
        {.dtype = DTYPE_BF16, .prefix = true, .masks = true, .lm_head = true},
        {.dtype = DTYPE_F32, .masks = true, .lm_head = true},
        {.dtype = DTYPE_F32, .misaligned = true},
        {.dtype = DTYPE_BF16, .misaligned = true, .prefix = true},
        {.dtype = DTYPE_F16, .mixed_dtypes = true},
        {.dtype = DTYPE_F32, .shards = 1},
        {.dtype = DTYPE_BF16, .shards = 3, .prefix = true, .masks = true, .misaligned = true},
        {.dtype = DTYPE_BF16, .shards = 7, .mixed_dtypes = true, .lm_head = true},
    };
    struct gpt2_config config = odd_config();
    struct host_model written;
    host_model_make(&config, 1, &written);
    for (size_t i = 0; i < sizeof styles / sizeof styles[0]; i++) {
        struct scratch_dir dir;
        scratch_dir_make(&dir);
        write_huggingface_model(&written, dir.path, &styles[i]);
        assert_same_config(dir.path, &config);
        assert_reads_back(dir.path, &written, styles[i].dtype, styles[i].mixed_dtypes);
        struct model *model = open_model(dir.path);
        assert_int_equal(model_stored_dtype(model), styles[i].dtype);
        assert_string_equal(model_format(model), "safetensors");
        assert_string_equal(model_name(model), dir.path);
        assert_string_equal(model_directory(model), dir.path);
        model_close(model);
        scratch_dir_remove(&dir);
    }
    host_model_free(&written);
}

static void a_safetensors_file_uses_the_config_beside_it(void **state) {
    (void)state;
    struct gpt2_config config = odd_config();
    struct host_model written;
    struct scratch_dir dir;
    char from[300], to[300];
    host_model_make(&config, 2, &written);
    scratch_dir_make(&dir);
    write_huggingface_model(&written, dir.path, &(struct safetensors_style){.dtype = DTYPE_F32});
    snprintf(from, sizeof from, "%s/model.safetensors", dir.path);
    snprintf(to, sizeof to, "%s/step-100.safetensors", dir.path);
    assert_int_equal(rename(from, to), 0);
    assert_reads_back(to, &written, DTYPE_F32, false);
    struct model *model = open_model(to);
    assert_string_equal(model_directory(model), dir.path);
    model_close(model);
    scratch_dir_remove(&dir);
    host_model_free(&written);
}

// Every setting other than the published models', and a separate LM head.
static void unusual_configurations_are_honoured(void **state) {
    (void)state;
    struct gpt2_config config = odd_config();
    config.inner = 90;
    config.layer_norm_epsilon = 3e-4f;
    config.scale_attention = false;
    config.scale_attention_by_layer = true;
    config.tied_lm_head = false;
    config.eos_token = 7;
    struct host_model written;
    host_model_make(&config, 3, &written);
    for (int shards = 0; shards <= 2; shards += 2) {
        struct scratch_dir dir;
        scratch_dir_make(&dir);
        write_huggingface_model(&written, dir.path,
                                &(struct safetensors_style){
                                    .dtype = DTYPE_F32, .prefix = true, .lm_head = true, .shards = shards});
        assert_same_config(dir.path, &config);
        assert_reads_back(dir.path, &written, DTYPE_F32, false);
        scratch_dir_remove(&dir);
    }
    host_model_free(&written);
}

// ---- llm.c --------------------------------------------------------------------------------------

static void llmc_checkpoints_read_back(void **state) {
    (void)state;
    static const struct {
        enum dtype dtype;
        int padded_vocab;
    } cases[] = {{DTYPE_F32, 256}, {DTYPE_BF16, 256}, {DTYPE_F32, 131}, {DTYPE_BF16, 132}};
    struct gpt2_config config = odd_config();
    struct host_model written;
    struct scratch_dir dir;
    char path[300];
    host_model_make(&config, 4, &written);
    scratch_dir_make(&dir);
    snprintf(path, sizeof path, "%s/model.bin", dir.path);
    config.eos_token = -1;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        write_llmc_model(&written, path, cases[i].dtype, cases[i].padded_vocab);
        assert_same_config(path, &config);
        assert_reads_back(path, &written, cases[i].dtype, false);
        struct model *model = open_model(path);
        assert_int_equal(model_stored_dtype(model), cases[i].dtype);
        assert_string_equal(model_format(model), "llm.c");
        assert_string_equal(model_directory(model), dir.path);
        model_close(model);
    }
    scratch_dir_remove(&dir);
    host_model_free(&written);
}

static void the_gpt2_vocabulary_ends_in_end_of_text(void **state) {
    (void)state;
    struct gpt2_config config = tiny_config(1, 2, 1, 50257, 2);
    struct host_model written;
    struct scratch_dir dir;
    char path[300];
    host_model_make(&config, 5, &written);
    scratch_dir_make(&dir);
    snprintf(path, sizeof path, "%s/model.bin", dir.path);
    write_llmc_model(&written, path, DTYPE_BF16, 50304);
    assert_same_config(path, &config);
    scratch_dir_remove(&dir);
    host_model_free(&written);
}

// ---- names --------------------------------------------------------------------------------------

static int64_t parameters(const char *name) {
    struct model *model = open_model(name);
    int64_t count = gpt2_parameter_count(model_config(model));
    model_close(model);
    return count;
}

// The published sizes: 124M, 355M, 774M, 1558M.
static void known_models_have_their_parameter_counts(void **state) {
    (void)state;
    assert_int_equal(parameters("random:gpt2"), 124439808);
    assert_int_equal(parameters("random:gpt2-medium"), 354823168);
    assert_int_equal(parameters("random:gpt2-large"), 774030080);
    assert_int_equal(parameters("random:gpt2-xl"), 1557611200);
    assert_int_equal(parameters("models/shakespeare"), 5066752);
    assert_int_equal(parameters("tests/data/tiny-f32"), 478720);
    assert_int_equal(parameters("tests/data/tiny-bf16/model.safetensors"), 1501056);
}

static void bare_names_are_looked_up(void **state) {
    (void)state;
    struct model *model = open_model("shakespeare");
    assert_string_equal(model_name(model), "shakespeare");
    assert_string_equal(model_directory(model), "models/shakespeare");
    assert_int_equal(model_config(model)->eos_token, 0);
    model_close(model);

    struct error error;
    char *directory;
    assert_int_equal(model_find_directory("shakespeare", &directory, &error), STATUS_OK);
    assert_string_equal(directory, "models/shakespeare");
    free(directory);
    assert_int_equal(model_find_directory("models/shakespeare/config.json", &directory, &error), STATUS_OK);
    assert_string_equal(directory, "models/shakespeare");
    free(directory);
    assert_int_equal(model_find_directory("random:gpt2", &directory, &error), STATUS_OK);
    assert_null(directory);
}

static void missing_models_say_where_they_were_sought(void **state) {
    (void)state;
    static const struct {
        const char *name, *says;
        enum status status;
    } cases[] = {
        {"no-such-model", "models/no-such-model", STATUS_FAILED},
        {"no-such-model", "tools/download.sh", STATUS_FAILED},
        {"no-such-model", "random:", STATUS_FAILED},
        {"./no-such-model", "./no-such-model: No such file", STATUS_FAILED},
        {"no-such.bin", "no-such.bin: No such file", STATUS_FAILED},
        {"no-such.safetensors", "no-such.safetensors: No such file", STATUS_FAILED},
        {"tests/data", "tests/data/config.json: No such file", STATUS_FAILED},
        {"./Makefile", "./Makefile: expected a model directory, FILE.safetensors", STATUS_FAILED},
        {"", "expected a name or a path", STATUS_USAGE},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct error error;
        struct model *model;
        assert_int_equal(model_open(cases[i].name, &model, &error), cases[i].status);
        assert_null(model);
        if (strstr(error.message, cases[i].says) == NULL)
            fail_msg("\"%s\" does not say \"%s\"", error.message, cases[i].says);
    }
}

// ---- the table ----------------------------------------------------------------------------------

static void attention_is_scaled_as_configured(void **state) {
    (void)state;
    struct gpt2_config config = tiny_config(4, 64, 4, 10, 10); // D = 16
    assert_true(gpt2_attention_scale(&config, 3) == 0.25f);
    config.scale_attention_by_layer = true;
    assert_true(gpt2_attention_scale(&config, 3) == 0.0625f);
    config.scale_attention = false;
    assert_true(gpt2_attention_scale(&config, 3) == 0.25f);
    assert_true(gpt2_attention_scale(&config, 0) == 1);
    config.scale_attention_by_layer = false;
    assert_true(gpt2_attention_scale(&config, 3) == 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(safetensors_of_every_style_read_back),
        cmocka_unit_test(a_safetensors_file_uses_the_config_beside_it),
        cmocka_unit_test(unusual_configurations_are_honoured),
        cmocka_unit_test(llmc_checkpoints_read_back),
        cmocka_unit_test(the_gpt2_vocabulary_ends_in_end_of_text),
        cmocka_unit_test(known_models_have_their_parameter_counts),
        cmocka_unit_test(bare_names_are_looked_up),
        cmocka_unit_test(missing_models_say_where_they_were_sought),
        cmocka_unit_test(attention_is_scaled_as_configured),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
