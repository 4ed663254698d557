// Goals as the command line writes them, and the trail of a search for a person.
#include "measure/discover.h"

#include "base/text.h"
#include "measure/report_grid.h"

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

void discover_goal_format(const struct discover_goal *goal, char *text, size_t size) {
    static const char *const names[] = {"throughput", "latency", "ttft", "memory"};
    if (goal->kind == GOAL_LATENCY || goal->kind == GOAL_TTFT)
        snprintf(text, size, "%s:%.10g", names[goal->kind], goal->limit_ms);
    else
        snprintf(text, size, "%s", names[goal->kind]);
}

static void put_figure(struct grid_row *row, int *column, double value) {
    if (value > 0)
        grid_put(row, column, "%.4g", value);
    else
        ++*column;
}

static void write_trail(const struct discovery *discovery, FILE *file) {
    struct grid grid = {0};
    grid_add_column(&grid, "batch", false);
    grid_add_column(&grid, "tok/s", false);
    grid_add_column(&grid, "prefill ms", false);
    grid_add_column(&grid, "step p95 ms", false);
    grid_add_column(&grid, "took s", false);
    grid_add_column(&grid, "", true);
    for (ptrdiff_t i = 0; i < arrlen(discovery->trail); i++) {
        const struct batch_probe *probe = &discovery->trail[i];
        struct grid_row *row = grid_add_row(&grid);
        int column = 0;
        grid_put(row, &column, "%d", probe->batch);
        put_figure(row, &column, probe->tok_s);
        put_figure(row, &column, probe->ttft_ms);
        put_figure(row, &column, probe->p95_ms);
        grid_put(row, &column, "%.2f", probe->seconds);
        grid_put(row, &column, "%s",
                 !probe->fits                       ? "does not fit"
                 : !probe->meets_goal               ? "beyond the limit"
                 : probe->batch == discovery->batch ? "<- the answer"
                                                    : "");
    }
    grid_write_table(&grid, file);
    grid_free(&grid);
}

void discovery_write(const struct discovery *discovery, const struct discover_goal *goal, FILE *file) {
    char text[64];
    discover_goal_format(goal, text, sizeof text);
    write_trail(discovery, file);
    if (discovery->batch == 0) return;
    fprintf(file, "batch %d for the goal %s", discovery->batch, text);
    if (discovery->from_cache) fputs(", found before and proved again", file);
    if (!discovery->complete) fputs("; the time was up before the search was", file);
    fputc('\n', file);
}
