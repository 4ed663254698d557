#include "measure/measure_device.h"

#include "measure/report_grid.h"

#include <stb/stb_ds.h>

static void write_products(const struct device_measurement *measurement, FILE *file) {
    struct grid grid = {0};
    grid_add_column(&grid, "product", true);
    grid_add_column(&grid, "N x K", false);
    for (int i = 0; i < MEASURED_ROWS; i++) {
        char header[GRID_CELL];
        snprintf(header, sizeof header, "M=%d", measurement->rows[i]);
        grid_add_column(&grid, header, false);
    }
    for (int s = 0; s < MEASURED_SHAPES; s++) {
        const struct measured_shape *shape = &measurement->shapes[s];
        struct grid_row *row = grid_add_row(&grid);
        int column = 0;
        grid_put(row, &column, "%s", shape->name);
        grid_put(row, &column, "%d x %d", shape->n, shape->k);
        for (int i = 0; i < MEASURED_ROWS; i++) grid_put(row, &column, "%.0f %%", shape->share[i] * 100);
    }
    grid_write(&grid, false, file);
    grid_free(&grid);
}

void device_measurement_write(const struct device_measurement *measurement, FILE *file) {
    const struct ceilings *ceilings = &measurement->ceilings;
    fprintf(file, "measured     %s, %s\n", measurement->device.name, dtype_name(measurement->dtype));
    fprintf(file, "  read       %.1f GB/s\n", ceilings->bandwidth / 1e9);
    fprintf(file, "  product    %.1f GFLOP/s, large, by the vendor's library\n", ceilings->matmul_rate / 1e9);
    fprintf(file, "  launch     %.2f us, the least a step takes\n", ceilings->launch * 1e6);
    if (measurement->decode_steps > 0)
        fprintf(file,
                "  decode     %.3f ms/step at B = 1: the weights are read at %.0f %% of that bandwidth\n",
                measurement->decode_ms_per_step, measurement->decode_share * 100);
    fputs("\nThe engine's products with cold weights, in percent of min(bandwidth bound, rate bound):\n",
          file);
    write_products(measurement, file);
}

static json_t *products_json(const struct device_measurement *measurement) {
    json_t *products = json_array();
    for (int s = 0; s < MEASURED_SHAPES; s++) {
        const struct measured_shape *shape = &measurement->shapes[s];
        for (int i = 0; i < MEASURED_ROWS && products; i++) {
            json_t *product =
                json_pack("{s:s, s:i, s:i, s:i, s:f, s:f}", "name", shape->name, "n", shape->n, "k", shape->k,
                          "m", measurement->rows[i], "seconds", shape->seconds[i], "share", shape->share[i]);
            if (json_array_append_new(products, product) == 0) continue;
            json_decref(products);
            products = NULL;
        }
    }
    return products;
}

json_t *device_measurement_json(const struct device_measurement *measurement) {
    const struct ceilings *ceilings = &measurement->ceilings;
    return json_pack("{s:s, s:{s:f, s:f, s:f}, s:{s:i, s:f, s:f}, s:o}", "dtype",
                     dtype_name(measurement->dtype), "ceilings", "read_bytes_per_s", ceilings->bandwidth,
                     "matmul_flop_per_s", ceilings->matmul_rate, "launch_s", ceilings->launch, "decode",
                     "steps", measurement->decode_steps, "ms_per_step", measurement->decode_ms_per_step,
                     "bandwidth_share", measurement->decode_share, "products", products_json(measurement));
}
