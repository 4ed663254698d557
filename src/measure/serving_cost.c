#include "measure/serving_cost.h"

struct serving_cost serving_cost(const struct pricing *pricing, int batch, int gen_len, double tok_s) {
    const double seconds_per_request = gen_len / tok_s; // of the device, which others of the batch share
    const double busy_seconds = pricing->requests_per_day * seconds_per_request;
    return (struct serving_cost){
        .usd_per_million_tokens = pricing->device_hour_usd / 3600 * 1e6 / tok_s,
        .device_hours_per_day = busy_seconds / 3600,
        .usd_per_day = busy_seconds / 3600 * pricing->device_hour_usd,
        .concurrent_requests = pricing->requests_per_day / 86400 * batch * seconds_per_request,
    };
}
