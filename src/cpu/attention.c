// Scores are a product of queries with panels of keys, and outputs one of probabilities with panels of
// values: both run on the same tiles as the weights.
//
// One head of a sequence's cache: keys (capacity / W panels, D inputs, W keys each), then values
// (ceil(D / W) panels, capacity inputs, W channels each), W the panel width. A sequence has its heads one
// after the other.
#include "cpu/attention.h"

#include "cpu/panel.h"

#include <math.h>
#include <omp.h>

int attention_capacity(int tokens) {
    return (int)panel_round_up((size_t)tokens);
}

static size_t key_bytes(enum dtype dtype, int head_size, int capacity) {
    return (size_t)capacity * (size_t)head_size * dtype_size(dtype);
}
static size_t head_bytes(enum dtype dtype, int head_size, int capacity) {
    size_t value_bytes = (size_t)capacity * panel_round_up((size_t)head_size) * dtype_size(dtype);
    return key_bytes(dtype, head_size, capacity) + value_bytes;
}

size_t attention_cache_bytes(enum dtype dtype, int heads, int head_size, int capacity) {
    return (size_t)heads * head_bytes(dtype, head_size, capacity);
}

size_t attention_scratch_bytes(int capacity, int threads) {
    return (size_t)threads * TILE_ROWS * (size_t)capacity * sizeof(float);
}

static char *head_keys(const struct attention *a, const struct sequence *s, int head) {
    return (char *)s->cache + a->layer_offset +
           (size_t)head * head_bytes(a->dtype, a->head_size, s->capacity);
}
static char *head_values(const struct attention *a, const struct sequence *s, int head) {
    return head_keys(a, s, head) + key_bytes(a->dtype, a->head_size, s->capacity);
}

static void store_token(const struct attention *a, const struct sequence *s, int head, int position,
                        const float *key, const float *value) {
    size_t keys_panel = panel_bytes(a->dtype, (size_t)a->head_size);
    size_t values_panel = panel_bytes(a->dtype, (size_t)s->capacity);
    char *keys = head_keys(a, s, head) + (size_t)(position / PANEL_WIDTH) * keys_panel;
    char *values = head_values(a, s, head);
    panel_set_output(a->dtype, keys, (size_t)a->head_size, position % PANEL_WIDTH, key);
    for (int d = 0; d < a->head_size; d += PANEL_WIDTH, values += values_panel) {
        int left = a->head_size - d;
        panel_set_input(a->dtype, values, (size_t)position, left < PANEL_WIDTH ? left : PANEL_WIDTH,
                        value + d);
    }
}

void attention_store(const struct attention *a, const struct sequence *sequences, int count,
                     const float *qkv) {
    size_t channels = (size_t)a->heads * (size_t)a->head_size;
#pragma omp for collapse(2) nowait
    for (int i = 0; i < count; i++) {
        for (int head = 0; head < a->heads; head++) {
            const struct sequence *s = &sequences[i];
            const float *key =
                qkv + (size_t)s->first * 3 * channels + channels + (size_t)(head * a->head_size);
            for (int t = 0; t < s->count; t++, key += 3 * channels)
                store_token(a, s, head, s->past + t, key, key + channels);
        }
    }
    team_barrier(a->team);
}

// In place: the first `keys` scores become e^(scale (score - highest)), the rest up to `width` 0. Returns
// their sum.
static float softmax_row(float *scores, int keys, int width, float scale) {
    for (int t = keys; t < width; t++) scores[t] = -INFINITY;
    vector_f32 highest = vector_load(scores);
    for (int t = VECTOR_WIDTH; t < width; t += VECTOR_WIDTH)
        highest = vector_max(highest, vector_load(scores + t));
    const float offset = vector_highest(highest) * scale;
    vector_f32 sum = {0};
    for (int t = 0; t < width; t += VECTOR_WIDTH) {
        vector_f32 e = vector_exp(vector_load(scores + t) * scale - offset);
        vector_store(scores + t, e);
        sum += e;
    }
    return vector_sum(sum);
}

// Queries first .. first + rows - 1 of the tokens that a sequence is fed.
static void attend_tile(const struct attention *a, const struct sequence *s, int head, int first, int rows,
                        float *scores, const float *qkv, float *out) {
    size_t channels = (size_t)a->heads * (size_t)a->head_size, token = (size_t)(s->first + first);
    size_t column = (size_t)head * (size_t)a->head_size, stride = (size_t)s->capacity;
    int keys = s->past + first + rows, width = attention_capacity(keys); // of the tile's last query
    struct panel_product product = {
        .dtype = a->dtype,
        .panels = head_keys(a, s, head),
        .panel_stride = panel_bytes(a->dtype, (size_t)a->head_size),
        .inputs = (size_t)a->head_size,
        .outputs = width,
        .rows = rows,
        .x = qkv + token * 3 * channels + column,
        .x_stride = 3 * channels,
        .out = scores,
        .out_stride = stride,
    };
    panel_multiply(&product); // scores (rows, width)
    float sums[TILE_ROWS];
    for (int r = 0; r < rows; r++)
        sums[r] = softmax_row(scores + (size_t)r * stride, keys - rows + r + 1, width, a->scale);
    product.panels = head_values(a, s, head);
    product.panel_stride = panel_bytes(a->dtype, stride);
    product.inputs = (size_t)keys;
    product.outputs = a->head_size;
    product.x = scores;
    product.x_stride = stride;
    product.out = out + token * channels + column;
    product.out_stride = channels;
    panel_multiply(&product);
    for (int r = 0; r < rows; r++) {
        float *row = product.out + (size_t)r * channels;
        for (int d = 0; d < a->head_size; d++) row[d] /= sums[r];
    }
}

void attention_forward(const struct attention *a, const struct sequence *sequences, int count,
                       const float *qkv, float *out) {
    int tiles = 0, capacity = 0;
    for (int i = 0; i < count; i++) {
        int needed = (sequences[i].count + TILE_ROWS - 1) / TILE_ROWS;
        tiles = needed > tiles ? needed : tiles;
        capacity = sequences[i].capacity > capacity ? sequences[i].capacity : capacity;
    }
    // Late tiles see the most keys: handed out first, they leave no thread waiting at the end.
#pragma omp for collapse(3) schedule(dynamic) nowait
    for (int tile = tiles - 1; tile >= 0; tile--) {
        for (int i = 0; i < count; i++) {
            for (int head = 0; head < a->heads; head++) {
                int first = tile * TILE_ROWS, left = sequences[i].count - first;
                if (left <= 0) continue;
                float *scores = a->scratch + (size_t)omp_get_thread_num() * TILE_ROWS * (size_t)capacity;
                attend_tile(a, &sequences[i], head, first, left < TILE_ROWS ? left : TILE_ROWS, scores, qkv,
                            out);
            }
        }
    }
    team_barrier(a->team);
}
