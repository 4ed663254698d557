// predict as its user meets it.
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/run_program.h"
#include "tests/support/scratch_dir.h"

#define GPT2 "--model", "random:gpt2", "--quiet"

static char *run_ok(const char *const *arguments) {
    struct program_run run = run_program(arguments, NULL);
    assert_exit(&run, arguments, 0);
    char *output = strdup(run.output);
    program_run_free(&run);
    return output;
}

static void assert_refused(const char *const *arguments, const char *named) {
    struct program_run run = run_program(arguments, NULL);
    assert_exit(&run, arguments, 2);
    if (!strstr(run.errors, named)) fail_msg("\"%s\" does not name %s", run.errors, named);
    assert_string_equal(run.output, "");
    program_run_free(&run);
}

static void test_all_specs(void **state) {
    (void)state;
    char *text = run_ok(ARGS("predict", "--device-spec", "a100-80gb,h100,h200,l4,t4,v100,rtx4090", GPT2,
                             "--format", "json", "--batch", "1,93"));
    json_t *document = json_loads(text, 0, NULL);
    assert_non_null(document);
    const json_t *rows = json_object_get(document, "rows");
    assert_int_equal(json_array_size(rows), 7 * 2 * 2);
    assert_non_null(strstr(json_string_value(json_object_get(document, "notice")), "not a measurement"));
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *row = json_array_get(rows, i);
        assert_true(json_number_value(json_object_get(row, "tok_s")) > 0);
        assert_true(json_is_true(json_object_get(row, "fits")));
        const char *device = json_string_value(json_object_get(row, "device"));
        bool old = strstr(device, "T4") || strstr(device, "V100");
        assert_string_equal(json_string_value(json_object_get(row, "dtype")), old ? "f16" : "bf16");
    }
    json_decref(document);
    free(text);
}

static double machine_field(const json_t *document, size_t row, const char *name) {
    const json_t *machine =
        json_object_get(json_array_get(json_object_get(document, "rows"), row), "machine");
    assert_true(json_is_number(json_object_get(machine, name)));
    return json_number_value(json_object_get(machine, name));
}

static json_t *predicted(const char *const *arguments) {
    char *text = run_ok(arguments);
    json_t *document = json_loads(text, 0, NULL);
    free(text);
    assert_non_null(document);
    return document;
}

static void test_the_machine_says_whose_kernels_run(void **state) {
    (void)state;
    json_t *document = predicted(ARGS("predict", "--device-spec", "h100,l4", GPT2, "--format", "json",
                                      "--batch", "1", "--kvcache", "on"));
    assert_true(machine_field(document, 0, "persistent_rows") == 8);
    assert_true(machine_field(document, 0, "persistent_step_s") > 0);
    assert_true(machine_field(document, 0, "persistent_last_step_s") > 0);
    assert_true(machine_field(document, 0, "fused_rows") == 256);
    assert_true(machine_field(document, 1, "persistent_rows") == 0);
    json_decref(document);
}

static void test_every_format_says_that_it_is_a_model(void **state) {
    (void)state;
    static const char *const formats[] = {"table", "csv", "json", "jsonl", "markdown"};
    for (int i = 0; i < 5; i++) {
        char *text = run_ok(ARGS("predict", "--device-spec", "l4", GPT2, "--format", formats[i]));
        if (!strstr(text, "A model, not a measurement")) fail_msg("%s: %s", formats[i], text);
        free(text);
    }
}

static void test_rows_beyond_the_memory_are_marked(void **state) {
    (void)state;
    // 36,864 bytes of cache per token: 250 tokens of 2000 rows are 18.4 GB.
    char *text =
        run_ok(ARGS("predict", "--device-spec", "t4", GPT2, "--batch", "93,2000", "--kvcache", "on"));
    char *marked = strstr(text, "does not fit in 16.0 GB");
    assert_non_null(marked);
    assert_null(strstr(marked + 1, "does not fit"));
    free(text);
}

static void test_a_config_needs_no_weights(void **state) {
    (void)state;
    struct scratch_dir directory;
    const char *config = "{\"model_type\": \"gpt2\", \"n_layer\": 2, \"n_head\": 2, \"n_embd\": 64, "
                         "\"n_positions\": 512, \"vocab_size\": 1000}";
    scratch_dir_make(&directory);
    scratch_dir_write(&directory, "config.json", config, strlen(config));
    char *text = run_ok(ARGS("predict", "--device-spec", "h100", "--model", directory.path));
    assert_non_null(strstr(text, "L 2, C 64, H 2, V 1000"));
    free(text);
    scratch_dir_remove(&directory);
}

static void test_refusals(void **state) {
    (void)state;
    assert_refused(ARGS("predict", "--device-spec", "h100,b300", GPT2), "a100-80gb, h100, h200");
    assert_refused(ARGS("predict", "--device-spec", "h100,b300", GPT2), "\"b300\"");
    assert_refused(ARGS("predict", "--device-spec", "h100,", GPT2), "\"\"");
    assert_refused(ARGS("predict", "--device-spec", "", GPT2), "--device-spec");
    assert_refused(ARGS("predict", "--device-spec", "t4", "--dtype", "bf16", GPT2), "bf16");
    assert_refused(ARGS("predict", "--device-spec", "h100", "--batch", "0", GPT2), "--batch");
    assert_refused(ARGS("predict", "--device-spec", "h100", "--host-overhead-us", "-1", GPT2), "-1");
    assert_refused(ARGS("predict", "--device-spec", "h100", "--matmul-efficiency", "101", GPT2), "101");
    assert_refused(ARGS("predict", "--device-spec", "h100", "--gen-len", "1000", GPT2), "1024");
    assert_refused(ARGS("predict", "--matmul-efficiency", "50", GPT2), "--device-spec");
}

static void test_the_present_device(void **state) {
    (void)state;
    struct scratch_dir directory;
    scratch_dir_make(&directory);
    setenv("XDG_CACHE_HOME", directory.path, 1);
    const char *const arguments[] = {"predict",   "--model",  "random:L2-C64-H2-V300-T128",
                                     "--device",  "cpu",      "--threads",
                                     "1",         "--format", "json",
                                     "--gen-len", "20",       NULL};
    json_t *machines[2];
    for (int i = 0; i < 2; i++) {
        char *text = run_ok(arguments);
        json_t *document = json_loads(text, 0, NULL), *rows = json_object_get(document, "rows");
        assert_int_equal(json_array_size(rows), 14);
        machines[i] = json_incref(json_object_get(json_array_get(rows, 0), "machine"));
        json_decref(document);
        free(text);
    }
    assert_true(json_equal(machines[0], machines[1])); // what was measured is remembered
    for (int i = 0; i < 2; i++) json_decref(machines[i]);
    unsetenv("XDG_CACHE_HOME");
    scratch_dir_remove(&directory);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_specs),
        cmocka_unit_test(test_the_machine_says_whose_kernels_run),
        cmocka_unit_test(test_every_format_says_that_it_is_a_model),
        cmocka_unit_test(test_rows_beyond_the_memory_are_marked),
        cmocka_unit_test(test_a_config_needs_no_weights),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_the_present_device),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
