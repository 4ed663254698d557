// Which tiles of 8 outputs of every product each block of the persistent step owns (persistent_step.h).
#ifndef CUDA_PERSISTENT_PLAN_H
#define CUDA_PERSISTENT_PLAN_H

enum { PLAN_MAX_BLOCKS = 1024 };

struct tile_range {
    int first, count;
};

// `channels` are those of both products that add to the residual stream: the block that owns them keeps their
// part of the stream.
struct block_plan {
    struct tile_range qkv, channels, fc, head;
};

struct plan_shape {
    int channel_tiles, inner_tiles, vocab_tiles; // C, F (a multiple of C) and V in tiles, rounded up
};

// Fills plans (blocks), blocks at most PLAN_MAX_BLOCKS. Every tile of every product belongs to one block. No
// block has more than its even share, rounded up, of any product: a phase takes as long as its busiest block.
// Blocks with more channels get fewer of the other tiles.
void persistent_plan_make(const struct plan_shape *shape, int blocks, struct block_plan *plans);

#endif
