// Verdicts on made-up records, what may be compared with what, and the report in every format.
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include "measure/compare.h"
#include "measure/compare_report.h"
#include "tests/support/assert_close.h"
#include "tests/support/written_text.h"

#include <jansson.h>
#include <stb/stb_ds.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct fixture {
    struct bench_record before, after;
    struct comparison comparison;
    struct error error;
};

static int set_up(void **state) {
    static struct fixture fixture;
    memset(&fixture, 0, sizeof fixture);
    fixture.before.device = (struct device_info){
        .backend = "cuda", .name = "A device", .compute_units = 132, .memory_bytes = INT64_C(150000000000)};
    fixture.before.model = (struct record_model){
        .name = "gpt2",
        .config = {
            .context = 1024, .vocab = 50257, .layers = 12, .heads = 12, .channels = 768, .inner = 3072}};
    fixture.before.workload = (struct record_workload){.prompt_len = 50, .gen_len = 200, .dtype = DTYPE_BF16};
    fixture.after = fixture.before;
    fixture.comparison = (struct comparison){.before = &fixture.before,
                                             .after = &fixture.after,
                                             .before_name = "old.json",
                                             .after_name = "new.json",
                                             .threshold = 0.02};
    *state = &fixture;
    return 0;
}

static int tear_down(void **state) {
    struct fixture *fixture = *state;
    compare_clear(&fixture->comparison);
    record_clear(&fixture->before);
    record_clear(&fixture->after);
    return 0;
}

// Five repetitions about `mean` with sd `spread` x mean; none for mean 0.
static struct bench_row *add_row(struct bench_record *record, int batch, bool kv_cache, double mean,
                                 double spread) {
    // -1.5, -0.5, 0, 0.5, 1.5 have a sum of squares of 5, so sd sqrt(5 / 4)
    static const double steps[] = {-1.5, 0.5, 0, -0.5, 1.5};
    struct bench_row row;
    memset(&row, 0, sizeof row);
    row.batch = batch;
    row.kv_cache = kv_cache;
    row.status = ROW_OK;
    for (int i = 0; mean > 0 && i < 5; i++) arrput(row.samples, mean * (1 + steps[i] / sqrt(1.25) * spread));
    row.reps = (int)arrlen(row.samples);
    row.tok_s = stats_summarize(row.samples, row.reps);
    arrput(record->rows, row);
    return &arrlast(record->rows);
}

static void compare(struct fixture *fixture) {
    if (compare_records(&fixture->comparison, &fixture->error) != STATUS_OK)
        fail_msg("%s", fixture->error.message);
}

static void test_verdicts(void **state) {
    struct fixture *fixture = *state;
    // With 5 repetitions a side and equal spreads the half width is 2.306 sqrt(2 / 5) = 1.458 spreads.
    static const struct {
        double ratio, spread;
        enum verdict verdict;
    } cases[] = {
        {1.000, 0.001, VERDICT_SAME},        // +- 0.15 % about 1
        {1.015, 0.001, VERDICT_SAME},        // told from 1, and too little to matter
        {0.985, 0.001, VERDICT_SAME},        //
        {1.100, 0.010, VERDICT_FASTER},      // 1.084 .. 1.116
        {0.900, 0.010, VERDICT_SLOWER},      //
        {1.030, 0.010, VERDICT_FASTER},      // 1.015 .. 1.045
        {0.970, 0.010, VERDICT_SLOWER},      //
        {1.000, 0.020, VERDICT_CANNOT_TELL}, // 0.971 .. 1.030: might be either
        {1.015, 0.005, VERDICT_CANNOT_TELL}, // 1.0076 .. 1.0224: faster, but by enough?
        {1.200, 0.200, VERDICT_CANNOT_TELL}, // 0.90 .. 1.61
        {0.900, 0.100, VERDICT_CANNOT_TELL}, // 0.78 .. 1.04
    };
    enum { CASES = sizeof cases / sizeof cases[0] };
    for (int i = 0; i < CASES; i++) {
        add_row(&fixture->before, i + 1, true, 1000, cases[i].spread);
        add_row(&fixture->after, i + 1, true, 1000 * cases[i].ratio, cases[i].spread);
    }
    compare(fixture);
    assert_int_equal(arrlen(fixture->comparison.rows), CASES);
    for (int i = 0; i < CASES; i++) {
        const struct comparison_row *row = &fixture->comparison.rows[i];
        assert_close(row->ratio.value, cases[i].ratio, 1e-9);
        if (row->verdict != cases[i].verdict)
            fail_msg("ratio %g, spread %g: %s", cases[i].ratio, cases[i].spread, verdict_name(row->verdict));
    }
    assert_int_equal(fixture->comparison.counts[VERDICT_SAME], 3);
    assert_int_equal(fixture->comparison.counts[VERDICT_FASTER], 2);
    assert_int_equal(fixture->comparison.counts[VERDICT_SLOWER], 2);
    assert_int_equal(fixture->comparison.counts[VERDICT_CANNOT_TELL], 4);
    assert_true(fixture->comparison.same_device);
}

static void test_the_threshold_decides_what_matters(void **state) {
    struct fixture *fixture = *state;
    add_row(&fixture->before, 1, true, 1000, 0.001);
    add_row(&fixture->after, 1, true, 950, 0.001);
    fixture->comparison.threshold = 0.1;
    compare(fixture);
    assert_int_equal(fixture->comparison.rows[0].verdict, VERDICT_SAME);
    compare_clear(&fixture->comparison);
    fixture->comparison.threshold = 0;
    compare(fixture);
    assert_int_equal(fixture->comparison.rows[0].verdict, VERDICT_SLOWER);
}

static void test_one_repetition_tells_nothing(void **state) {
    struct fixture *fixture = *state;
    add_row(&fixture->before, 1, true, 1000, 0.001);
    struct bench_row *after = add_row(&fixture->after, 1, true, 500, 0);
    arrsetlen(after->samples, 1);
    after->reps = 1;
    after->tok_s = stats_summarize(after->samples, 1);
    compare(fixture);
    assert_int_equal(fixture->comparison.rows[0].verdict, VERDICT_CANNOT_TELL);
    assert_close(fixture->comparison.rows[0].ratio.value, 0.5, 1e-12);
    assert_non_null(strstr(fixture->comparison.rows[0].note, "new: one repetition"));
}

static void test_rows_that_do_not_run(void **state) {
    struct fixture *fixture = *state;
    static const struct {
        enum row_status before, after;
        enum verdict verdict;
    } cases[] = {
        {ROW_OK, ROW_OUT_OF_MEMORY, VERDICT_SLOWER},
        {ROW_OK, ROW_MISMATCH, VERDICT_SLOWER},
        {ROW_OK, ROW_FAILED, VERDICT_SLOWER},
        {ROW_FAILED, ROW_OK, VERDICT_FASTER},
        {ROW_OUT_OF_MEMORY, ROW_OUT_OF_MEMORY, VERDICT_CANNOT_TELL},
        {ROW_OK, ROW_SKIPPED, VERDICT_CANNOT_TELL},
        {ROW_SKIPPED, ROW_OK, VERDICT_CANNOT_TELL},
        {ROW_OK, ROW_PARTIAL, VERDICT_CANNOT_TELL}, // interrupted in its first repetition
    };
    enum { CASES = sizeof cases / sizeof cases[0] };
    for (int i = 0; i < CASES; i++) {
        add_row(&fixture->before, i + 1, true, cases[i].before == ROW_OK ? 1000 : 0, 0.001)->status =
            cases[i].before;
        struct bench_row *after =
            add_row(&fixture->after, i + 1, true, cases[i].after == ROW_OK ? 1000 : 0, 0.001);
        after->status = cases[i].after;
        strcpy(after->reason, "the reason\n  and more of it");
    }
    compare(fixture);
    for (int i = 0; i < CASES; i++) {
        const struct comparison_row *row = &fixture->comparison.rows[i];
        if (row->verdict != cases[i].verdict)
            fail_msg("%s, then %s: %s", row_status_name(cases[i].before), row_status_name(cases[i].after),
                     verdict_name(row->verdict));
        assert_null(strchr(row->note, '\n'));
        if (cases[i].after != ROW_OK) assert_non_null(strstr(row->note, "the reason"));
    }
}

static void test_rows_find_their_partners(void **state) {
    struct fixture *fixture = *state;
    add_row(&fixture->before, 4, true, 1000, 0.001);
    add_row(&fixture->before, 4, false, 100, 0.001);
    add_row(&fixture->before, 4, true, 2000, 0.001); // measured twice
    add_row(&fixture->before, 8, true, 1, 0.001);
    add_row(&fixture->after, 16, true, 1, 0.001);
    add_row(&fixture->after, 4, false, 100, 0.001);
    add_row(&fixture->after, 4, true, 1000, 0.001);
    add_row(&fixture->after, 4, true, 2000, 0.001);
    compare(fixture);
    const struct comparison_row *rows = fixture->comparison.rows;
    assert_int_equal(arrlen(rows), 5);
    for (int i = 0; i < 3; i++) assert_int_equal(rows[i].verdict, VERDICT_SAME);
    assert_null(rows[3].after);
    assert_int_equal(rows[3].verdict, VERDICT_CANNOT_TELL);
    assert_non_null(strstr(rows[3].note, "only in the old"));
    assert_null(rows[4].before);
    assert_int_equal(rows[4].batch, 16);
    assert_non_null(strstr(rows[4].note, "only in the new"));
}

static void test_unlike_work_is_refused_by_name(void **state) {
    struct fixture *fixture = *state;
    fixture->after.model.config.layers = 24;
    fixture->after.model.config.channels = 1024;
    fixture->after.workload.dtype = DTYPE_F32;
    fixture->after.workload.gen_len = 100;
    fixture->after.workload.logits = LOGITS_ALL;
    fixture->after.workload.deterministic = true;
    assert_int_equal(compare_records(&fixture->comparison, &fixture->error), STATUS_USAGE);
    static const char *const named[] = {"old.json",
                                        "new.json",
                                        "layers: old 12, new 24",
                                        "channels: old 768, new 1024",
                                        "dtype: old bf16, new f32",
                                        "new tokens per row: old 200, new 100",
                                        "logits: old last, new all",
                                        "products chosen by rule: old no, new yes"};
    for (size_t i = 0; i < sizeof named / sizeof named[0]; i++) {
        if (!strstr(fixture->error.message, named[i]))
            fail_msg("\"%s\" is not in: %s", named[i], fixture->error.message);
    }
    assert_null(strstr(fixture->error.message, "heads"));
    assert_null(fixture->comparison.rows);
}

static void test_how_it_was_measured_may_differ(void **state) {
    struct fixture *fixture = *state;
    strcpy(fixture->after.model.name, "/elsewhere/gpt2");
    fixture->after.workload.seed = 7;
    fixture->after.workload.reps = 20;
    strcpy(fixture->after.device.name, "Another device");
    compare(fixture);
    assert_false(fixture->comparison.same_device);
}

// The report as text, to be freed.
static char *report(const struct comparison *comparison, enum report_format format) {
    FILE *file = written_text_open();
    struct error error;
    assert_int_equal(compare_write(comparison, format, file, &error), STATUS_OK);
    return written_text_close(file);
}

static void test_reports(void **state) {
    struct fixture *fixture = *state;
    add_row(&fixture->before, 93, true, 1000, 0.001);
    add_row(&fixture->after, 93, true, 900, 0.001)->sensors.throttled = true;
    add_row(&fixture->after, 128, false, 50, 0.001);
    strcpy(fixture->after.device.name, "Another, \"quoted\" device");
    compare(fixture);

    char *text = report(&fixture->comparison, REPORT_JSON);
    json_t *json = json_loads(text, JSON_REJECT_DUPLICATES, NULL), *rows, *missing;
    const char *schema, *verdict, *note, *file;
    double ratio, low, high, old_mean;
    int slower, same_device;
    assert_int_equal(json_unpack(json, "{s:s, s:{s:s}, s:b, s:{s:i}, s:o}", "schema", &schema, "old", "file",
                                 &file, "same_device", &same_device, "verdicts", "slower", &slower, "rows",
                                 &rows),
                     0);
    assert_string_equal(schema, "gpt2infer.compare/1");
    assert_string_equal(file, "old.json");
    assert_int_equal(slower, 1);
    assert_false(same_device);
    assert_int_equal(json_array_size(rows), 2);
    assert_int_equal(json_unpack(json_array_get(rows, 0), "{s:F, s:F, s:F, s:F, s:s, s:s}", "old_tok_s_mean",
                                 &old_mean, "ratio", &ratio, "ratio_ci95_low", &low, "ratio_ci95_high", &high,
                                 "verdict", &verdict, "note", &note),
                     0);
    assert_close(old_mean, 1000, 1e-6);
    assert_close(ratio, 0.9, 1e-9);
    assert_true(low < 0.9 && 0.9 < high && high < 0.91 && low > 0.89);
    assert_string_equal(verdict, "slower");
    assert_non_null(strstr(note, "new: the device was throttled"));
    assert_int_equal(json_unpack(json_array_get(rows, 1), "{s:o}", "ratio", &missing), 0);
    assert_true(json_is_null(missing));
    json_decref(json);
    free(text);

    text = report(&fixture->comparison, REPORT_TABLE);
    assert_non_null(strstr(text, "THE DEVICES DIFFER"));
    assert_non_null(strstr(text, "0.900"));
    assert_non_null(strstr(text, "slower"));
    assert_non_null(strstr(text, "[2] only in the new record"));
    free(text);

    text = report(&fixture->comparison, REPORT_CSV);
    assert_non_null(strstr(text, "new_device,"));
    assert_non_null(strstr(text, "\"Another, \"\"quoted\"\" device\""));
    assert_non_null(strstr(text, ",slower,"));
    free(text);

    text = report(&fixture->comparison, REPORT_JSONL);
    int lines = 0;
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"), lines++) {
        json = json_loads(line, 0, NULL);
        assert_non_null(json_object_get(json, "verdict"));
        json_decref(json);
    }
    assert_int_equal(lines, 2);
    free(text);

    text = report(&fixture->comparison, REPORT_MARKDOWN);
    assert_non_null(strstr(text, "| batch | cache | old tok/s |"));
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_verdicts, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_the_threshold_decides_what_matters, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_one_repetition_tells_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_rows_that_do_not_run, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_rows_find_their_partners, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_unlike_work_is_refused_by_name, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_how_it_was_measured_may_differ, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_reports, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
