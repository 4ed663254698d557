// The same record in every format, and the JSON read back.
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include "measure/metrics.h"
#include "measure/report.h"
#include "tests/support/assert_close.h"
#include "tests/support/scratch_dir.h"

#include <jansson.h>
#include <math.h>
#include <stb/stb_ds.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct bench_row measured_row(int batch, bool kv_cache, double tok_s) {
    struct bench_row row;
    memset(&row, 0, sizeof row);
    row.batch = batch;
    row.kv_cache = kv_cache;
    row.status = ROW_OK;
    row.reps = 3;
    for (int i = -1; i <= 1; i++) arrput(row.samples, tok_s * (1 + 0.01 * i));
    row.tok_s = stats_summarize(row.samples, 3);
    row.tok_s_per_row = tok_s / batch;
    row.prefill_ms = 12.5;
    row.ms_per_step = batch * 1e3 / tok_s;
    row.decode_tok_s = tok_s;
    row.memory = (struct memory_ledger){.weights = 1000,
                                        .kv_cache = kv_cache ? batch * 250 * 36864 : 0,
                                        .activations = 3,
                                        .logits = 4,
                                        .free = -1};
    strcpy(row.token_hash, "00ff00ff00ff00ff");
    return row;
}

static int set_up(void **state) {
    static struct bench_record record;
    memset(&record, 0, sizeof record);
    record.engine =
        (struct record_engine){.version = "1.2.3", .commit = "abc", .compiler = "gcc 1", .cuda = true};
    record.device = (struct device_info){.backend = "cuda",
                                         .name = "A \"quoted\", device",
                                         .detail = "detail",
                                         .index = 1,
                                         .compute_units = 132,
                                         .memory_bytes = INT64_C(150000000000)};
    record.ceilings = (struct ceilings){.bandwidth = 4e12, .matmul_rate = 8e14, .launch = 2e-6};
    record.machine = (struct machine){.bandwidth = 3.9e12,
                                      .rate = 6e14,
                                      .cached_step = 3e-4,
                                      .uncached_step = 6e-4,
                                      .prefill = 5e-4,
                                      .persistent_step = 5e-5,
                                      .persistent_last_step = 8e-5,
                                      .persistent_rows = 4,
                                      .fused_step = 1e-4,
                                      .fused_last_step = 2e-4,
                                      .fused_rows = 16,
                                      .cache_bytes = 5e7};
    record.model = (struct record_model){.name = "dir/\xff|name",
                                         .format = "random",
                                         .stored_dtype = DTYPE_BF16,
                                         .parameters = 124439808,
                                         .config = {.context = 1024,
                                                    .vocab = 50257,
                                                    .layers = 12,
                                                    .heads = 12,
                                                    .channels = 768,
                                                    .inner = 3072,
                                                    .layer_norm_epsilon = 1e-5f,
                                                    .scale_attention = true,
                                                    .tied_lm_head = true,
                                                    .eos_token = 50256}};
    record.workload = (struct record_workload){.prompt_len = 50,
                                               .gen_len = 200,
                                               .dtype = DTYPE_BF16,
                                               .logits = LOGITS_ALL,
                                               .deterministic = true,
                                               .seed = 42,
                                               .warmup = 1};
    record.pricing = (struct pricing){.device_hour_usd = 4.32, .requests_per_day = 864000};
    const struct batch_probe probes[] = {
        {.batch = 93, .fits = true, .meets_goal = true, .tok_s = 120000, .p95_ms = 0.8, .seconds = 1.5},
        {.batch = 94, .fits = true, .tok_s = 121000, .p95_ms = 0.81, .seconds = 1.5},
        {.batch = 128, .seconds = 0.1, .reason = "128 rows, do not fit"}};
    record.discovery = (struct discovery){.goal = {.kind = GOAL_LATENCY, .limit_ms = 0.805},
                                          .reserve_bytes = 256 << 20,
                                          .kv_cache = true,
                                          .batch = 93,
                                          .complete = true};
    for (int i = 0; i < 3; i++) arrput(record.discovery.trail, probes[i]);
    struct bench_row cached = measured_row(93, true, 120000), uncached = measured_row(93, false, 4000);
    cached.speedup = 30;
    cached.agreement = (struct arm_agreement){.verdict = AGREEMENT_NEAR_TIE,
                                              .differing_rows = 2,
                                              .row = 7,
                                              .position = 19,
                                              .logit_gap = 0.01,
                                              .rounding_allows = 0.05};
    uncached.agreement = cached.agreement;
    strcpy(uncached.note, "a note, with a comma");
    uncached.sensors = (struct row_sensors){.readings = 4,
                                            .sm_mhz = 1980,
                                            .memory_mhz = 3201,
                                            .power_w = 412.5,
                                            .temperature_c = (double)NAN,
                                            .resident_percent = 97,
                                            .clock_limits = "hardware thermal, power cap",
                                            .throttled = true,
                                            .other_processes = 2};
    struct bench_row unfit = {.batch = 100000, .kv_cache = true, .status = ROW_OUT_OF_MEMORY};
    strcpy(unfit.reason, "does not \"fit\"\n  second line");
    arrput(record.rows, cached);
    arrput(record.rows, uncached);
    arrput(record.rows, unfit);
    *state = &record;
    return 0;
}

static int tear_down(void **state) {
    record_clear(*state);
    return 0;
}

// The report as text, to be freed.
static char *report(const struct bench_record *record, enum report_format format) {
    static char *text; // the stream keeps the addresses
    static size_t size;
    FILE *file = open_memstream(&text, &size);
    struct error error;
    assert_int_equal(report_write(record, format, file, &error), STATUS_OK);
    fclose(file);
    return text;
}

static int occurrences(const char *text, const char *what) {
    int count = 0;
    for (; (text = strstr(text, what)); text += strlen(what)) count++;
    return count;
}

static void test_json_has_the_documented_fields(void **state) {
    char *text = report(*state, REPORT_JSON);
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
    char *text = report(*state, REPORT_JSON);
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
    char *text = report(*state, REPORT_JSON);
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

// Reads `text` as a record file.
static enum status read_text(const char *text, struct bench_record *record, struct error *error) {
    struct scratch_dir directory;
    char path[512];
    scratch_dir_make(&directory);
    scratch_dir_write(&directory, "record.json", text, strlen(text));
    snprintf(path, sizeof path, "%s/record.json", directory.path);
    enum status status = record_read(path, record, error);
    scratch_dir_remove(&directory);
    return status;
}

static void test_json_is_read_back(void **state) {
    const struct bench_record *record = *state;
    struct bench_record again;
    struct error error;
    char *text = report(record, REPORT_JSON);
    if (read_text(text, &again, &error) != STATUS_OK) fail_msg("%s", error.message);
    char *second = report(&again, REPORT_JSON); // all that is written was read
    assert_string_equal(text, second);
    assert_int_equal(arrlen(again.rows), 3);
    assert_close(again.rows[0].tok_s.sd, record->rows[0].tok_s.sd, 1e-6);
    assert_int_equal(again.rows[2].status, ROW_OUT_OF_MEMORY);
    assert_string_equal(again.rows[2].reason, record->rows[2].reason);
    assert_memory_equal(&again.machine, &record->machine, sizeof again.machine);
    assert_string_equal(again.model.name, "dir/?|name"); // JSON has no such byte
    assert_int_equal(again.discovery.goal.kind, GOAL_LATENCY);
    assert_int_equal(again.discovery.reserve_bytes, 256 << 20);
    assert_int_equal(arrlen(again.discovery.trail), 3);
    assert_string_equal(again.discovery.trail[2].reason, "128 rows, do not fit");
    record_clear(&again);
    free(second);
    free(text);
}

// `text` with the first `from` replaced; to be freed.
static char *replaced(const char *text, const char *from, const char *to) {
    const char *found = strstr(text, from);
    assert_non_null(found);
    size_t size = strlen(text) + strlen(to) + 1;
    char *result = malloc(size);
    snprintf(result, size, "%.*s%s%s", (int)(found - text), text, to, found + strlen(from));
    return result;
}

static void test_older_records_are_read(void **state) {
    struct bench_record again;
    struct error error;
    char *text = report(*state, REPORT_JSON), *older = replaced(text, "\"deterministic\": true,", "");
    if (read_text(older, &again, &error) != STATUS_OK) fail_msg("%s", error.message);
    assert_false(again.workload.deterministic);
    assert_int_equal(again.workload.seed, 42);
    record_clear(&again);
    free(older);
    free(text);
}

// The discovery, which comes before the rows, has batches too.
#define ROW_BATCH "\"rows\": [\n    {\n      \"batch\": "

static void test_other_json_is_refused_by_name(void **state) {
    static const struct {
        const char *from, *to, *named;
    } changes[] = {
        {"gpt2infer.bench/1", "gpt2infer.bench/2", "gpt2infer.bench/1"},
        {"\"schema\"", "\"schemes\"", "schema"},
        {ROW_BATCH "93", ROW_BATCH "0", "rows[0].batch"},
        {ROW_BATCH "93", ROW_BATCH "4294967297", "rows[0].batch"},
        {ROW_BATCH "93", ROW_BATCH "\"93\"", "rows[0].batch"},
        {ROW_BATCH "93,\n      \"kvcache\": \"on\"", ROW_BATCH "93,\n      \"kvcache\": \"maybe\"", "maybe"},
        {"\"status\": \"ok\"", "\"status\": \"fine\"", "fine"},
        {"\"dtype\": \"bf16\"", "\"dtype\": \"int8\"", "workload.dtype"},
        {"\"gen_len\": 200", "\"gen_len\": 2000", "workload"},
        {"\"deterministic\": true", "\"deterministic\": 1", "workload"},
        {"\"vocab\": 50257", "\"vocab\": -1", "model.config.vocab"},
        {"\"samples\": [", "\"samples\": [-1,", "samples"},
        {"\"samples\": [", "\"samples\": [\"x\",", "samples"},
        {"\"token_hash\": \"00ff", "\"token_hash\": \"00ff00ff00ff00ff00ff", "rows[0]"},
        {"\"prefill_ms\"", "\"prefill\"", "prefill_ms"},
        {"\"gpu_hour_usd\": 4", "\"gpu_hour_usd\": -4", "pricing.gpu_hour_usd"},
        {"\"power_w\": 4", "\"power_w\": -4", "rows[1].sensors.power_w"},
        {"\"other_processes\": 2", "\"other_processes\": -2", "rows[1].sensors.other_processes"},
        {"\"goal\": \"latency", "\"goal\": \"lateness", "discovery.goal"},
        {"\"goal\": \"latency:0", "\"goal\": \"latency:-0", "discovery.goal"},
        {"\"goal\": \"latency:0.805\"", "\"goal\": null", "discovery"},
        {"\"reserve_bytes\": 2", "\"reserve_bytes\": -2", "reserve_bytes"},
        {"\"batch\": 93,\n    \"complete", "\"batch\": 94,\n    \"complete", "no probe proved it"},
        {"\"probes\": [", "\"probes\": 3, \"x\": [", "probes"},
        {"\"seconds\": 1", "\"seconds\": -1", "probes"},
        {"\"batch\": 128", "\"batch\": 4294967424", "probes"},
        {"\"step_p95_ms\": 0", "\"step_p95_ms\": -0", "probes"},
        {"\"rows\": [", "\"rows\": {}, \"x\": [", "rows"},
        {"\"cached_step_s\": ", "\"cached_step_s\": -", "machine.cached_step_s"},
        {"\"fused_rows\": 16.0", "\"fused_rows\": null", "machine"},
        {"\"persistent_rows\": 4.0", "\"persistent_rows\": null", "machine"},
        {"\"persistent_step_s\"", "\"older_step_s\"", "machine.persistent_step_s"},
        {"\"read_bytes_per_s\": 4", "\"read_bytes_per_s\": -4", "ceilings"},
        {"\"engine\": {", "\"engine\": {\"version\": \"2\",", "duplicate"},
        {"]", "", "line"},
    };
    char *good = report(*state, REPORT_JSON);
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        struct bench_record record;
        struct error error;
        char *bad = replaced(good, changes[i].from, changes[i].to);
        if (read_text(bad, &record, &error) != STATUS_FAILED) fail_msg("%s was taken", changes[i].to);
        if (!strstr(error.message, changes[i].named) || !strstr(error.message, "record.json"))
            fail_msg("\"%s\" names neither %s nor the file", error.message, changes[i].named);
        assert_null(record.rows);
        free(bad);
    }
    free(good);
}

static void test_every_jsonl_line_stands_alone(void **state) {
    char *text = report(*state, REPORT_JSONL);
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
    char *text = report(*state, REPORT_CSV);
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
    char *text = report(*state, REPORT_TABLE);
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
    char *text = report(*state, REPORT_MARKDOWN);
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
        free(report(&empty, (enum report_format)format));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_json_has_the_documented_fields, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_json_tells_cost_and_sensors, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_json_tells_the_machine, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_older_records_are_read, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_json_is_read_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_other_json_is_refused_by_name, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_every_jsonl_line_stands_alone, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_csv_has_a_cell_for_every_column, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_table_tells_the_rows_and_their_remarks, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_markdown_is_one_table, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_rows_are_predicted_by_the_kernels_that_decoded_them, set_up,
                                        tear_down),
        cmocka_unit_test(test_an_empty_record_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
