// The measuring procedure on a made-up device whose clock only moves as told, so that every figure is exact.
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include "base/clock.h"
#include "measure/bench.h"
#include "measure/prompts.h"
#include "tests/support/assert_close.h"
#include "tests/support/fake_backend.h"

#include <stb/stb_ds.h>
#include <stdio.h>
#include <string.h>

static struct fake_backend fake;

// Takes the place of the program's clock.
double clock_seconds(void) {
    return fake.now;
}

struct fixture {
    struct bench_options options;
    struct bench_record record;
    struct error error;
};

static int set_up(void **state) {
    static struct fixture fixture;
    static const int one_batch[] = {2};
    memset(&fixture, 0, sizeof fixture);
    fake_backend_init(&fake);
    fixture.options = (struct bench_options){.batches = one_batch,
                                             .batch_count = 1,
                                             .kvcache = BENCH_KVCACHE_ON,
                                             .prompt_len = 5,
                                             .gen_len = 11,
                                             .warmup = 1,
                                             .seed = 42,
                                             .interrupt = &fake.interrupt};
    *state = &fixture;
    return 0;
}

static int tear_down(void **state) {
    struct fixture *fixture = *state;
    record_clear(&fixture->record);
    return fake.open_sessions; // every session was closed
}

static enum status run(struct fixture *fixture) {
    return bench_run(&fake.base, &fixture->options, &fixture->record, &fixture->error);
}

static void test_figures_follow_from_the_clock(void **state) {
    struct fixture *fixture = *state;
    assert_int_equal(run(fixture), STATUS_OK);
    assert_int_equal(arrlen(fixture->record.rows), 1);
    const struct bench_row *row = &fixture->record.rows[0];
    // 2 ms of prefill and 10 steps of 1 ms: 22 tokens in 12 ms
    assert_int_equal(row->status, ROW_OK);
    assert_int_equal(row->reps, 5);
    assert_int_equal(arrlen(row->samples), 5);
    assert_close(row->tok_s.median, 22 / 0.012, 1e-6);
    assert_close(row->tok_s_per_row, 11 / 0.012, 1e-6);
    assert_close(row->prefill_ms, 2, 1e-9);
    assert_close(row->ms_per_step, 1, 1e-9);
    assert_close(row->decode_tok_s, 2000, 1e-6);
    assert_int_equal(strlen(row->token_hash), 16);
    assert_int_equal(row->memory.activations, 20);
    // A warm-up, 5 repetitions and two runs for the times of steps.
    assert_int_equal(fake.prefills, 8);
    // A quick decode is one call, once its pace is known: the warm-up's first step, its rest, 7 runs.
    assert_int_equal(fake.decodes, 9);
    // The device says 1 .. 10 ms for its 10 steps.
    assert_int_equal(row->step.count, 10);
    assert_close(row->step.mean, 5.5, 1e-6);
    assert_close(row->step.p50, 5.5, 1e-6);
    assert_close(row->step.p95, 9.55, 1e-6);
    assert_close(row->step.p99, 9.91, 1e-6);
}

static void test_token_hash_is_fnv1a_of_rows(void **state) {
    struct fixture *fixture = *state;
    static const int one_row[] = {1};
    fixture->options.batches = one_row;
    fixture->options.gen_len = 1;
    assert_int_equal(run(fixture), STATUS_OK);
    const struct bench_row *row = &fixture->record.rows[0];
    assert_close(row->ms_per_step, 0, 0);
    assert_close(row->tok_s.median, 1 / 0.002, 1e-6);
    // One token below 97 as four little-endian bytes: FNV-1a 64 by its definition.
    bool found = false;
    for (int token = 0; token < 97 && !found; token++) {
        uint64_t hash = UINT64_C(14695981039346656037);
        const int bytes[4] = {token, 0, 0, 0};
        for (int i = 0; i < 4; i++) hash = (hash ^ (uint64_t)bytes[i]) * UINT64_C(1099511628211);
        char text[32];
        snprintf(text, sizeof text, "%016llx", (unsigned long long)hash);
        found = strcmp(text, row->token_hash) == 0;
    }
    assert_true(found);
}

static void test_arms_take_turns_in_an_order_of_the_seed(void **state) {
    struct fixture *fixture = *state;
    fixture->options.kvcache = BENCH_KVCACHE_BOTH;
    fixture->options.warmup = 0;
    fixture->options.reps = 40;
    assert_int_equal(run(fixture), STATUS_OK);
    assert_int_equal(fake.prefills, 80 + 4); // and two runs of each arm for the times of steps
    int cached_first = 0;
    for (int round = 0; round < 40; round++) {
        char first = fake.order[2 * round], second = fake.order[2 * round + 1];
        assert_int_not_equal(first, second);
        cached_first += first == 'c';
        if (round % 2 == 1) assert_int_not_equal(first, fake.order[2 * round - 2]); // every pair is balanced
    }
    assert_int_equal(cached_first, 20);
    char order[sizeof fake.order];
    memcpy(order, fake.order, sizeof order);
    for (int again = 0; again < 2; again++) { // the same with the same seed, another with another
        record_clear(&fixture->record);
        fake_backend_init(&fake);
        fixture->options.seed += (uint64_t)again;
        assert_int_equal(run(fixture), STATUS_OK);
        assert_int_equal(memcmp(order, fake.order, 80) == 0, again == 0);
    }
}

static void test_both_arms_agree_and_have_a_speedup(void **state) {
    struct fixture *fixture = *state;
    fixture->options.kvcache = BENCH_KVCACHE_BOTH;
    assert_int_equal(run(fixture), STATUS_OK);
    const struct bench_row *cached = &fixture->record.rows[0], *uncached = &fixture->record.rows[1];
    assert_true(cached->kv_cache);
    assert_false(uncached->kv_cache);
    assert_string_equal(cached->token_hash, uncached->token_hash);
    assert_int_equal(cached->agreement.verdict, AGREEMENT_SAME);
    // Uncached steps at lengths 6 .. 15: 105 tokens of 0.1 ms, and the prefill.
    assert_close(uncached->tok_s.median, 22 / 0.0125, 1e-6);
    assert_close(cached->speedup, 0.0125 / 0.012, 1e-9);
    assert_close(uncached->speedup, 0, 0);
}

static void test_a_near_tie_is_noted(void **state) {
    struct fixture *fixture = *state;
    fixture->options.kvcache = BENCH_KVCACHE_BOTH;
    fake.uncached_parts_row = 1;
    fake.uncached_parts_position = 8; // prompt 5: generated token 3
    fake.logit_gap = 1e-6f;           // 8 sqrt(8) 2^-24 (4 - 8 / 97) = 5.3e-6
    assert_int_equal(run(fixture), STATUS_OK);
    const struct arm_agreement *agreement = &fixture->record.rows[0].agreement;
    assert_int_equal(agreement->verdict, AGREEMENT_NEAR_TIE);
    assert_int_equal(agreement->differing_rows, 1);
    assert_int_equal(agreement->row, 1);
    assert_int_equal(agreement->position, 3);
    assert_close(agreement->logit_gap, 1e-6, 2e-7);
    assert_close(agreement->rounding_allows, 8 * 2.8284271247461903 * 0x1p-24 * (4 - 8 / 97.0), 1e-9);
    assert_true(strcmp(fixture->record.rows[0].token_hash, fixture->record.rows[1].token_hash) != 0);
}

static void test_a_wide_gap_is_a_mismatch(void **state) {
    struct fixture *fixture = *state;
    fixture->options.kvcache = BENCH_KVCACHE_BOTH;
    fake.uncached_parts_row = 0;
    fake.uncached_parts_position = 5;
    fake.logit_gap = 0.25f;
    assert_int_equal(run(fixture), STATUS_MISMATCH);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(fixture->record.rows[i].status, ROW_MISMATCH);
        assert_int_equal(fixture->record.rows[i].agreement.verdict, AGREEMENT_DIFFERENT);
        assert_true(fixture->record.rows[i].tok_s.count == 5); // the figures are kept
    }
    assert_non_null(strstr(fixture->error.message, "row 0, token 0"));
}

static void test_repetitions_that_differ_are_a_mismatch(void **state) {
    struct fixture *fixture = *state;
    fake.drifting_prefill = 4; // warm-up, then repetitions 1, 2, 3
    assert_int_equal(run(fixture), STATUS_MISMATCH);
    assert_int_equal(fixture->record.rows[0].status, ROW_MISMATCH);
    assert_non_null(strstr(fixture->error.message, "repetition 3"));
}

static void test_a_batch_that_does_not_fit_is_a_row(void **state) {
    struct fixture *fixture = *state;
    static const int batches[] = {1, 9, 3};
    fixture->options.batches = batches;
    fixture->options.batch_count = 3;
    assert_int_equal(run(fixture), STATUS_OK);
    assert_int_equal(fixture->record.rows[0].status, ROW_OK);
    assert_int_equal(fixture->record.rows[1].status, ROW_OUT_OF_MEMORY);
    assert_non_null(strstr(fixture->record.rows[1].reason, "9 rows do not fit"));
    assert_int_equal(fixture->record.rows[1].memory.activations, 90);
    assert_int_equal(fixture->record.rows[2].status, ROW_OK);
}

static void test_nothing_that_fits_is_out_of_memory(void **state) {
    struct fixture *fixture = *state;
    static const int batches[] = {1000000000};
    fixture->options.batches = batches;
    fixture->options.kvcache = BENCH_KVCACHE_BOTH;
    assert_int_equal(run(fixture), STATUS_OUT_OF_MEMORY);
    assert_int_equal(fixture->record.rows[1].status, ROW_OUT_OF_MEMORY);
    assert_non_null(strstr(fixture->error.message, "batch 1000000000, kvcache on"));
}

static void test_arms_that_do_not_fit_together_take_turns(void **state) {
    struct fixture *fixture = *state;
    static const int batches[] = {5}; // 50 of 80 bytes
    fixture->options.batches = batches;
    fixture->options.kvcache = BENCH_KVCACHE_BOTH;
    fixture->options.reps = 3;
    assert_int_equal(run(fixture), STATUS_OK);
    assert_int_equal(fixture->record.rows[0].reps, 3);
    assert_int_equal(fixture->record.rows[1].reps, 3);
    assert_int_equal(fake.prefills, 12 + 4); // each repetition has its own warm-up
    assert_int_equal(fixture->record.rows[0].agreement.verdict, AGREEMENT_SAME);
}

static void test_a_failure_does_not_stop_the_next_batch(void **state) {
    struct fixture *fixture = *state;
    static const int batches[] = {1, 2};
    fixture->options.batches = batches;
    fixture->options.batch_count = 2;
    fake.failing_prefill = 3;
    assert_int_equal(run(fixture), STATUS_FAILED);
    assert_int_equal(fixture->record.rows[0].status, ROW_FAILED);
    assert_string_equal(fixture->record.rows[0].reason, "the device fell over");
    assert_int_equal(fixture->record.rows[0].reps, 1);
    assert_int_equal(fixture->record.rows[1].status, ROW_OK);
}

static void test_a_long_run_is_measured_once(void **state) {
    struct fixture *fixture = *state;
    fake.step_seconds = 2; // 10 steps: 20 s
    assert_int_equal(run(fixture), STATUS_OK);
    const struct bench_row *row = &fixture->record.rows[0];
    assert_int_equal(row->reps, 1);
    assert_string_equal(row->note, "1 repetition, as one takes 20 s");
    assert_close(row->ms_per_step, 2000, 1e-6);
    assert_int_equal(fake.prefills, 2);
    assert_int_equal(fake.decodes, 3 + 10); // a warm-up of three steps, then one call per step
}

static void test_the_number_asked_for_is_run_however_long(void **state) {
    struct fixture *fixture = *state;
    fake.step_seconds = 2;
    fixture->options.reps = 2;
    assert_int_equal(run(fixture), STATUS_OK);
    assert_int_equal(fixture->record.rows[0].reps, 2);
    assert_string_equal(fixture->record.rows[0].note, "");
}

static void test_max_time_bounds_the_repetitions(void **state) {
    struct fixture *fixture = *state;
    fake.step_seconds = 0.5; // 5 s a run
    fixture->options.max_seconds = 12;
    fixture->options.reps = 5;
    assert_int_equal(run(fixture), STATUS_OK);
    assert_int_equal(fixture->record.rows[0].status, ROW_OK);
    assert_int_equal(fixture->record.rows[0].reps, 3);
    assert_string_equal(fixture->record.rows[0].note, "3 of 5 repetitions in 12 s");
    assert_close(fixture->record.workload.max_seconds, 12, 0);
}

static void test_interruption_keeps_what_was_done(void **state) {
    struct fixture *fixture = *state;
    static const int batches[] = {1, 2, 3};
    fixture->options.batches = batches;
    fixture->options.batch_count = 3;
    fixture->options.gen_len = 101;
    fake.step_seconds = 0.05;                   // 5 s a run: 6 runs, and 2 for the times of steps
    fake.stop_at = fake.now + 30 + 10 + 10 + 7; // in the second batch's third repetition
    assert_int_equal(run(fixture), STATUS_INTERRUPTED);
    assert_int_equal(fixture->record.rows[0].status, ROW_OK);
    assert_int_equal(fixture->record.rows[1].status, ROW_PARTIAL);
    assert_string_equal(fixture->record.rows[1].reason, "interrupted after 2 of 5 repetitions");
    assert_int_equal(fixture->record.rows[1].reps, 2);
    assert_int_equal(fixture->record.rows[2].status, ROW_SKIPPED);
}

static void test_interruption_of_the_first_run_tells_of_its_part(void **state) {
    struct fixture *fixture = *state;
    for (int inside = 0; inside < 2; inside++) {
        fake_backend_init(&fake);
        record_clear(&fixture->record);
        fixture->options.warmup = 0;
        fake.step_seconds = 1;
        fake.stop_inside_calls = inside;
        fake.stop_at = fake.now + fake.prefill_seconds + 3.5; // during the fourth step
        assert_int_equal(run(fixture), STATUS_INTERRUPTED);
        const struct bench_row *row = &fixture->record.rows[0];
        int done = inside ? 4 : 5; // a step that is cut off does not count
        assert_int_equal(row->status, ROW_PARTIAL);
        assert_int_equal(row->reps, 0);
        assert_close(row->tok_s.median, 2 * done / (fake.prefill_seconds + done - 1), 1e-6);
        assert_close(row->ms_per_step, 1000, 1e-6);
        assert_string_equal(row->token_hash, "");
        assert_non_null(strstr(row->reason, inside ? "the first 4 of 11 tokens of the first repetition"
                                                   : "the first 5 of 11 tokens of the first repetition"));
    }
}

static void test_a_stop_flag_set_before_skips_all(void **state) {
    struct fixture *fixture = *state;
    fixture->options.kvcache = BENCH_KVCACHE_BOTH;
    fake.interrupt = 1;
    assert_int_equal(run(fixture), STATUS_INTERRUPTED);
    assert_int_equal(fixture->record.rows[0].status, ROW_SKIPPED);
    assert_int_equal(fixture->record.rows[1].status, ROW_SKIPPED);
    assert_int_equal(fake.prefills, 0);
}

static void test_prompts_differ_by_row_and_stay_with_the_seed(void **state) {
    struct fixture *fixture = *state;
    enum { rows = 40, length = 25, vocab = 97 };
    struct prompt_batch many, few, other;
    assert_int_equal(prompts_draw(rows, length, vocab, 42, &many, &fixture->error), STATUS_OK);
    assert_int_equal(prompts_draw(3, length, vocab, 42, &few, &fixture->error), STATUS_OK);
    assert_int_equal(prompts_draw(3, length, vocab, 43, &other, &fixture->error), STATUS_OK);
    int seen[vocab] = {0};
    for (int i = 0; i < rows * length; i++) {
        assert_true(many.tokens[i] >= 0 && many.tokens[i] < vocab);
        seen[many.tokens[i]]++;
    }
    for (int v = 0; v < vocab; v++) assert_true(seen[v] > 0); // 1000 draws leave none of 97 out
    for (int a = 0; a < rows; a++)
        for (int b = 0; b < a; b++)
            assert_memory_not_equal(many.tokens + a * length, many.tokens + b * length,
                                    length * sizeof *many.tokens);
    assert_memory_equal(many.tokens, few.tokens, 3 * length * sizeof *few.tokens);
    assert_memory_not_equal(few.tokens, other.tokens, 3 * length * sizeof *few.tokens);
    prompts_free(&many);
    prompts_free(&few);
    prompts_free(&other);
}

static void test_unusable_options_are_refused(void **state) {
    struct fixture *fixture = *state;
    static const int zero[] = {0};
    struct bench_options usual = fixture->options;
    fixture->options.gen_len = 1020;
    assert_int_equal(run(fixture), STATUS_USAGE);
    assert_non_null(strstr(fixture->error.message, "1025 tokens"));
    assert_non_null(strstr(fixture->error.message, "1024"));
    fixture->options = usual;
    fixture->options.batches = zero;
    assert_int_equal(run(fixture), STATUS_USAGE);
    fixture->options = usual;
    fixture->options.prompt_len = INT32_MAX;
    fixture->options.gen_len = INT32_MAX;
    assert_int_equal(run(fixture), STATUS_USAGE);
    fixture->options = usual;
    fixture->options.prompt_len = 0;
    assert_int_equal(run(fixture), STATUS_USAGE);
    assert_int_equal(arrlen(fixture->record.rows), 0);
}

struct seen {
    int calls;
    double last_eta;
    bool eta_fell;
    int phases[BENCH_COMPARING + 1];
};

static void watch(void *context, const struct bench_progress *progress) {
    struct seen *seen = context;
    seen->calls++;
    seen->phases[progress->phase]++;
    if (progress->phase == BENCH_MEASURING && progress->step > 0) {
        if (seen->last_eta > 0 && progress->eta_seconds < seen->last_eta) seen->eta_fell = true;
        seen->last_eta = progress->eta_seconds;
    }
}

static void test_progress_tells_the_time_left(void **state) {
    struct fixture *fixture = *state;
    struct seen seen = {0};
    fixture->options.progress = watch;
    fixture->options.progress_context = &seen;
    fixture->options.kvcache = BENCH_KVCACHE_BOTH;
    fixture->options.reps = 1;
    fake.step_seconds = 2;
    fake.uncached_step_growth = 0.2;
    assert_int_equal(run(fixture), STATUS_OK);
    for (int phase = 0; phase <= BENCH_COMPARING; phase++) // runs of 20 s are not run again for their steps
        assert_int_equal(seen.phases[phase] > 0, phase != BENCH_TIMING_STEPS);
    assert_true(seen.eta_fell);
    // The last call came before the last step of whichever arm was last.
    assert_true(seen.last_eta > 1.9 && seen.last_eta < 3.1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_figures_follow_from_the_clock, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_token_hash_is_fnv1a_of_rows, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_arms_take_turns_in_an_order_of_the_seed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_both_arms_agree_and_have_a_speedup, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_near_tie_is_noted, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_wide_gap_is_a_mismatch, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_repetitions_that_differ_are_a_mismatch, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_batch_that_does_not_fit_is_a_row, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_nothing_that_fits_is_out_of_memory, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_arms_that_do_not_fit_together_take_turns, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_failure_does_not_stop_the_next_batch, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_long_run_is_measured_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_the_number_asked_for_is_run_however_long, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_max_time_bounds_the_repetitions, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_interruption_keeps_what_was_done, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_interruption_of_the_first_run_tells_of_its_part, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_a_stop_flag_set_before_skips_all, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_prompts_differ_by_row_and_stay_with_the_seed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_unusable_options_are_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_progress_tells_the_time_left, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
