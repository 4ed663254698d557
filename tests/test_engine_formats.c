// The same model gives the same logits, whichever file format it was read from.
#include "support/engine_fixture.h"
#include "support/model_writer.h"
#include "support/scratch_dir.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { V = 257, T = 20 };

// The CPU answers bit for bit. A GPU backend chooses its products' algorithms by timing them, anew for each
// opened model, and they round differently.
static double tolerance;

static void score_last(const char *path, float *logits) {
    struct error error = {0};
    struct backend *backend = fixture_backend(path, DTYPE_F32);
    struct session *session = fixture_session(backend, fixture_spec(1, T, true));
    int32_t tokens[T];
    fixture_random_tokens(3, V, T, tokens);
    struct score_request request = {.count = T, .tokens = tokens, .last_logits = logits};
    if (session_score(session, &request, &error) != STATUS_OK) fail_msg("%s", error.message);
    session_close(session);
    backend_close(backend);
}

static void check_formats(enum dtype stored) {
    fixture_require_device();
    struct gpt2_config config = tiny_config(2, 64, 2, V, 32);
    struct host_model model;
    host_model_make(&config, 5, &model);
    struct scratch_dir directory;
    scratch_dir_make(&directory);
    char file[sizeof directory.path + 16];
    snprintf(file, sizeof file, "%s/model.bin", directory.path);
    struct safetensors_style style = {.dtype = stored, .prefix = true, .masks = true};
    write_huggingface_model(&model, directory.path, &style);
    write_llmc_model(&model, file, stored, 384);
    float from_safetensors[V], from_llmc[V];
    score_last(directory.path, from_safetensors);
    score_last(file, from_llmc);
    for (int v = 0; v < V; v++)
        assert_true(fabs((double)from_safetensors[v] - (double)from_llmc[v]) <= tolerance);
    assert_true(from_llmc[0] != from_llmc[1]); // not all alike
    host_model_free(&model);
    scratch_dir_remove(&directory);
}

static void test_f32_files(void **state) {
    (void)state;
    check_formats(DTYPE_F32);
}

static void test_bf16_files(void **state) {
    (void)state;
    check_formats(DTYPE_BF16);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_f32_files),
        cmocka_unit_test(test_bf16_files),
    };
    fixture_use_device("cpu");
    tolerance = 0;
    int failed = cmocka_run_group_tests_name("formats, cpu", tests, NULL, NULL);
    fixture_use_device("cuda");
    tolerance = 1e-4; // the bound that f32 keeps to float64
    return failed + cmocka_run_group_tests_name("formats, cuda", tests, NULL, NULL);
}
