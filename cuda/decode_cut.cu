#include "cuda/decode_cut.h"

#include "cuda/launch.cuh"

// Rules that were right, or within a few percent of it, wherever all cuts were measured: the products of the
// four GPT-2 sizes for 1 to 512 rows on an H200, alone and within steps (NOTES.md).
enum {
    PIPELINE_BYTES = 98 << 10, // of a block's stages: two blocks fit on a multiprocessor
    MOST_CHUNKS = 13,          // of a block, where splitting further can be had: about 800 k
    FEWEST_CHUNKS = 3,         // of a block that shares K: less is not worth the sums that it sends
    SMALL_TILE = 32,           // rows; with more, blocks fill a multiprocessor each
};

// Products for few rows where something else was measured to be better within whole steps.
static const struct {
    int columns, chunks; // N / 64, K / 64: of GPT-2 124M
    int most_rows;
    int tile, split;
} measured[] = {
    {36, 12, 16, 16, 2}, {36, 12, 32, 32, 2},                      // QKV
    {12, 12, 16, 16, 3}, {12, 12, 32, 16, 4}, {12, 12, 64, 16, 2}, // attention's projection
    {48, 12, 16, 16, 2}, {48, 12, 32, 32, 1},                      // FC
    {12, 48, 16, 16, 6}, {12, 48, 32, 32, 8},                      // FC2
};

// The smallest tile whose blocks run at once, else the smallest of those with the fewest blocks. Blocks that
// share nothing may be a few more than multiprocessors.
static void choose_tile(struct decode_cut *cut, int B, int columns, int count) {
    static const int sizes[] = {16, 32, 48, 64, 96, 128};
    const int most = cut->split == 1 ? count + count / 10 : count;
    cut->tiles = 0;
    for (int tile : sizes) {
        const int tiles = divide_up(B, tile);
        if ((B > 16 && tile < SMALL_TILE) || (cut->tiles > 0 && tiles >= cut->tiles)) continue;
        cut->tile = tile;
        cut->tiles = tiles;
        if (columns * tiles * cut->split <= most) break;
    }
}

// One group of few rows; two of many, so that products begin while the second is on its way; a ring where
// the share does not fit.
static void choose_stages(struct decode_cut *cut, int chunks) {
    const int chunk_bytes = (DECODE_OUTPUTS + cut->tile) * DECODE_CHUNK * 2;
    const int share = divide_up(chunks, cut->split), fit = PIPELINE_BYTES / chunk_bytes;
    cut->group = share <= fit ? divide_up(share, cut->tile <= SMALL_TILE ? 1 : 2) : fit / 4;
    cut->stages = share <= fit ? divide_up(share, cut->group) : fit / cut->group;
}

static bool find_measured(struct decode_cut *cut, int B, int columns, int chunks) {
    for (const auto &entry : measured) {
        if (entry.columns != columns || entry.chunks != chunks || B > entry.most_rows) continue;
        cut->tile = entry.tile;
        cut->tiles = divide_up(B, entry.tile);
        cut->split = entry.split;
        return true;
    }
    return false;
}

static void apply_rules(struct decode_cut *cut, int B, int columns, int chunks) {
    const int count = multiprocessor_count();
    cut->split = 1;
    while (cut->split < DECODE_SPLIT && divide_up(chunks, cut->split) > MOST_CHUNKS) cut->split *= 2;
    choose_tile(cut, B, columns, count);
    const int most = cut->tile <= SMALL_TILE ? 2 * count : count;
    while (cut->split > 1 && columns * cut->tiles * cut->split > most) cut->split /= 2;
    while (2 * cut->split <= DECODE_SPLIT && chunks / (2 * cut->split) >= FEWEST_CHUNKS &&
           columns * cut->tiles * 2 * cut->split <= count)
        cut->split *= 2;
}

struct decode_cut decode_cut_choose(int B, int N, int K) {
    const int columns = N / DECODE_OUTPUTS, chunks = K / DECODE_CHUNK;
    struct decode_cut cut = {};
    if (!find_measured(&cut, B, columns, chunks)) apply_rules(&cut, B, columns, chunks);
    cut.own = divide_up(cut.tile, cut.split);
    choose_stages(&cut, chunks);
    return cut;
}
