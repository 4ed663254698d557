// The roofline formulas against a count by hand, term by term, for one small model:
// L 2, C 4, H 2, F 16, V 10, bf16 (2 bytes), B 3 rows, 5 prompt tokens.
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include "measure/roofline.h"
#include "tests/support/assert_close.h"

static const struct gpt2_config config = {
    .context = 32, .vocab = 10, .layers = 2, .heads = 2, .channels = 4, .inner = 16, .tied_lm_head = true};

static struct generation_shape small_shape(bool kv_cache, enum logits_mode logits) {
    return (struct generation_shape){.config = &config,
                                     .dtype = DTYPE_BF16,
                                     .logits = logits,
                                     .kv_cache = kv_cache,
                                     .batch = 3,
                                     .prompt_len = 5,
                                     .gen_len = 4};
}

// Per layer: qkvw 48, qkvb 12, attprojw 16, attprojb 4, fcw 64, fcb 16, fcprojw 64, fcprojb 4, LayerNorms 16:
// 244. Two layers 488, lnf 8, wte as LM head 40: 536 weights, 1072 bytes.
static void test_weight_bytes(void **state) {
    (void)state;
    assert_close(roofline_weight_bytes(&config, DTYPE_BF16), 1072, 0);
    assert_close(roofline_weight_bytes(&config, DTYPE_F32), 2144, 0);
}

// K and V of 4 channels in 2 layers, 2 bytes each.
static void test_kv_token_bytes(void **state) {
    (void)state;
    assert_close(roofline_kv_token_bytes(&config, DTYPE_BF16), 32, 0);
}

// Matrix weights of both layers: 2 (48 + 16 + 64 + 64) = 384.
static void test_prefill(void **state) {
    (void)state;
    struct generation_shape shape = small_shape(true, LOGITS_LAST);
    struct cost cost = roofline_prefill(&shape);
    // 15 tokens x 384 x 2 = 11520; attention: 3 rows x 2 layers x (1+2+3+4+5) pairs x 4 channels x 2 products
    // x 2 = 1440; head: 3 positions x 40 x 2 = 240
    assert_close(cost.flop, 11520 + 1440 + 240, 0);
    // weights 1072; embeddings 15 x (wte + wpe) 8 x 2 = 240; logits 3 x 10 f32 written and read = 240; KV
    // written 15 x 32 = 480
    assert_close(cost.bytes, 1072 + 240 + 240 + 480, 0);
}

static void test_prefill_scores_all_positions_when_asked(void **state) {
    (void)state;
    struct generation_shape shape = small_shape(false, LOGITS_ALL);
    struct cost cost = roofline_prefill(&shape);
    assert_close(cost.flop, 11520 + 1440 + 15 * 80, 0);
    assert_close(cost.bytes, 1072 + 240 + 15 * 80, 0); // no cache is written
}

static void test_cached_step(void **state) {
    (void)state;
    struct generation_shape shape = small_shape(true, LOGITS_LAST);
    struct cost cost = roofline_step(&shape, 2); // 7 tokens per row, the newest among them
    // 3 tokens x 384 x 2 = 2304; attention 3 x 2 x 7 keys x 4 x 2 x 2 = 672; head 240
    assert_close(cost.flop, 2304 + 672 + 240, 0);
    assert_close(cost.launches, 2 * 7 + 4, 0);
    // weights 1072; embeddings 3 x 16 = 48; logits 240; KV: 6 read and 1 written, 3 rows x 7 x 32 = 672
    assert_close(cost.bytes, 1072 + 48 + 240 + 672, 0);
    struct generation_shape all = small_shape(true, LOGITS_ALL); // only one position is fed anyway
    assert_close(roofline_step(&all, 2).flop, cost.flop, 0);
}

static void test_uncached_step_is_a_prefill_of_the_prefix(void **state) {
    (void)state;
    struct generation_shape shape = small_shape(false, LOGITS_LAST);
    struct cost cost = roofline_step(&shape, 2);
    // 21 tokens x 768 = 16128; attention 3 x 2 x 28 pairs x 16 = 2688; head 240
    assert_close(cost.flop, 16128 + 2688 + 240, 0);
    assert_close(cost.bytes, 1072 + 21 * 16 + 240, 0);
}

static void test_mean_step(void **state) {
    (void)state;
    struct generation_shape shape = small_shape(true, LOGITS_LAST);
    // Steps 1 to 3 have 6, 7 and 8 keys: the mean is the step with 7.
    struct cost mean = roofline_mean_step(&shape), middle = roofline_step(&shape, 2);
    assert_close(mean.flop, middle.flop, 1e-9);
    assert_close(mean.bytes, middle.bytes, 1e-9);
    shape.gen_len = 1;
    assert_close(roofline_mean_step(&shape).bytes, 0, 0);
    // Without the cache a step's cost grows with the square of its length: the mean of all, one by one.
    shape.kv_cache = false;
    shape.logits = LOGITS_ALL;
    shape.gen_len = 30;
    struct cost sum = {0, 0, 0};
    for (int step = 1; step < 30; step++) {
        struct cost cost = roofline_step(&shape, step);
        sum.bytes += cost.bytes;
        sum.flop += cost.flop;
    }
    mean = roofline_mean_step(&shape);
    assert_close(mean.bytes * 29 / sum.bytes, 1, 1e-12);
    assert_close(mean.flop * 29 / sum.flop, 1, 1e-12);
}

static void test_floor_is_the_binding_ceiling(void **state) {
    (void)state;
    const struct cost cost = {.bytes = 1000, .flop = 8000, .launches = 4};
    const struct ceilings memory = {.bandwidth = 100, .matmul_rate = 1000, .launch = 1};
    const struct ceilings compute = {.bandwidth = 1000, .matmul_rate = 1000, .launch = 1};
    const struct ceilings launch = {.bandwidth = 1e6, .matmul_rate = 1e6, .launch = 1};
    assert_close(roofline_floor(&cost, &memory).seconds, 10, 1e-12);
    assert_int_equal(roofline_floor(&cost, &memory).limit, LIMIT_MEMORY);
    assert_close(roofline_floor(&cost, &compute).seconds, 8, 1e-12);
    assert_int_equal(roofline_floor(&cost, &compute).limit, LIMIT_COMPUTE);
    assert_close(roofline_floor(&cost, &launch).seconds, 4, 0);
    assert_int_equal(roofline_floor(&cost, &launch).limit, LIMIT_LAUNCH);
}

static void test_textbook_counts(void **state) {
    (void)state;
    struct token_steps steps = roofline_token_steps(50, 200);
    assert_close(steps.uncached, 29900, 0);
    assert_close(steps.cached, 250, 0);
    assert_close(steps.ratio, 119.6, 1e-9);
    steps = roofline_token_steps(3, 1); // one prefill either way, and the new token
    assert_close(steps.uncached, 3, 0);
    assert_close(steps.cached, 4, 0);
}

// GPT-2 124M as the literature counts it: 36,864 bytes of bf16 cache per token, 85 M block weights x 2 flop.
static void test_gpt2_has_its_known_sizes(void **state) {
    (void)state;
    const struct gpt2_config gpt2 = {
        .context = 1024, .vocab = 50257, .layers = 12, .heads = 12, .channels = 768, .inner = 3072};
    assert_close(roofline_kv_token_bytes(&gpt2, DTYPE_BF16), 36864, 0);
    // 124,439,808 parameters without the 1024 x 768 position embedding
    assert_close(roofline_weight_bytes(&gpt2, DTYPE_BF16), 2.0 * (124439808 - 786432), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_weight_bytes),
        cmocka_unit_test(test_kv_token_bytes),
        cmocka_unit_test(test_prefill),
        cmocka_unit_test(test_prefill_scores_all_positions_when_asked),
        cmocka_unit_test(test_cached_step),
        cmocka_unit_test(test_uncached_step_is_a_prefill_of_the_prefix),
        cmocka_unit_test(test_mean_step),
        cmocka_unit_test(test_floor_is_the_binding_ceiling),
        cmocka_unit_test(test_textbook_counts),
        cmocka_unit_test(test_gpt2_has_its_known_sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
