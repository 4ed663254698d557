#include "tests/support/record_fixture.h"

#include "tests/support/written_text.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <stb/stb_ds.h>

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

int record_fixture_set_up(void **state) {
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

int record_fixture_tear_down(void **state) {
    record_clear(*state);
    return 0;
}

char *record_fixture_report(const struct bench_record *record, enum report_format format) {
    FILE *file = written_text_open();
    struct error error;
    assert_int_equal(report_write(record, format, file, &error), STATUS_OK);
    return written_text_close(file);
}
