#include "measure/discovery.h"

#include "measure/report_values.h"

#include <stb/stb_ds.h>
#include <stdint.h>
#include <string.h>

enum { MOST_ROWS = 1 << 20 }; // of a batch

static json_t *probe_to_json(const struct batch_probe *probe) {
    return json_pack("{s:i, s:b, s:b, s:o, s:o, s:o, s:f, s:o}", "batch", probe->batch, "fits", probe->fits,
                     "meets_goal", probe->meets_goal, "tok_s", report_known(probe->tok_s, probe->tok_s > 0),
                     "ttft_ms", report_known(probe->ttft_ms, probe->ttft_ms > 0), "step_p95_ms",
                     report_known(probe->p95_ms, probe->p95_ms > 0), "seconds", probe->seconds, "reason",
                     report_text(probe->reason));
}

json_t *discovery_to_json(const struct discovery *discovery) {
    json_t *probes = json_array();
    for (ptrdiff_t i = 0; probes && i < arrlen(discovery->trail); i++) {
        if (json_array_append_new(probes, probe_to_json(&discovery->trail[i])) == 0) continue;
        json_decref(probes);
        probes = NULL;
    }
    if (arrlen(discovery->trail) == 0)
        return json_pack("{s:n, s:n, s:n, s:n, s:n, s:n, s:o}", "goal", "kvcache", "reserve_bytes", "batch",
                         "complete", "from_cache", "probes", probes);
    char goal[GOAL_TEXT];
    discover_goal_format(&discovery->goal, goal);
    return json_pack("{s:s, s:s, s:I, s:i, s:b, s:b, s:o}", "goal", goal, "kvcache",
                     discovery->kv_cache ? "on" : "off", "reserve_bytes",
                     (json_int_t)discovery->reserve_bytes, "batch", discovery->batch, "complete",
                     discovery->complete, "from_cache", discovery->from_cache, "probes", probes);
}

static enum status refuse(struct error *error, const char *what) {
    return error_set(error, STATUS_FAILED, "discovery: %s", what);
}

// null reads as 0.
static bool read_figure(json_t *probe, const char *name, double *value) {
    json_t *field = json_object_get(probe, name);
    *value = json_number_value(field);
    return json_is_null(field) || (json_is_number(field) && *value > 0);
}

static enum status read_probe(json_t *json, struct batch_probe *probe, struct error *error) {
    int fits, meets_goal;
    json_int_t batch;
    const char *reason;
    json_error_t json_error;
    if (json_unpack_ex(json, &json_error, 0, "{s:I, s:b, s:b, s:F, s:s}", "batch", &batch, "fits", &fits,
                       "meets_goal", &meets_goal, "seconds", &probe->seconds, "reason", &reason) != 0)
        return error_set(error, STATUS_FAILED, "discovery.probes: %s", json_error.text);
    if (batch < 1 || batch > MOST_ROWS) return refuse(error, "probes: expected batches from 1 to 1048576");
    if (!(probe->seconds >= 0) || !read_figure(json, "tok_s", &probe->tok_s) ||
        !read_figure(json, "ttft_ms", &probe->ttft_ms) || !read_figure(json, "step_p95_ms", &probe->p95_ms))
        return refuse(error, "probes: expected figures above 0, or null");
    if (strlen(reason) >= sizeof probe->reason)
        return refuse(error, "probes: a reason is longer than this program writes");
    memcpy(probe->reason, reason, strlen(reason) + 1);
    probe->batch = (int)batch;
    probe->fits = fits;
    probe->meets_goal = meets_goal;
    return STATUS_OK;
}

static enum status read_goal(const char *text, struct discover_goal *goal, struct error *error) {
    if (discover_goal_parse(text, goal, error) == STATUS_OK) return STATUS_OK;
    return error_set(error, STATUS_FAILED, "discovery.goal: no goal is called \"%.60s\"", text);
}

static bool was_proved(const struct discovery *discovery, json_int_t batch) {
    for (ptrdiff_t i = 0; i < arrlen(discovery->trail); i++) {
        if (discovery->trail[i].batch == batch && discovery->trail[i].meets_goal) return true;
    }
    return batch == 0;
}

static enum status read_search(json_t *json, struct discovery *discovery, struct error *error) {
    const char *goal, *kvcache;
    json_int_t reserve, batch;
    int complete, from_cache;
    json_error_t json_error;
    if (json_unpack_ex(json, &json_error, 0, "{s:s, s:s, s:I, s:I, s:b, s:b}", "goal", &goal, "kvcache",
                       &kvcache, "reserve_bytes", &reserve, "batch", &batch, "complete", &complete,
                       "from_cache", &from_cache) != 0)
        return error_set(error, STATUS_FAILED, "discovery: %s", json_error.text);
    TRY(read_goal(goal, &discovery->goal, error));
    if (strcmp(kvcache, "on") != 0 && strcmp(kvcache, "off") != 0)
        return refuse(error, "kvcache: expected \"on\" or \"off\"");
    if (reserve < 0) return refuse(error, "reserve_bytes: expected a number from 0");
    if (!was_proved(discovery, batch)) return refuse(error, "batch: no probe proved it");
    discovery->kv_cache = strcmp(kvcache, "on") == 0;
    discovery->reserve_bytes = reserve;
    discovery->batch = (int)batch;
    discovery->complete = complete;
    discovery->from_cache = from_cache;
    return STATUS_OK;
}

enum status discovery_from_json(json_t *json, struct discovery *discovery, struct error *error) {
    memset(discovery, 0, sizeof *discovery);
    json_t *probes = json_object_get(json, "probes"), *goal = json_object_get(json, "goal");
    if (!json_is_array(probes)) return refuse(error, "expected an object with an array \"probes\"");
    for (size_t i = 0; i < json_array_size(probes); i++) {
        struct batch_probe probe = {0};
        TRY(read_probe(json_array_get(probes, i), &probe, error));
        arrput(discovery->trail, probe);
    }
    if (json_is_null(goal) && json_array_size(probes) == 0) return STATUS_OK; // no search was made
    return read_search(json, discovery, error);
}
