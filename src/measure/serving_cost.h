// What a measured throughput costs, and how much of the device a day's requests take.
#ifndef MEASURE_SERVING_COST_H
#define MEASURE_SERVING_COST_H

// What was asked. 0: not asked.
struct pricing {
    double device_hour_usd;
    double requests_per_day; // each one row of the workload: its prompt and its new tokens
};

struct serving_cost {
    // 1e6 / tok_s seconds of the device. 0: the price was not asked
    double usd_per_million_tokens;
    // N requests of G tokens take N G / tok_s seconds of the device a day. 0, and so the rest: not asked
    double device_hours_per_day;
    double usd_per_day; // 0: the price was not asked
    // In flight on average, by Little's law (Little 1961, L = lambda W): N / 86400 arrive each second and
    // stay for B G / tok_s seconds, the time of their batch; waiting for a batch to fill is not counted.
    double concurrent_requests;
};

// `tok_s` > 0 of all `batch` rows together, `gen_len` new tokens per request.
struct serving_cost serving_cost(const struct pricing *pricing, int batch, int gen_len, double tok_s);

#endif
