// How a decode step's linear layer is cut into blocks: see decode_linear.h.
#ifndef CUDA_DECODE_CUT_H
#define CUDA_DECODE_CUT_H

enum {
    DECODE_OUTPUTS = 64, // of a block
    DECODE_CHUNK = 64,   // k that are copied together
    DECODE_SPLIT = 8,    // blocks that share K: what every device with clusters allows
};

struct decode_cut {
    int tile;   // rows of a block: 16, 32, 48, 64, 96 or 128
    int tiles;  // that cover all rows
    int split;  // blocks that share K
    int own;    // rows of the tile that each of them finishes
    int group;  // chunks that are copied at once,
    int stages; // and how many such groups a block holds
};

// The cut of y (B, N) = x (B, K) W^T for the current device; N and K are multiples of 64. A function of the
// shape and the device alone, so that results are reproducible.
struct decode_cut decode_cut_choose(int B, int N, int K);

#endif
