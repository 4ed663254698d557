#include "cuda/persistent_plan.h"

static int most_of(int tiles, int blocks) {
    return (tiles + blocks - 1) / blocks;
}

// Gives each tile to the block that has least to read so far, but none more than `most`.
static void share_out(int tiles, int most, int blocks, struct block_plan *plans, int *slots,
                      struct tile_range block_plan::*range) {
    for (int i = 0; i < blocks; i++) (plans[i].*range).count = 0;
    for (int tile = 0; tile < tiles; tile++) {
        int least = -1;
        for (int i = 0; i < blocks; i++) {
            if ((plans[i].*range).count == most) continue;
            if (least < 0 || slots[i] < slots[least]) least = i;
        }
        (plans[least].*range).count++;
        slots[least]++;
    }
    for (int i = 0, first = 0; i < blocks; i++) {
        (plans[i].*range).first = first;
        first += (plans[i].*range).count;
    }
}

void persistent_plan_make(const struct plan_shape *shape, int blocks, struct block_plan *plans) {
    const int parts = shape->inner_tiles / shape->channel_tiles, slots_of_channel = 1 + parts;
    const int layer_slots = 4 * shape->channel_tiles + 2 * shape->inner_tiles;
    int slots[PLAN_MAX_BLOCKS];
    for (int i = 0; i < blocks; i++) {
        const int C = shape->channel_tiles;
        plans[i].channels.first = (int)((long long)C * i / blocks);
        plans[i].channels.count = (int)((long long)C * (i + 1) / blocks) - plans[i].channels.first;
        slots[i] = plans[i].channels.count * slots_of_channel;
    }
    // A layer that is more than the ring holds is bound by memory: then even bytes matter more than even
    // phases.
    const int slack = layer_slots > shape->ring_slots * blocks ? 1 : 0;
    share_out(3 * shape->channel_tiles, most_of(3 * shape->channel_tiles, blocks) + slack, blocks, plans,
              slots, &block_plan::qkv);
    share_out(shape->inner_tiles, most_of(shape->inner_tiles, blocks) + slack, blocks, plans, slots,
              &block_plan::fc);
    for (int i = 0; i < blocks; i++) slots[i] = 0;
    share_out(shape->vocab_tiles, most_of(shape->vocab_tiles, blocks), blocks, plans, slots,
              &block_plan::head);
}
