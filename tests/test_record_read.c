// Records read back from their JSON, and what is no record refused by name.
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include "tests/support/assert_close.h"
#include "tests/support/record_fixture.h"
#include "tests/support/scratch_dir.h"

#include <stb/stb_ds.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
    char *text = record_fixture_report(record, REPORT_JSON);
    if (read_text(text, &again, &error) != STATUS_OK) fail_msg("%s", error.message);
    char *second = record_fixture_report(&again, REPORT_JSON); // all that is written was read
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
    char *text = record_fixture_report(*state, REPORT_JSON),
         *older = replaced(text, "\"deterministic\": true,", "");
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
    char *good = record_fixture_report(*state, REPORT_JSON);
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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_json_is_read_back, record_fixture_set_up,
                                        record_fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_older_records_are_read, record_fixture_set_up,
                                        record_fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_other_json_is_refused_by_name, record_fixture_set_up,
                                        record_fixture_tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
