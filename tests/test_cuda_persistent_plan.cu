// How the persistent step deals its tiles out to blocks: needs no device.
#include "cuda/persistent_plan.h"
#include "support/cuda_test.cuh"

using range_of_block = tile_range block_plan::*;

struct dealt {
    const char *name;
    range_of_block range;
    int tiles;
};

static void check_plan(int C, int F, int V, int blocks) {
    const plan_shape shape = {C / 8, F / 8, (V + 7) / 8};
    std::vector<block_plan> plans(blocks);
    persistent_plan_make(&shape, blocks, plans.data());
    const dealt products[] = {{"qkv", &block_plan::qkv, 3 * C / 8},
                              {"channels", &block_plan::channels, C / 8},
                              {"fc", &block_plan::fc, F / 8},
                              {"head", &block_plan::head, (V + 7) / 8}};
    for (const dealt &product : products) {
        int next = 0;
        for (int i = 0; i < blocks; i++) {
            const tile_range range = plans[i].*product.range;
            if (range.first != next)
                fail_msg("%s: block %d begins at %d, not %d", product.name, i, range.first, next);
            if (range.count < 0 || range.count > (product.tiles + blocks - 1) / blocks)
                fail_msg("%s: block %d of %d has %d of %d tiles", product.name, i, blocks, range.count,
                         product.tiles);
            next += range.count;
        }
        assert_int_equal(next, product.tiles);
    }
}

static void every_tile_belongs_to_one_block(void **) {
    const int sizes[][3] = {{64, 64, 17}, {128, 512, 1031}, {768, 3072, 50257}, {1600, 6400, 50257}};
    for (const auto &size : sizes) {
        for (int blocks : {1, 7, 16, 114, 132, int{PLAN_MAX_BLOCKS}})
            check_plan(size[0], size[1], size[2], blocks);
    }
}

// GPT-2 XL on 132 blocks: 68 blocks own two tiles of channels, the others one. Those two cost ten tiles of C
// columns, one costs five; the other products make up for it as far as an even share allows.
static void blocks_with_more_channels_get_less_of_the_rest(void **) {
    const plan_shape shape = {200, 800, 6283};
    std::vector<block_plan> plans(132);
    persistent_plan_make(&shape, 132, plans.data());
    int most_of_one = 0, most_of_two = 0;
    for (const block_plan &plan : plans) {
        const int rest = plan.qkv.count + plan.fc.count;
        int &most = plan.channels.count == 2 ? most_of_two : most_of_one;
        most = std::max(most, rest);
    }
    assert_true(most_of_two < most_of_one);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_tile_belongs_to_one_block),
        cmocka_unit_test(blocks_with_more_channels_get_less_of_the_rest),
    };
    return cmocka_run_group_tests_name("persistent plan", tests, NULL, NULL);
}
