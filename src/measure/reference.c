#include "measure/reference.h"

#include <stddef.h>

static const struct reference_point published_a100[] = {
    {1, 102.8, 99.3, 0.97},     {4, 401.9, 386.6, 0.96},   {8, 718.6, 770.2, 1.07},
    {16, 679.8, 1539.7, 2.27},  {32, 710.7, 3123.8, 4.40}, {64, 721.6, 6203.5, 8.60},
    {93, 843.8, 9055.8, 10.73},
};

const struct reference reference_published_a100 = {
    .source = "nanochat KV-cache batch-size experiment, A100-80GB",
    .workload = "50 prompt + 200 new tokens per row, bf16",
    .difference = "12 query and 6 KV heads, RoPE, an untied vocabulary of 65536, logits of all positions, "
                  "eager PyTorch",
    .points = published_a100,
    .count = sizeof published_a100 / sizeof published_a100[0],
};

const struct reference_point *reference_find(const struct reference *reference, int batch) {
    for (int i = 0; i < reference->count; i++) {
        if (reference->points[i].batch == batch) return &reference->points[i];
    }
    return NULL;
}
