#include "measure/report_sensors.h"

#include "measure/report_grid.h"

#include <math.h>
#include <stb/stb_ds.h>

static void put_value(struct grid_row *cells, int *column, double value) {
    if (isfinite(value))
        grid_put(cells, column, "%.0f", value);
    else
        grid_put(cells, column, "%s", "");
}

static void put_row(struct grid_row *cells, const struct bench_row *row) {
    const struct row_sensors *sensors = &row->sensors;
    int column = 0;
    grid_put(cells, &column, "%d", row->batch);
    grid_put(cells, &column, "%s", row->kv_cache ? "on" : "off");
    put_value(cells, &column, sensors->sm_mhz);
    put_value(cells, &column, sensors->memory_mhz);
    put_value(cells, &column, sensors->power_w);
    put_value(cells, &column, sensors->temperature_c);
    put_value(cells, &column, sensors->resident_percent);
    grid_put(cells, &column, "%s", sensors->clock_limits);
}

void report_sensors_write(const struct bench_record *record, bool markdown, FILE *file) {
    struct grid grid = {0};
    grid_add_column(&grid, "batch", false);
    grid_add_column(&grid, "cache", true);
    grid_add_column(&grid, "SM MHz", false);
    grid_add_column(&grid, "memory MHz", false);
    grid_add_column(&grid, "W", false);
    grid_add_column(&grid, "°C", false);
    grid_add_column(&grid, "% resident", false);
    grid_add_column(&grid, "clocks held by", true);
    for (ptrdiff_t i = 0; i < arrlen(record->rows); i++) {
        if (record->rows[i].sensors.readings > 0) put_row(grid_add_row(&grid), &record->rows[i]);
    }
    if (arrlen(grid.rows) > 1) {
        fputs("\nSensors during the repetitions (medians; % resident: share of time with any kernel "
              "there):\n\n",
              file);
        grid_write(&grid, markdown, file);
    }
    grid_free(&grid);
}
