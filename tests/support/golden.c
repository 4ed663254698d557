#include "golden.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>
#include <jansson.h>

static json_t *load_json(const char *path) {
    json_error_t problem;
    json_t *root = json_load_file(path, 0, &problem);
    if (!root) fail_msg("%s:%d: %s", path, problem.line, problem.text);
    return root;
}

static int32_t *ids_of(const json_t *array, int *count) {
    *count = (int)json_array_size(array);
    int32_t *ids = calloc((size_t)*count + 1, sizeof *ids);
    assert_non_null(ids);
    for (int i = 0; i < *count; i++) ids[i] = (int32_t)json_integer_value(json_array_get(array, (size_t)i));
    return ids;
}

static double *numbers_of(const json_t *array, int *count) {
    *count = (int)json_array_size(array);
    double *numbers = calloc((size_t)*count + 1, sizeof *numbers);
    assert_non_null(numbers);
    for (int i = 0; i < *count; i++) numbers[i] = json_number_value(json_array_get(array, (size_t)i));
    return numbers;
}

void golden_load(const char *path, struct golden *golden) {
    json_t *root = load_json(path), *cases = json_object_get(root, "cases");
    golden->count = (int)json_array_size(cases);
    assert_true(golden->count > 0);
    golden->cases = calloc((size_t)golden->count, sizeof *golden->cases);
    assert_non_null(golden->cases);
    for (int i = 0; i < golden->count; i++) {
        const json_t *item = json_array_get(cases, (size_t)i);
        struct golden_case *c = &golden->cases[i];
        int ignored;
        c->tokens = ids_of(json_object_get(item, "tokens"), &c->count);
        c->argmax = ids_of(json_object_get(item, "argmax"), &c->argmax_count);
        c->nll = numbers_of(json_object_get(item, "nll"), &c->nll_count);
        c->last_logits = numbers_of(json_object_get(item, "last_logits"), &ignored);
        c->greedy = ids_of(json_object_get(item, "greedy"), &c->greedy_count);
        c->greedy_gap = numbers_of(json_object_get(item, "greedy_top2_gap"), &ignored);
    }
    json_decref(root);
}

void golden_free(struct golden *golden) {
    for (int i = 0; i < golden->count; i++) {
        struct golden_case *c = &golden->cases[i];
        free(c->tokens);
        free(c->argmax);
        free(c->nll);
        free(c->last_logits);
        free(c->greedy);
        free(c->greedy_gap);
    }
    free(golden->cases);
}

int32_t *golden_load_ids(const char *path, const char *key, int *count) {
    json_t *root = load_json(path);
    int32_t *ids = ids_of(json_object_get(root, key), count);
    json_decref(root);
    return ids;
}

double *golden_load_numbers(const char *path, const char *key, int *count) {
    json_t *root = load_json(path);
    double *numbers = numbers_of(json_object_get(root, key), count);
    json_decref(root);
    return numbers;
}
