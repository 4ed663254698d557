// What the commands print, against the bundled model's published expectations.
#include "support/assert_close.h"
#include "support/golden.h"
#include "support/run_program.h"
#include "support/scratch_dir.h"

#include <jansson.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MODEL "--model", "models/shakespeare"
#define EXPECTED "tests/data/shakespeare/expected.json"

static json_t *parse(const char *text, size_t size) {
    json_error_t error;
    json_t *value = json_loadb(text, size, 0, &error);
    if (!value) fail_msg("%s in: %.200s", error.text, text);
    return value;
}

static struct program_run run_ok(const char *const *arguments, const char *input) {
    struct program_run run = run_program(arguments, input);
    assert_exit(&run, arguments, 0);
    return run;
}

// Runs a command whose output is one JSON document.
static json_t *run_json(const char *const *arguments, const char *input) {
    struct program_run run = run_ok(arguments, input);
    json_t *document = parse(run.output, run.size);
    program_run_free(&run);
    return document;
}

static void assert_ids(const json_t *array, const int32_t *ids, int count) {
    assert_true(json_is_array(array));
    assert_int_equal(json_array_size(array), count);
    for (int i = 0; i < count; i++)
        assert_int_equal(json_integer_value(json_array_get(array, (size_t)i)), ids[i]);
}

// "1,2,3"; the caller frees.
static char *list_of(const int32_t *ids, int count) {
    char *list = malloc((size_t)count * 12 + 1);
    assert_non_null(list);
    size_t used = 0;
    for (int i = 0; i < count; i++) used += (size_t)sprintf(list + used, "%s%d", i ? "," : "", ids[i]);
    return list;
}

static const char *expected_text(const json_t *expected, const char *key) {
    return json_string_value(json_object_get(expected, key));
}

static void test_score_first_window(void **state) {
    (void)state;
    int count, nll_count;
    int32_t *ids = golden_load_ids(EXPECTED, "first_window_tokens", &count);
    double *nll = golden_load_numbers(EXPECTED, "first_window_nll", &nll_count);
    assert_int_equal(nll_count, count - 1);
    char *list = list_of(ids, count);
    json_t *document = run_json(
        ARGS("score", MODEL, "--dtype", "f32", "--format", "json", "--last-logits", "--ids", list), NULL);
    assert_ids(json_object_get(document, "tokens"), ids, count);
    const json_t *found = json_object_get(document, "nll"), *argmax = json_object_get(document, "argmax");
    assert_int_equal(json_array_size(found), nll_count);
    assert_int_equal(json_array_size(argmax), count);
    double sum = 0;
    for (int i = 0; i < nll_count; i++) {
        assert_close(json_number_value(json_array_get(found, (size_t)i)), nll[i], 1e-3);
        sum += json_number_value(json_array_get(found, (size_t)i));
    }
    double mean = json_number_value(json_object_get(document, "mean_nll"));
    assert_close(mean, sum / nll_count, 1e-6);
    assert_close(json_number_value(json_object_get(document, "perplexity")), exp(mean), 1e-5);
    const json_t *logits = json_object_get(document, "last_logits");
    assert_int_equal(json_array_size(logits), 1024);
    size_t best = 0;
    for (size_t i = 1; i < 1024; i++) {
        if (json_number_value(json_array_get(logits, i)) > json_number_value(json_array_get(logits, best)))
            best = i;
    }
    assert_int_equal(json_integer_value(json_array_get(argmax, (size_t)count - 1)), best);
    json_decref(document);
    free(list);
    free(nll);
    free(ids);
}

static void test_score_text(void **state) {
    (void)state;
    json_t *expected = json_load_file(EXPECTED, 0, NULL);
    assert_non_null(expected);
    json_t *document = run_json(ARGS("score", MODEL, "--dtype", "f32", "--format", "json", "--text-file",
                                     "tests/data/shakespeare/heldout.txt"),
                                NULL);
    assert_int_equal(json_array_size(json_object_get(document, "tokens")),
                     json_integer_value(json_object_get(expected, "val_tokens")));
    assert_close(json_number_value(json_object_get(document, "mean_nll")),
                 json_number_value(json_object_get(expected, "val_nats_per_token")), 1e-3);
    json_decref(document);
    json_decref(expected);
    // A single token predicts nothing.
    document = run_json(ARGS("score", MODEL, "--format", "json", "--ids", "41"), NULL);
    assert_int_equal(json_array_size(json_object_get(document, "nll")), 0);
    assert_int_equal(json_array_size(json_object_get(document, "argmax")), 1);
    assert_true(json_is_null(json_object_get(document, "mean_nll")));
    json_decref(document);
}

static void test_generate_greedy(void **state) {
    (void)state;
    json_t *expected = json_load_file(EXPECTED, 0, NULL);
    assert_non_null(expected);
    const char *prompt = expected_text(expected, "greedy_prompt"),
               *text = expected_text(expected, "greedy_text");
    int count, prompt_count;
    int32_t *ids = golden_load_ids(EXPECTED, "greedy_ids", &count);
    int32_t *prompt_ids = golden_load_ids(EXPECTED, "greedy_prompt_ids", &prompt_count);
    char new_tokens[16];
    snprintf(new_tokens, sizeof new_tokens, "%d", count);
    // The document.
    for (int cached = 0; cached < 2; cached++) {
        json_t *document = run_json(ARGS("generate", MODEL, "--dtype", "f32", "--temperature", "0",
                                         "--max-new-tokens", new_tokens, "--format", "json", "--prompt",
                                         prompt, "--kvcache", cached ? "on" : "off"),
                                    NULL);
        assert_int_equal(json_array_size(document), 1);
        const json_t *row = json_array_get(document, 0);
        assert_int_equal(json_integer_value(json_object_get(row, "index")), 0);
        assert_ids(json_object_get(row, "prompt_ids"), prompt_ids, prompt_count);
        assert_ids(json_object_get(row, "ids"), ids, count);
        assert_string_equal(expected_text(row, "text"), text);
        assert_string_equal(expected_text(row, "finish_reason"), "length");
        json_decref(document);
    }
    // The same as text: the prompt, its continuation, a newline.
    struct program_run plain = run_ok(ARGS("generate", MODEL, "--dtype", "f32", "--temperature", "0",
                                           "--quiet", "--max-new-tokens", new_tokens, "--prompt-file", "-"),
                                      prompt);
    assert_int_equal(plain.size, strlen(prompt) + strlen(text) + 1);
    assert_memory_equal(plain.output, prompt, strlen(prompt));
    assert_memory_equal(plain.output + strlen(prompt), text, strlen(text));
    assert_string_equal(plain.errors, "");
    program_run_free(&plain);
    free(prompt_ids);
    free(ids);
    json_decref(expected);
}

static void test_generate_stop_text(void **state) {
    (void)state;
    // The greedy text is "I'll not believe thee, and I'll be a crab.\n\nROMEO: ..."; the first stop text
    // spans tokens, the second never completes.
    json_t *document =
        run_json(ARGS("generate", MODEL, "--dtype", "f32", "--temperature", "0", "--format", "json",
                      "--prompt", "ROMEO:\n", "--stop", "thee, and I", "--stop", "not believed"),
                 NULL);
    const json_t *row = json_array_get(document, 0);
    assert_string_equal(expected_text(row, "text"), "I'll not believe ");
    assert_string_equal(expected_text(row, "finish_reason"), "stop");
    json_decref(document);
    struct program_run run = run_ok(ARGS("generate", MODEL, "--dtype", "f32", "--temperature", "0",
                                         "--prompt", "ROMEO:\n", "--stop", "thee, and I"),
                                    NULL);
    assert_string_equal(run.output, "ROMEO:\nI'll not believe \n");
    program_run_free(&run);
}

// The line of output that belongs to a prompt does not depend on its batch.
static void test_generate_lines(void **state) {
    (void)state;
    const char *input = "{\"prompt\": \"ROMEO:\"}\n\n{\"ids\": [41, 452]}\r\n{\"prompt\": \"\"}\n"
                        "{\"prompt\": \"JULIET:\\nO\"}\n{\"text\": \"caf\\u00e9\"}";
    static const char *const batches[] = {"1", "2", "5"};
    char *first = NULL;
    for (size_t i = 0; i < 3; i++) {
        struct program_run run =
            run_ok(ARGS("generate", MODEL, "--dtype", "f32", "--format", "jsonl", "--input", "-", "--seed",
                        "7", "--max-new-tokens", "12", "--quiet", "--batch", batches[i]),
                   input);
        int lines = 0;
        for (char *line = run.output; *line; lines++) {
            size_t length = strcspn(line, "\n");
            json_t *row = parse(line, length);
            assert_int_equal(json_integer_value(json_object_get(row, "index")), lines);
            assert_in_range(json_array_size(json_object_get(row, "ids")), 1, 12);
            assert_true(json_is_string(json_object_get(row, "text")));
            if (lines == 2)
                assert_ids(json_object_get(row, "prompt_ids"), (int32_t[]){0}, 1); // <|endoftext|>
            json_decref(row);
            line += length + 1;
        }
        assert_int_equal(lines, 5);
        if (first) assert_string_equal(run.output, first);
        free(first);
        first = strdup(run.output);
        program_run_free(&run);
    }
    free(first);
}

static void test_generate_without_a_tokenizer(void **state) {
    (void)state;
    json_t *document = run_json(ARGS("generate", "--model", "tests/data/tiny-f32", "--ids", "1,2,3",
                                     "--format", "json", "--max-new-tokens", "4"),
                                NULL);
    assert_true(json_is_null(json_object_get(json_array_get(document, 0), "text")));
    json_decref(document);
}

static void test_tokenize_round_trip(void **state) {
    (void)state;
    static const char text[] = "ROMEO:\nO, she doth teach the torches \xc3\xa9\xe2\x82\xac \xff\xfe!  \n";
    struct program_run encoded = run_ok(ARGS("tokenize", MODEL, "--text-file", "-"), text);
    for (char *c = encoded.output; *c; c++) {
        if (*c == ' ') *c = ',';
        if (*c == '\n') *c = '\0';
    }
    struct program_run decoded = run_ok(ARGS("tokenize", MODEL, "--decode", "--ids", encoded.output), NULL);
    assert_int_equal(decoded.size, sizeof text - 1);
    assert_memory_equal(decoded.output, text, sizeof text - 1);
    program_run_free(&decoded);
    // The same ids as JSON, and the tokenizer's directory alone is enough.
    json_t *object = run_json(
        ARGS("tokenize", "--tokenizer", "models/shakespeare", "--format", "json", "--text-file", "-"), text);
    char *list = encoded.output;
    for (size_t i = 0; i < json_array_size(json_object_get(object, "ids")); i++, list++)
        assert_int_equal(json_integer_value(json_array_get(json_object_get(object, "ids"), i)),
                         strtol(list, &list, 10));
    json_decref(object);
    program_run_free(&encoded);
    // Lines of JSON give lines of JSON.
    struct program_run lines =
        run_ok(ARGS("tokenize", MODEL, "--input", "-"), "{\"text\": \"ROMEO:\\n\"}\n{\"text\": \"\"}\n");
    assert_string_equal(lines.output, "{\"ids\":[835,26,199]}\n{\"ids\":[]}\n");
    program_run_free(&lines);
}

static void test_info(void **state) {
    (void)state;
    json_t *document = run_json(ARGS("info", MODEL, "--format", "json", "--batch", "4"), NULL);
    const json_t *model = json_object_get(document, "model"), *memory = json_object_get(document, "memory");
    assert_int_equal(json_integer_value(json_object_get(model, "parameters")), 5066752);
    assert_int_equal(json_integer_value(json_object_get(memory, "rows")), 4);
    assert_true(json_array_size(json_object_get(document, "devices")) >= 1);
    json_decref(document);
    struct program_run run = run_ok(ARGS("info", MODEL), NULL);
    assert_non_null(strstr(run.output, "5066752"));
    program_run_free(&run);
}

static void test_bench(void **state) {
    (void)state;
    json_t *document =
        run_json(ARGS("--model", "random:L2-C64-H2-V257-T64", "--batch", "1,3", "--kvcache", "both",
                      "--prompt-len", "5", "--gen-len", "8", "--format", "json", "--quiet"),
                 NULL);
    assert_string_equal(expected_text(document, "schema"), "gpt2infer.bench/1");
    const json_t *rows = json_object_get(document, "rows");
    assert_int_equal(json_array_size(rows), 4);
    for (size_t i = 0; i < 4; i++) {
        const json_t *row = json_array_get(rows, i);
        assert_string_equal(expected_text(row, "status"), "ok");
        assert_true(json_number_value(json_object_get(json_object_get(row, "tok_s"), "median")) > 0);
    }
    assert_true(json_is_false(json_object_get(json_object_get(document, "workload"), "deterministic")));
    const json_t *ceilings = json_object_get(json_object_get(document, "device"), "ceilings");
    assert_true(json_number_value(json_object_get(ceilings, "read_bytes_per_s")) > 0);
    json_decref(document);
    struct program_run run = run_ok(ARGS("bench", "--help-metrics"), NULL);
    assert_true(run.size > 100);
    program_run_free(&run);
}

// Two processes: the same tokens.
static void test_deterministic_benches_agree(void **state) {
    (void)state;
    char hashes[2][32];
    for (int i = 0; i < 2; i++) {
        json_t *document = run_json(ARGS("--model", "random:L2-C64-H2-V257-T64", "--batch", "3", "--kvcache",
                                         "off", "--prompt-len", "5", "--gen-len", "8", "--reps", "1",
                                         "--format", "json", "--quiet", "--deterministic"),
                                    NULL);
        assert_true(json_is_true(json_object_get(json_object_get(document, "workload"), "deterministic")));
        const json_t *row = json_array_get(json_object_get(document, "rows"), 0);
        snprintf(hashes[i], sizeof hashes[i], "%s", expected_text(row, "token_hash"));
        json_decref(document);
    }
    assert_string_equal(hashes[0], hashes[1]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_score_first_window),
        cmocka_unit_test(test_score_text),
        cmocka_unit_test(test_generate_greedy),
        cmocka_unit_test(test_generate_stop_text),
        cmocka_unit_test(test_generate_lines),
        cmocka_unit_test(test_generate_without_a_tokenizer),
        cmocka_unit_test(test_tokenize_round_trip),
        cmocka_unit_test(test_info),
        cmocka_unit_test(test_bench),
        cmocka_unit_test(test_deterministic_benches_agree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
