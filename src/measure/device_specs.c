#include "measure/device_specs.h"

#include <string.h>

// What the engine reached on an H200, of the vendor's figures: 4.5 of 4.8 TB/s read cold, and 650 of 989
// TFLOP/s in GPT-2's products with 23,000 rows.
static const double bandwidth_share = 4.5 / 4.8, rate_share = 650.0 / 989;
// There, of GPT-2 124M with one row, a cached step took 373 us as a graph, 162 us by fused kernels, and a
// prefill of 50 tokens, whose path uncached steps take too, 550 us; 55 us of each go into reading 247 MB, the
// rest over 88 operations. The fused kernels' step of 256 rows took 706 us, 396 of them work. A kernel's
// start and end hardly depend on the size of the chip, so that other devices are taken to need the same.
static const double graph_operation = (373e-6 - 55e-6) / 88, prefill_operation = (550e-6 - 55e-6) / 88; // s
static const double fused_operation = (162e-6 - 55e-6) / 88, fused_last_operation = (706e-6 - 396e-6) / 88;
static const double fused_rows = 256;
// The persistent kernel's step took 102 us with one row, 55 of them work, 132 us with 4 rows, 60 of them
// work, and 158 us with 8 rows, 65 of them work. It is chosen for as many of this width, of others for 4.
static const double persistent_operation = (102e-6 - 55e-6) / 88;
static const double persistent_operation_4_rows = (132e-6 - 60e-6) / 88;
static const double persistent_operation_8_rows = (158e-6 - 65e-6) / 88;
enum { EIGHT_ROWS_CHANNELS = 768 };

enum { F32 = 1u << DTYPE_F32, F16 = 1u << DTYPE_F16, BF16 = 1u << DTYPE_BF16 };

const struct device_spec device_specs[] = {
    // NVIDIA A100 80GB SXM4 datasheet; 40 MB L2: A100 architecture whitepaper.
    {"a100-80gb", "NVIDIA A100 SXM4 80 GB", 2039e9, 312e12, 19.5e12, 80e9, 40e6, F32 | F16 | BF16, DTYPE_BF16,
     false},
    // NVIDIA H100 datasheet, SXM5 (it states rates with sparsity: half of those); 50 MB L2: H100 whitepaper.
    {"h100", "NVIDIA H100 SXM5 80 GB", 3.35e12, 989e12, 67e12, 80e9, 50e6, F32 | F16 | BF16, DTYPE_BF16,
     true},
    // NVIDIA H200 datasheet, SXM (likewise); the chip is that of the H100.
    {"h200", "NVIDIA H200 SXM 141 GB", 4.8e12, 989e12, 67e12, 141e9, 50e6, F32 | F16 | BF16, DTYPE_BF16,
     true},
    // NVIDIA L4 datasheet (likewise); 48 MB L2: Ada GPU architecture whitepaper.
    {"l4", "NVIDIA L4 24 GB", 300e9, 121e12, 30.3e12, 24e9, 48e6, F32 | F16 | BF16, DTYPE_BF16, false},
    // NVIDIA T4 product brief (256 bits at 10 Gbit/s); 4 MB L2: Turing architecture whitepaper. No bf16.
    {"t4", "NVIDIA T4 16 GB", 320e9, 65e12, 8.1e12, 16e9, 4e6, F32 | F16, DTYPE_F16, false},
    // NVIDIA V100 datasheet, SXM2; 6 MB L2: Volta architecture whitepaper. No bf16.
    {"v100", "NVIDIA V100 SXM2 32 GB", 900e9, 125e12, 15.7e12, 32e9, 6e6, F32 | F16, DTYPE_F16, false},
    // Ada GPU architecture whitepaper, f16 with f32 sums (with f16 sums it is twice that).
    {"rtx4090", "NVIDIA GeForce RTX 4090 24 GB", 1008e9, 165.2e12, 82.6e12, 24e9, 72e6, F32 | F16 | BF16,
     DTYPE_BF16, false},
};
const size_t device_spec_count = sizeof device_specs / sizeof device_specs[0];

const struct device_spec *device_spec_find(const char *name, size_t length) {
    for (size_t i = 0; i < device_spec_count; i++) {
        const struct device_spec *spec = &device_specs[i];
        if (strlen(spec->name) == length && strncmp(name, spec->name, length) == 0) return spec;
    }
    return NULL;
}

static void add_own_kernels(double operations, bool eight_rows, struct machine *machine) {
    machine->persistent_step = operations * persistent_operation;
    machine->persistent_last_step =
        operations * (eight_rows ? persistent_operation_8_rows : persistent_operation_4_rows);
    machine->persistent_rows = eight_rows ? 8 : 4;
    machine->fused_step = operations * fused_operation;
    machine->fused_last_step = operations * fused_last_operation;
    machine->fused_rows = fused_rows;
}

struct machine device_spec_machine(const struct device_spec *spec, const struct gpt2_config *config,
                                   enum dtype dtype, double efficiency) {
    double rate = dtype == DTYPE_F32 ? spec->f32_rate : spec->f16_rate;
    const struct ceilings ceilings = {.bandwidth = spec->bandwidth * bandwidth_share,
                                      .matmul_rate = rate * (efficiency > 0 ? efficiency : rate_share),
                                      .launch = graph_operation};
    struct machine machine = machine_of_ceilings(&ceilings, config, spec->cache_bytes);
    const double operations = machine.cached_step / graph_operation;
    machine.prefill = machine.uncached_step = operations * prefill_operation;
    if (spec->hopper && dtype != DTYPE_F32)
        add_own_kernels(operations, config->channels == EIGHT_ROWS_CHANNELS, &machine);
    return machine;
}
