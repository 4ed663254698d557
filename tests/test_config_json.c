// config.json: every field that changes the mathematics is honoured or refused by name.
#include "models/config_json.h"
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

// What openai-community publishes as gpt2's config.json, but for fields that concern other uses.
static const char published[] =
    "{\"activation_function\": \"gelu_new\", \"architectures\": [\"GPT2LMHeadModel\"], "
    "\"bos_token_id\": 50256, \"eos_token_id\": 50256, \"layer_norm_epsilon\": 1e-05, "
    "\"model_type\": \"gpt2\", \"n_ctx\": 1024, \"n_embd\": 768, \"n_head\": 12, "
    "\"n_layer\": 12, \"n_positions\": 1024, \"vocab_size\": 50257}";

struct written_config {
    struct scratch_dir dir;
    char path[300];
};

static void write_config(struct written_config *written, const char *text) {
    scratch_dir_make(&written->dir);
    scratch_dir_write(&written->dir, "config.json", text, strlen(text));
    snprintf(written->path, sizeof written->path, "%s/config.json", written->dir.path);
}

// The published configuration with one field more, or with `find` replaced.
static void write_changed_config(struct written_config *written, const char *find, const char *replacement) {
    write_config(written, published);
    if (find != NULL) {
        replace_in_file(&written->dir, "config.json", find, replacement);
    } else {
        char text[2000];
        snprintf(text, sizeof text, "{%s, ", replacement);
        replace_in_file(&written->dir, "config.json", "{", text);
    }
}

static struct gpt2_config read_changed_config(const char *find, const char *replacement) {
    struct written_config written;
    struct error error;
    struct gpt2_config config;
    write_changed_config(&written, find, replacement);
    if (config_json_read(written.path, &config, &error) != STATUS_OK) fail_msg("%s", error.message);
    scratch_dir_remove(&written.dir);
    return config;
}

static void the_published_configuration_is_read(void **state) {
    (void)state;
    struct gpt2_config config = read_changed_config("gpt2", "gpt2");
    assert_int_equal(config.context, 1024);
    assert_int_equal(config.vocab, 50257);
    assert_int_equal(config.layers, 12);
    assert_int_equal(config.heads, 12);
    assert_int_equal(config.channels, 768);
    assert_int_equal(config.inner, 3072);
    assert_true(config.layer_norm_epsilon == 1e-5f);
    assert_true(config.scale_attention && config.tied_lm_head && !config.scale_attention_by_layer);
    assert_int_equal(config.eos_token, 50256);
}

static void fields_are_honoured(void **state) {
    (void)state;
    assert_int_equal(read_changed_config(NULL, "\"n_inner\": 1000").inner, 1000);
    assert_int_equal(read_changed_config(NULL, "\"n_inner\": null").inner, 3072);
    assert_false(read_changed_config(NULL, "\"scale_attn_weights\": false").scale_attention);
    assert_true(
        read_changed_config(NULL, "\"scale_attn_by_inverse_layer_idx\": true").scale_attention_by_layer);
    assert_false(read_changed_config(NULL, "\"tie_word_embeddings\": false").tied_lm_head);
    assert_true(read_changed_config("1e-05", "0.25").layer_norm_epsilon == 0.25f);
    assert_true(read_changed_config("1e-05", "1").layer_norm_epsilon == 1);
    assert_true(read_changed_config("\"layer_norm_epsilon\": 1e-05,", "").layer_norm_epsilon == 1e-5f);
    assert_int_equal(read_changed_config("\"n_ctx\": 1024", "\"n_ctx\": 512").context, 1024);
    // the same function by another name; no difference to f32 scores; nothing pruned; nothing crossed
    (void)read_changed_config("gelu_new", "gelu_pytorch_tanh");
    (void)read_changed_config(NULL, "\"reorder_and_upcast_attn\": true");
    (void)read_changed_config(NULL, "\"pruned_heads\": {}");
    (void)read_changed_config(NULL, "\"add_cross_attention\": false");
    (void)read_changed_config("\"model_type\": \"gpt2\",", "");
}

static void end_of_text_is_one_id_or_none(void **state) {
    (void)state;
    static const struct {
        const char *replacement;
        int32_t id;
    } cases[] = {
        {"\"eos_token_id\": 0", 0},
        {"\"eos_token_id\": null", -1},
        {"\"eos_token_id\": [11, 50256]", 11},
        {"\"eos_token_id\": 50257", -1},
        {"\"eos_token_id\": -1", -1},
        {"\"eos_token_ids\": 3", 50256},
        {"\"eos_token_id\": 4294967296", -1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_int_equal(read_changed_config("\"eos_token_id\": 50256", cases[i].replacement).eos_token,
                         cases[i].id);
}

static void other_mathematics_and_nonsense_are_refused(void **state) {
    (void)state;
    static const struct {
        const char *find, *replacement, *says;
    } cases[] = {
        {"gelu_new", "gelu", "activation_function: expected \"gelu_new\" (GELU's tanh form), found \"gelu\""},
        {"gelu_new", "relu", "activation_function"},
        {"\"gelu_new\"", "null", "activation_function: expected \"gelu_new\" (GELU's tanh form), found null"},
        {"\"gpt2\"", "\"gpt_neo\"", "model_type: expected \"gpt2\", found \"gpt_neo\""},
        {"\"gpt2\"", "2", "model_type: expected \"gpt2\", found 2"},
        {NULL, "\"add_cross_attention\": true", "add_cross_attention: expected false, found true"},
        {NULL, "\"add_cross_attention\": 0", "add_cross_attention: expected true or false, found 0"},
        {NULL, "\"pruned_heads\": {\"0\": [1]}", "pruned_heads: expected none, found {\"0\":[1]}"},
        {NULL, "\"scale_attn_weights\": \"no\"", "scale_attn_weights: expected true or false, found \"no\""},
        {NULL, "\"scale_attn_by_inverse_layer_idx\": 1",
         "scale_attn_by_inverse_layer_idx: expected true or false"},
        {NULL, "\"reorder_and_upcast_attn\": []", "reorder_and_upcast_attn: expected true or false"},
        {NULL, "\"tie_word_embeddings\": {}", "tie_word_embeddings: expected true or false, found {}"},
        {"\"n_layer\": 12, ", "", "n_layer: expected a whole number from 1 to"},
        {"\"n_layer\": 12", "\"n_layer\": null", "n_layer: expected a whole number"},
        {"\"n_layer\": 12", "\"n_layer\": 12.0", "n_layer: expected a whole number"},
        {"\"n_layer\": 12", "\"n_layer\": \"12\"", "n_layer: expected a whole number"},
        {"\"n_layer\": 12", "\"n_layer\": 0", "n_layer: expected"},
        {"\"n_layer\": 12", "\"n_layer\": -12", "n_layer: expected"},
        {"\"n_layer\": 12", "\"n_layer\": 1025", "layers (n_layer): expected 1 to 1024, found 1025"},
        {"\"n_layer\": 12", "\"n_layer\": 4294967308", "n_layer: expected"}, // 12 mod 2^32
        {"\"n_layer\": 12", "\"n_layer\": 99999999999999999999", "expected a JSON object"},
        {"\"n_layer\": 12", "\"n_layer\": NaN", "expected a JSON object"},
        {"\"n_layer\": 12", "\"n_layer\": 12, \"n_layer\": 6", "expected a JSON object"},
        {"\"n_head\": 12", "\"n_head\": 11", "multiple of the 11 heads (n_head), found 768"},
        {"\"n_head\": 12", "\"n_head\": 0", "n_head: expected"},
        {"\"n_head\": 12", "\"n_head\": 1536", "(n_head): expected 1 to 1024"},
        {"\"n_embd\": 768", "\"n_embd\": 131072", "(n_embd): expected 1 to 65536, found 131072"},
        {"\"n_embd\": 768", "\"n_embd\": 2147483647", "n_embd: expected"},
        {"\"n_positions\": 1024", "\"n_positions\": 1048577", "(n_positions): expected 1 to 1048576"},
        {"\"n_positions\": 1024, ", "", "n_positions: expected a whole number"},
        {"\"vocab_size\": 50257", "\"vocab_size\": 16777217", "(vocab_size): expected 1 to 16777216"},
        {NULL, "\"n_inner\": 0", "n_inner: expected"},
        {NULL, "\"n_inner\": -3072", "n_inner: expected"},
        {NULL, "\"n_inner\": 2147483647", "(n_inner): expected 1 to 1048576"},
        {NULL, "\"n_inner\": \"3072\"", "n_inner: expected"},
        {"1e-05", "0", "layer_norm_epsilon: expected more than 0 and at most 1, found 0"},
        {"1e-05", "-1e-05", "layer_norm_epsilon: expected more than 0"},
        {"1e-05", "1e-60", "layer_norm_epsilon: expected more than 0"}, // zero as f32
        {"1e-05", "1e300", "layer_norm_epsilon: expected more than 0 and at most 1"},
        {"1e-05", "1e999", "expected a JSON object"},
        {"1e-05", "\"1e-05\"", "layer_norm_epsilon: expected a number, found \"1e-05\""},
        {"1e-05", "null", "layer_norm_epsilon: expected a number, found null"},
        {"\"eos_token_id\": 50256", "\"eos_token_id\": \"<|endoftext|>\"",
         "eos_token_id: expected a token id"},
        {"\"eos_token_id\": 50256", "\"eos_token_id\": [\"a\"]", "eos_token_id: expected a token id"},
        {"\"eos_token_id\": 50256", "\"eos_token_id\": 50256.0", "eos_token_id: expected a token id"},
        {"{", "[{", "expected a JSON object"},
        {"}", "", "expected a JSON object"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct written_config written;
        write_changed_config(&written, cases[i].find, cases[i].replacement);
        assert_model_refused(written.dir.path, written.path, cases[i].says);
        scratch_dir_remove(&written.dir);
    }
}

static void long_values_are_cut_and_large_files_refused(void **state) {
    (void)state;
    enum { SIZE = 2 << 20 };
    char *text = malloc(SIZE);
    assert_non_null(text);
    struct written_config written;
    // A value that would fill the message.
    memset(text, 'x', 5000);
    memcpy(text, "{\"model_type\": \"", 16);
    memcpy(text + 5000, "\"}", 3);
    write_config(&written, text);
    assert_model_refused(written.dir.path, written.path, "model_type: expected \"gpt2\", found \"...");
    scratch_dir_remove(&written.dir);
    // A valid one behind a long run of blanks.
    memset(text, ' ', SIZE);
    memcpy(text + SIZE - sizeof published, published, sizeof published);
    write_config(&written, text);
    assert_model_refused(written.dir.path, written.path, "expected at most 1048576 bytes of JSON");
    scratch_dir_remove(&written.dir);
    free(text);
}

// The tensors decide when config.json says something else of them.
static void a_configuration_that_does_not_fit_its_tensors_is_refused(void **state) {
    (void)state;
    static const struct {
        const char *find, *replacement, *says;
    } cases[] = {
        {"\"vocab_size\": 5", "\"vocab_size\": 6",
         "tensor wte.weight: expected shape [6, 4] by config.json, found [5, 4]"},
        {"\"n_positions\": 3", "\"n_positions\": 4",
         "tensor wpe.weight: expected shape [4, 4] by config.json, found [3, 4]"},
        {"\"n_embd\": 4", "\"n_embd\": 8", "tensor wte.weight: expected shape [5, 8]"},
        {"\"n_inner\": 16", "\"n_inner\": 8",
         "c_fc.weight: expected shape [4, 8] by config.json, found [4, 16]"},
        {"\"n_layer\": 2", "\"n_layer\": 1", "tensor h.1."},
        {"\"n_layer\": 2", "\"n_layer\": 3", "tensor h.2.ln_1.weight is missing"},
        {"\"tie_word_embeddings\": true", "\"tie_word_embeddings\": false",
         "tensor lm_head.weight is missing"},
    };
    struct gpt2_config config = tiny_config(2, 4, 2, 5, 3);
    struct host_model weights;
    host_model_make(&config, 7, &weights);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct scratch_dir dir;
        char path[300];
        scratch_dir_make(&dir);
        write_huggingface_model(&weights, dir.path, &(struct safetensors_style){.dtype = DTYPE_F32});
        snprintf(path, sizeof path, "%s/model.safetensors", dir.path);
        replace_in_file(&dir, "config.json", cases[i].find, cases[i].replacement);
        assert_model_refused(dir.path, path, cases[i].says);
        scratch_dir_remove(&dir);
    }
    host_model_free(&weights);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_published_configuration_is_read),
        cmocka_unit_test(fields_are_honoured),
        cmocka_unit_test(end_of_text_is_one_id_or_none),
        cmocka_unit_test(other_mathematics_and_nonsense_are_refused),
        cmocka_unit_test(long_values_are_cut_and_large_files_refused),
        cmocka_unit_test(a_configuration_that_does_not_fit_its_tensors_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
