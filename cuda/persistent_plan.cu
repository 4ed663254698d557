#include "cuda/persistent_plan.h"

// Gives each tile to the block that has least to read so far, but none more than an even share rounded up.
static void share_out(int tiles, int blocks, struct block_plan *plans, int *load,
                      struct tile_range block_plan::*range) {
    const int most = (tiles + blocks - 1) / blocks;
    for (int i = 0; i < blocks; i++) (plans[i].*range).count = 0;
    for (int tile = 0; tile < tiles; tile++) {
        int least = -1;
        for (int i = 0; i < blocks; i++) {
            if ((plans[i].*range).count == most) continue;
            if (least < 0 || load[i] < load[least]) least = i;
        }
        (plans[least].*range).count++;
        load[least]++;
    }
    for (int i = 0, first = 0; i < blocks; i++) {
        (plans[i].*range).first = first;
        first += (plans[i].*range).count;
    }
}

void persistent_plan_make(const struct plan_shape *shape, int blocks, struct block_plan *plans) {
    const int C = shape->channel_tiles, tiles_of_channel = 1 + shape->inner_tiles / C; // of C columns
    int load[PLAN_MAX_BLOCKS];
    for (int i = 0; i < blocks; i++) {
        plans[i].channels.first = (int)((long long)C * i / blocks);
        plans[i].channels.count = (int)((long long)C * (i + 1) / blocks) - plans[i].channels.first;
        load[i] = plans[i].channels.count * tiles_of_channel;
    }
    share_out(3 * C, blocks, plans, load, &block_plan::qkv);
    share_out(shape->inner_tiles, blocks, plans, load, &block_plan::fc);
    for (int i = 0; i < blocks; i++) load[i] = 0; // the LM head is a phase of its own
    share_out(shape->vocab_tiles, blocks, plans, load, &block_plan::head);
}
