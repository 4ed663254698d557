// Goals as the command line writes them, and a search in words.
#include "measure/discovery.h"

#include "base/text.h"

#include <stb/stb_ds.h>
#include <string.h>

enum status discover_goal_parse(const char *text, struct discover_goal *goal, struct error *error) {
    static const double shortest = 1e-6, longest = 1e9; // milliseconds
    *goal = (struct discover_goal){.kind = GOAL_THROUGHPUT};
    if (strcmp(text, "throughput") == 0) return STATUS_OK;
    if (strcmp(text, "memory") == 0) {
        goal->kind = GOAL_MEMORY;
        return STATUS_OK;
    }
    bool latency = strncmp(text, "latency:", 8) == 0;
    if (!latency && strncmp(text, "ttft:", 5) != 0)
        return error_set(error, STATUS_USAGE,
                         "--goal: expected throughput, latency:MS, ttft:MS or memory, found \"%.60s\"", text);
    goal->kind = latency ? GOAL_LATENCY : GOAL_TTFT;
    return text_parse_double(latency ? "--goal latency" : "--goal ttft", text + (latency ? 8 : 5), shortest,
                             longest, &goal->limit_ms, error);
}

void discover_goal_format(const struct discover_goal *goal, char text[GOAL_TEXT]) {
    static const char *const names[] = {"throughput", "latency", "ttft", "memory"};
    if (goal->kind == GOAL_LATENCY || goal->kind == GOAL_TTFT)
        snprintf(text, GOAL_TEXT, "%s:%.10g", names[goal->kind], goal->limit_ms);
    else
        snprintf(text, GOAL_TEXT, "%s", names[goal->kind]);
}

void discovery_clear(struct discovery *discovery) {
    arrfree(discovery->trail);
    memset(discovery, 0, sizeof *discovery);
}

void discovery_write_heading(FILE *file) {
    fprintf(file, "%9s %10s %11s %12s %7s\n", "batch", "tok/s", "prefill ms", "step p95 ms", "took s");
}

static void write_figure(double value, int width, FILE *file) {
    if (value > 0)
        fprintf(file, " %*.4g", width, value);
    else
        fprintf(file, " %*s", width, "");
}

void discovery_write_probe(const struct batch_probe *probe, FILE *file) {
    fprintf(file, "%9d", probe->batch);
    if (probe->tok_s >= 1000)
        fprintf(file, " %10.0f", probe->tok_s);
    else
        write_figure(probe->tok_s, 10, file);
    write_figure(probe->ttft_ms, 11, file);
    write_figure(probe->p95_ms, 12, file);
    fprintf(file, " %7.2f", probe->seconds);
    if (!probe->fits)
        fprintf(file, "  %s", probe->reason);
    else if (!probe->meets_goal)
        fputs("  beyond the limit", file);
    fputc('\n', file);
}

void discovery_write_answer(const struct discovery *discovery, FILE *file) {
    char goal[GOAL_TEXT];
    discover_goal_format(&discovery->goal, goal);
    int probes = (int)arrlen(discovery->trail);
    if (discovery->batch == 0)
        fprintf(file, "no batch was proved for the goal %s", goal);
    else
        fprintf(file, "%d for the goal %s", discovery->batch, goal);
    if (discovery->from_cache)
        fputs(", found before and proved again", file);
    else
        fprintf(file, ", by %d probe%s", probes, probes == 1 ? "" : "s");
    if (!discovery->complete) fputs("; the search was cut short, a better one may be left", file);
}
