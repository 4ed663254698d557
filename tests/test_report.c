// The same record in every format.
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include "measure/metrics.h"
#include "measure/report.h"
#include "tests/support/assert_close.h"
#include "tests/support/record_fixture.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

static int occurrences(const char *text, const char *what) {
    int count = 0;
    for (; (text = strstr(text, what)); text += strlen(what)) count++;
    return count;
}

static void test_json_has_the_documented_fields(void **state) {
    char *text = record_fixture_report(*state, REPORT_JSON);
    json_t *json = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(json);
    const char *schema, *kvcache, *status, *hash;
    int batch, reps;
    double median, mean, sd, prefill_ms, ms_per_step, bandwidth_share;
    json_t *samples, *rows;
    assert_int_equal(json_unpack(json, "{s:s, s:{}, s:{}, s:{}, s:{}, s:o}", "schema", &schema, "engine",
                                 "device", "model", "workload", "rows", &rows),
                     0);
    assert_string_equal(schema, "gpt2infer.bench/1");
    assert_int_equal(json_array_size(rows), 3);
    assert_int_equal(json_unpack(json_array_get(rows, 0),
                                 "{s:i, s:s, s:s, s:i, s:{s:F, s:F, s:F, s:o}, s:F, s:F, s:s, s:{s:F}}",
                                 "batch", &batch, "kvcache", &kvcache, "status", &status, "reps", &reps,
                                 "tok_s", "median", &median, "mean", &mean, "sd", &sd, "samples", &samples,
                                 "prefill_ms", &prefill_ms, "ms_per_step", &ms_per_step, "token_hash", &hash,
                                 "roofline", "bandwidth_share", &bandwidth_share),
                     0);
    assert_int_equal(batch, 93);
    assert_string_equal(kvcache, "on");
    assert_string_equal(status, "ok");
    assert_close(median, 120000, 1e-6);
    assert_close(mean, 120000, 1e-6);
    assert_close(sd, 1200, 1e-6);
    assert_int_equal(json_array_size(samples), 3);
    // Weights 247,306,752 bytes; embeddings 93 x 2 x 768 x 2; logits 93 x 50257 x 8; cache 93 x 36864 x 150.5
    // keys on average (51 .. 249 is 150); over 0.775 ms and 4 TB/s.
    double bytes = 247306752.0 + 93.0 * 3072 + 93.0 * 50257 * 8 + 93.0 * 36864 * 150;
    assert_close(bandwidth_share, bytes / 0.000775 / 4e12, 1e-6);
    json_decref(json);
    free(text);
}

static void test_json_tells_cost_and_sensors(void **state) {
    char *text = record_fixture_report(*state, REPORT_JSON);
    json_t *json = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(json);
    json_t *rows = json_object_get(json, "rows"), *temperature;
    // 120000 tok/s at 4.32 USD an hour: 1e6 tokens in 25/3 s at 0.0012 USD a second. 864000 requests of 200
    // tokens: 1440 s of the device. 10 requests a second, in the device for 93 x 200 / 120000 s.
    double usd_per_million, hours, usd, in_flight, power;
    int others, throttled;
    assert_int_equal(json_unpack(json_array_get(rows, 0), "{s:{s:F, s:F, s:F, s:F}}", "cost",
                                 "usd_per_million_tokens", &usd_per_million, "device_hours_per_day", &hours,
                                 "usd_per_day", &usd, "concurrent_requests", &in_flight),
                     0);
    assert_close(usd_per_million, 0.01, 1e-9);
    assert_close(hours, 0.4, 1e-9);
    assert_close(usd, 1.728, 1e-9);
    assert_close(in_flight, 1.55, 1e-9);
    assert_true(json_is_null(
        json_object_get(json_object_get(json_array_get(rows, 2), "cost"), "device_hours_per_day")));
    assert_int_equal(json_unpack(json_array_get(rows, 1), "{s:{s:F, s:o, s:i, s:b}}", "sensors", "power_w",
                                 &power, "temperature_c", &temperature, "other_processes", &others,
                                 "throttled", &throttled),
                     0);
    assert_close(power, 412.5, 1e-9);
    assert_true(json_is_null(temperature));
    assert_int_equal(others, 2);
    assert_true(throttled);
    json_decref(json);
    free(text);
}

static void test_json_tells_the_machine(void **state) {
    char *text = record_fixture_report(*state, REPORT_JSON);
    json_t *json = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(json);
    static const struct {
        const char *name;
        double value;
    } expected[] = {{"read_bytes_per_s", 3.9e12},
                    {"matmul_flop_per_s", 6e14},
                    {"cached_step_s", 3e-4},
                    {"uncached_step_s", 6e-4},
                    {"prefill_s", 5e-4},
                    {"persistent_step_s", 5e-5},
                    {"persistent_last_step_s", 8e-5},
                    {"persistent_rows", 4},
                    {"fused_step_s", 1e-4},
                    {"fused_last_step_s", 2e-4},
                    {"fused_rows", 16},
                    {"host_s", 0},
                    {"cache_bytes", 5e7}};
    const json_t *machine = json_object_get(json, "machine");
    assert_int_equal(json_object_size(machine), sizeof expected / sizeof expected[0]);
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++) {
        const json_t *field = json_object_get(machine, expected[i].name);
        assert_true(json_is_number(field));
        assert_close(json_number_value(field), expected[i].value, expected[i].value * 1e-12);
    }
    json_decref(json);
    free(text);
}

static void test_every_jsonl_line_stands_alone(void **state) {
    char *text = record_fixture_report(*state, REPORT_JSONL);
    int lines = 0;
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"), lines++) {
        json_t *json = json_loads(line, 0, NULL);
        assert_non_null(json);
        assert_non_null(json_object_get(json, "model"));
        assert_true(json_integer_value(json_object_get(json, "batch")) > 0);
        json_decref(json);
    }
    assert_int_equal(lines, 3);
    free(text);
}

// Splits off the next CSV cell in place, unquoted; *rest is NULL after the last of a line.
static char *next_cell(char **rest) {
    char *cell = *rest, *out = cell, *in = cell;
    bool quoted = *in == '"';
    if (quoted) in++;
    while (*in && (quoted || (*in != ',' && *in != '\r'))) {
        if (quoted && *in == '"' && *++in != '"')
            quoted = false;
        else
            *out++ = *in++;
    }
    *rest = *in == ',' ? in + 1 : NULL;
    *out = '\0';
    return cell;
}

static void test_csv_has_a_cell_for_every_column(void **state) {
    char *text = record_fixture_report(*state, REPORT_CSV);
    char *lines[5] = {text};
    for (int i = 1; i < 5; i++) { // lines end in CR LF, cells at most in LF
        lines[i] = strstr(lines[i - 1], "\r\n");
        assert_non_null(lines[i]);
        lines[i] += 2;
    }
    assert_string_equal(lines[4], "");
    char *header = lines[0], *first = lines[1], *third = lines[3];
    int columns = 0, checked = 0;
    while (header) {
        char *name = next_cell(&header), *value = next_cell(&first), *other = next_cell(&third);
        assert_int_equal(header == NULL, first == NULL);
        assert_int_equal(header == NULL, third == NULL);
        columns++;
        if (strcmp(name, "batch") == 0 && ++checked) assert_string_equal(value, "93");
        if (strcmp(name, "device_name") == 0 && ++checked) assert_string_equal(value, "A \"quoted\", device");
        if (strcmp(name, "tok_s_samples") == 0 && ++checked)
            assert_string_equal(value, "118800;120000;121200");
        if (strcmp(name, "reason") == 0 && ++checked)
            assert_string_equal(other, "does not \"fit\"\n  second line");
        if (strcmp(name, "discovery_goal") == 0 && ++checked) assert_string_equal(value, "latency:0.805");
        if (strcmp(name, "roofline_bound_by") == 0 && ++checked) assert_string_equal(value, "memory");
    }
    assert_int_equal(checked, 6);
    assert_true(columns > 50);
    free(text);
}

static void test_table_tells_the_rows_and_their_remarks(void **state) {
    char *text = record_fixture_report(*state, REPORT_TABLE);
    assert_non_null(strstr(text, "A \"quoted\", device"));
    assert_non_null(strstr(text, "per row, bf16, deterministic, greedy, logits all"));
    assert_non_null(strstr(text, "120000 ± 1.0 %"));
    assert_non_null(strstr(text, "30.00×"));
    assert_non_null(strstr(text, "batch     93 for the goal latency:0.805, by 3 probes\n"));
    assert_non_null(strstr(text, "00ff00ff00ff00ff"));
    assert_non_null(strstr(text, "[1] the arms part in 2 of 93 rows"));
    assert_non_null(strstr(text, "[2] a note, with a comma; the device was throttled (hardware thermal, "
                                 "power cap); the device was shared with 2 other compute processes"));
    assert_non_null(strstr(text, "Cost at 4.32 USD per device hour, for 864000 requests of 50 + 200 tokens"));
    assert_non_null(strstr(text, "usd/1M tok"));
    assert_non_null(strstr(text, "1980        3201  412"));
    assert_non_null(strstr(text, "[3] oom: does not \"fit\""));
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
        int width = 0;
        for (const char *c = line; *c; c++) width += ((unsigned char)*c & 0xC0) != 0x80;
        if (width > 110 && line[0] != '[') fail_msg("%d characters: %s", width, line);
    }
    free(text);
}

static void test_markdown_is_one_table(void **state) {
    char *text = record_fixture_report(*state, REPORT_MARKDOWN);
    const char *header = strstr(text, "| batch |");
    assert_non_null(header);
    // Header, alignment and three rows, each with the header's number of cells.
    char *table = strdup(header);
    *strstr(table, "\n\n") = '\0';
    int lines = 0, bars = 0;
    for (char *line = strtok(table, "\n"); line; line = strtok(NULL, "\n"), lines++) {
        if (lines == 0) bars = occurrences(line, "|");
        assert_int_equal(occurrences(line, "|") - occurrences(line, "\\|"), bars);
    }
    assert_int_equal(lines, 5);
    free(table);
    free(text);
}

// Predicted milliseconds that a step of so many rows takes less by this path than by the graph.
static double saved_ms(const struct bench_record *record, int batch, const char *path) {
    struct bench_row row = {.batch = batch, .kv_cache = true, .decode_path = "graph"};
    double graph = row_metrics(record, &row).predicted.ms_per_step;
    strcpy(row.decode_path, path);
    return graph - row_metrics(record, &row).predicted.ms_per_step;
}

// A graph's step has 0.3 ms beside its work, a fused one 0.1 to 0.2 with 1 to 16 rows, a persistent one 0.05
// to 0.08 with 1 to 4.
static void test_rows_are_predicted_by_the_kernels_that_decoded_them(void **state) {
    struct bench_record *record = *state;
    assert_close(saved_ms(record, 1, "persistent"), 0.25, 1e-9);
    assert_close(saved_ms(record, 3, "persistent"), 0.23, 1e-9);
    assert_close(saved_ms(record, 4, "fused"), 0.18, 1e-9);
    assert_close(saved_ms(record, 16, "fused"), 0.1, 1e-9);
    assert_close(saved_ms(record, 3, ""), 0.23, 1e-9); // not begun: as auto would
    assert_close(saved_ms(record, 4, ""), 0.22, 1e-9);
    assert_close(saved_ms(record, 7, ""), 0.16, 1e-9);
    record->machine.persistent_last_step = record->machine.persistent_step;
    record->machine.persistent_rows = 1; // asked for with more
    assert_close(saved_ms(record, 4, "persistent"), 0.25, 1e-9);
    assert_close(saved_ms(record, 4, ""), 0.18, 1e-9);
    record->machine.persistent_rows = 0; // not calibrated
    assert_close(saved_ms(record, 4, "persistent"), 0.18, 1e-9);
}

static void test_an_empty_record_is_reported(void **state) {
    (void)state;
    struct bench_record empty;
    memset(&empty, 0, sizeof empty);
    for (int format = REPORT_TABLE; format <= REPORT_MARKDOWN; format++)
        free(record_fixture_report(&empty, (enum report_format)format));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_json_has_the_documented_fields, record_fixture_set_up,
                                        record_fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_json_tells_cost_and_sensors, record_fixture_set_up,
                                        record_fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_json_tells_the_machine, record_fixture_set_up,
                                        record_fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_every_jsonl_line_stands_alone, record_fixture_set_up,
                                        record_fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_csv_has_a_cell_for_every_column, record_fixture_set_up,
                                        record_fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_table_tells_the_rows_and_their_remarks, record_fixture_set_up,
                                        record_fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_markdown_is_one_table, record_fixture_set_up,
                                        record_fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_rows_are_predicted_by_the_kernels_that_decoded_them,
                                        record_fixture_set_up, record_fixture_tear_down),
        cmocka_unit_test(test_an_empty_record_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
