// The reference sampler: published Philox vectors, the rule recomputed in double by sorting, the distribution
// of draws.
#include "engine/sampling.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

enum { MOST = 512 };

static float probability[MOST];
static int32_t order[MOST];
static struct sampling_scratch scratch = {probability, order};

static const struct sampling plain = {.temperature = 1.0f, .top_p = 1.0f};

// Uniform in (0, 1] from a stream of the test's own.
static double next_uniform(void) {
    static uint64_t position;
    return (double)sampling_uniform(12345, 0, position++);
}

// ---- random numbers
// ----------------------------------------------------------------------------------------

// Known answers for philox4x32-10 distributed with Random123.
static void test_philox_vectors(void **state) {
    (void)state;
    static const struct {
        uint32_t counter[4], key[2], expected[4];
    } vectors[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
         {0xffffffff, 0xffffffff},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < sizeof vectors / sizeof vectors[0]; i++) {
        uint32_t found[4];
        philox4x32(vectors[i].counter, vectors[i].key, found);
        assert_memory_equal(found, vectors[i].expected, sizeof found);
    }
}

// curand_uniform of a word is word * 2^-32 + 2^-33, in (0, 1].
static void test_uniform_is_a_philox_word(void **state) {
    (void)state;
    static const uint32_t zero_words[4] = {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8};
    for (uint64_t position = 0; position < 4; position++) {
        double exact = ((double)zero_words[position] + 0.5) / 4294967296.0;
        assert_true(fabs((double)sampling_uniform(0, 0, position) - exact) <= 0x1p-24);
    }
}

// As curand_init(seed, subsequence, offset) sets it: the seed is the key, the subsequence the counter's high
// half, a quarter of the offset its low half.
static void test_uniform_counts_as_curand(void **state) {
    (void)state;
    const uint64_t seed = 0x299f31d0a4093822, request = 0x0370734413198a2e, block = 0x05a308d3243f6a88;
    const uint32_t key[2] = {0xa4093822, 0x299f31d0};
    const uint32_t counter[4] = {0x243f6a88, 0x05a308d3, 0x13198a2e, 0x03707344};
    uint32_t words[4];
    philox4x32(counter, key, words);
    for (uint64_t i = 0; i < 4; i++) {
        double exact = ((double)words[i] + 0.5) / 4294967296.0;
        assert_true(fabs((double)sampling_uniform(seed, request, 4 * block + i) - exact) <= 0x1p-24);
    }
}

static void test_uniform_range(void **state) {
    (void)state;
    double sum = 0;
    for (uint64_t position = 0; position < 100000; position++) {
        double u = (double)sampling_uniform(7, 3, position);
        assert_true(u > 0 && u <= 1);
        sum += u;
    }
    // Five standard deviations of the mean of 100,000 uniform numbers.
    assert_true(fabs(sum / 100000 - 0.5) < 5 * sqrt(1.0 / 12 / 100000));
}

// ---- the rule, by sorting
// ----------------------------------------------------------------------------------

static const float *sort_logits;
static int compare_ids(const void *a, const void *b) {
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    if (sort_logits[x] != sort_logits[y]) return sort_logits[x] > sort_logits[y] ? -1 : 1;
    return (x > y) - (x < y);
}

// p (V): the probability of drawing each token, 0 where it was dropped.
static void reference(const struct sampling *sampling, const float *logits, int vocab, double *p) {
    int32_t ids[MOST];
    double highest = -HUGE_VAL, sum = 0;
    for (int i = 0; i < vocab; i++) highest = fmax(highest, (double)logits[i]);
    for (int i = 0; i < vocab; i++) {
        ids[i] = i;
        p[i] = exp(((double)logits[i] - highest) / (double)sampling->temperature);
    }
    sort_logits = logits;
    qsort(ids, (size_t)vocab, sizeof *ids, compare_ids);
    int kept = sampling->top_k > 0 && sampling->top_k < vocab ? sampling->top_k : vocab;
    for (int i = 0; i < kept; i++) sum += p[ids[i]];
    double reached = 0;
    int enough = 0;
    while (enough < kept && (enough == 0 || reached < (double)sampling->top_p * sum))
        reached += p[ids[enough++]];
    if (sampling->top_p < 1.0f) kept = enough;
    for (int i = kept; i < vocab; i++) p[ids[i]] = 0;
    for (int i = 0; i < vocab; i++) {
        if (p[i] < (double)sampling->min_p) p[i] = 0; // the highest is 1
    }
    sum = 0;
    for (int i = 0; i < vocab; i++) sum += p[i];
    for (int i = 0; i < vocab; i++) p[i] /= sum;
}

// A number from the middle of each token's share must draw that token: the kept set and its order are right.
static void check_shares(const struct sampling *sampling, const float *logits, int vocab) {
    double p[MOST], start = 0;
    reference(sampling, logits, vocab, p);
    for (int i = 0; i < vocab; start += p[i++]) {
        if (p[i] < 1e-5) continue; // narrower than what float numbers tell apart safely
        float u = (float)(start + p[i] / 2);
        int32_t found = sampling_draw(sampling, logits, vocab, u, &scratch);
        if (found != i) {
            fail_msg("V %d, top-k %d, top-p %g, min-p %g, u %g: found %d, expected %d", vocab,
                     sampling->top_k, (double)sampling->top_p, (double)sampling->min_p, (double)u, found, i);
        }
    }
    int32_t last = sampling_draw(sampling, logits, vocab, 1.0f, &scratch);
    int32_t first = sampling_draw(sampling, logits, vocab, 0x1p-33f, &scratch);
    assert_true(p[last] > 0 && p[first] > 0);
}

// Logits between -4 and 4; coarse ones have many ties.
static void random_logits(float *logits, int vocab, bool coarse) {
    for (int i = 0; i < vocab; i++) {
        double value = 8 * next_uniform() - 4;
        logits[i] = (float)(coarse ? floor(value) : value);
    }
}

static void test_kept_sets(void **state) {
    (void)state;
    static const int vocabs[] = {1, 2, 3, 17, 64, 65, 200, 512};
    float logits[MOST];
    for (size_t v = 0; v < sizeof vocabs / sizeof vocabs[0]; v++) {
        for (int repeat = 0; repeat < 40; repeat++) {
            random_logits(logits, vocabs[v], repeat % 2 == 1);
            struct sampling sampling = plain;
            sampling.temperature = (float)(0.2 + 2 * next_uniform());
            if (repeat & 2) sampling.top_k = 1 + (int)(next_uniform() * vocabs[v]);
            if (repeat & 4) sampling.top_p = (float)next_uniform();
            if (repeat & 8) sampling.min_p = (float)(next_uniform() * 0.5);
            check_shares(&sampling, logits, vocabs[v]);
        }
    }
}

// Among equal logits, lower ids are kept.
static void test_ties(void **state) {
    (void)state;
    const float logits[6] = {0, 1, 1, 1, 0, 1};
    struct sampling sampling = plain;
    sampling.top_k = 2; // ids 1 and 2, a half each
    assert_int_equal(sampling_draw(&sampling, logits, 6, 0.49f, &scratch), 1);
    assert_int_equal(sampling_draw(&sampling, logits, 6, 0.51f, &scratch), 2);
    assert_int_equal(sampling_draw(&sampling, logits, 6, 1.0f, &scratch), 2);
    sampling.top_k = 4;
    sampling.top_p = 0.6f; // of 1, 2, 3, 5 at a quarter each: 1, 2 and 3
    assert_int_equal(sampling_draw(&sampling, logits, 6, 1.0f, &scratch), 3);
}

// ---- the distribution
// --------------------------------------------------------------------------------------

// Chi-square of draws keyed as the engine keys them, against the softmax.
static double chi_square(const struct sampling *sampling, const float *logits, int vocab, int draws) {
    double p[MOST], statistic = 0;
    int count[MOST] = {0};
    reference(sampling, logits, vocab, p);
    for (int i = 0; i < draws; i++) {
        float u = sampling_uniform(42, (uint64_t)(i % 100), (uint64_t)(i / 100));
        count[sampling_draw(sampling, logits, vocab, u, &scratch)]++;
    }
    for (int i = 0; i < vocab; i++) {
        double expected = p[i] * draws;
        if (p[i] > 0)
            statistic += (count[i] - expected) * (count[i] - expected) / expected;
        else
            assert_int_equal(count[i], 0);
    }
    return statistic;
}

static void test_distribution(void **state) {
    (void)state;
    float logits[30];
    for (int i = 0; i < 30; i++) logits[i] = (float)(i % 7) * 0.4f;
    struct sampling sampling = plain;
    // The 99.9 % quantiles of chi-square with 29 and 9 degrees of freedom.
    assert_true(chi_square(&sampling, logits, 30, 100000) < 58.30);
    sampling.top_k = 10;
    sampling.temperature = 0.7f;
    assert_true(chi_square(&sampling, logits, 30, 100000) < 27.88);
}

// ---- edges
// -------------------------------------------------------------------------------------------------

static void test_argmax(void **state) {
    (void)state;
    float logits[MOST];
    for (int vocab = 1; vocab <= 200; vocab++) {
        for (int i = 0; i < vocab; i++) logits[i] = -3.0f;
        for (int at = vocab - 1; at >= 0; at -= 13) {
            logits[at] = 5.0f; // equal to the ones set before at higher ids
            assert_int_equal(sampling_argmax(logits, vocab), at);
        }
    }
    for (int i = 0; i < 100; i++) logits[i] = -INFINITY;
    assert_int_equal(sampling_argmax(logits, 100), 0);
    logits[70] = -1e30f;
    assert_int_equal(sampling_argmax(logits, 100), 70);
    logits[3] = NAN;
    assert_int_equal(sampling_argmax(logits, 100), 70);
}

static void test_greedy(void **state) {
    (void)state;
    struct sampling greedy = plain;
    greedy.temperature = 0;
    const float logits[4] = {1, 3, 3, 2};
    for (int i = 1; i <= 10; i++)
        assert_int_equal(sampling_draw(&greedy, logits, 4, (float)i / 10.0f, &scratch), 1);
}

static void test_equal_logits(void **state) {
    (void)state;
    static const float values[] = {0.0f, -1e30f, 1e30f, -INFINITY, INFINITY};
    float logits[10];
    for (size_t v = 0; v < sizeof values / sizeof values[0]; v++) {
        for (int i = 0; i < 10; i++) logits[i] = values[v];
        for (int i = 0; i < 10; i++)
            assert_int_equal(sampling_draw(&plain, logits, 10, (float)i / 10.0f + 0.05f, &scratch), i);
    }
}

static void test_one_dominates(void **state) {
    (void)state;
    float logits[10] = {0};
    logits[6] = 1e30f;
    struct sampling sampling = plain;
    for (int variant = 0; variant < 4; variant++) {
        sampling.top_p = variant & 1 ? 1e-6f : 1.0f;
        sampling.top_k = variant & 2 ? 3 : 0;
        for (int i = 1; i <= 10; i++)
            assert_int_equal(sampling_draw(&sampling, logits, 10, (float)i / 10.0f, &scratch), 6);
    }
}

static void test_infinities_and_nan(void **state) {
    (void)state;
    const float masked[4] = {-INFINITY, 0, -INFINITY, 0};
    assert_int_equal(sampling_draw(&plain, masked, 4, 0x1p-33f, &scratch), 1);
    assert_int_equal(sampling_draw(&plain, masked, 4, 1.0f, &scratch), 3);
    const float poisoned[4] = {NAN, 0, NAN, NAN};
    struct sampling sampling = plain;
    assert_int_equal(sampling_draw(&sampling, poisoned, 4, 1.0f, &scratch), 1);
    sampling.top_k = 2;
    sampling.top_p = 0.5f;
    int32_t found = sampling_draw(&sampling, poisoned, 4, 0.5f, &scratch);
    assert_true(found >= 0 && found < 4);
}

static void test_limits_that_drop_nothing(void **state) {
    (void)state;
    float logits[33];
    random_logits(logits, 33, false);
    struct sampling sampling = plain;
    sampling.top_k = 1000;
    for (int i = 1; i <= 100; i++) {
        float u = (float)i / 100.0f;
        int32_t expected = sampling_draw(&plain, logits, 33, u, &scratch);
        assert_int_equal(sampling_draw(&sampling, logits, 33, u, &scratch), expected);
    }
}

static void test_check(void **state) {
    (void)state;
    static const struct {
        struct sampling sampling;
        enum status expected;
    } cases[] = {
        {{.temperature = 0, .top_p = 1}, STATUS_OK},
        {{.temperature = 2, .top_k = 5, .top_p = 0.1f, .min_p = 1}, STATUS_OK},
        {{.temperature = -0.5f, .top_p = 1}, STATUS_USAGE},
        {{.temperature = NAN, .top_p = 1}, STATUS_USAGE},
        {{.temperature = INFINITY, .top_p = 1}, STATUS_USAGE},
        {{.temperature = 1, .top_k = -1, .top_p = 1}, STATUS_USAGE},
        {{.temperature = 1, .top_p = 0}, STATUS_USAGE},
        {{.temperature = 1, .top_p = 1.5f}, STATUS_USAGE},
        {{.temperature = 1, .top_p = NAN}, STATUS_USAGE},
        {{.temperature = 1, .top_p = 1, .min_p = -0.1f}, STATUS_USAGE},
        {{.temperature = 1, .top_p = 1, .min_p = 1.1f}, STATUS_USAGE},
        {{.temperature = 1, .top_p = 1, .min_p = NAN}, STATUS_USAGE},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct error error = {0};
        assert_int_equal(sampling_check(&cases[i].sampling, &error), cases[i].expected);
        assert_int_equal(error.message[0] != '\0', cases[i].expected != STATUS_OK);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_philox_vectors),
        cmocka_unit_test(test_uniform_is_a_philox_word),
        cmocka_unit_test(test_uniform_counts_as_curand),
        cmocka_unit_test(test_uniform_range),
        cmocka_unit_test(test_kept_sets),
        cmocka_unit_test(test_ties),
        cmocka_unit_test(test_distribution),
        cmocka_unit_test(test_argmax),
        cmocka_unit_test(test_greedy),
        cmocka_unit_test(test_equal_logits),
        cmocka_unit_test(test_one_dominates),
        cmocka_unit_test(test_infinities_and_nan),
        cmocka_unit_test(test_limits_that_drop_nothing),
        cmocka_unit_test(test_check),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
