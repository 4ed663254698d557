// Models of random weights: every weight is a function of its place alone, made when it is read and never
// held.
//
// Only IEEE 754's basic operations (+ - * / sqrt, conversions) and integers are used, each correctly rounded,
// so that every machine, compiler and thread count gives the same bits; the C library's log and cos do not.
#include "models/format.h"

#include "base/philox.h"
#include "base/text.h"

#include <math.h>
#include <string.h>

#ifdef __clang__
#    pragma STDC FP_CONTRACT OFF // gcc in ISO mode never fuses a * b + c
#endif

// ---- names --------------------------------------------------------------------------------------

static enum status parse_sizes(const char *description, struct gpt2_config *config, struct error *error) {
    const struct {
        char letter;
        int *value;
    } sizes[] = {{'L', &config->layers},
                 {'C', &config->channels},
                 {'H', &config->heads},
                 {'V', &config->vocab},
                 {'T', &config->context}};
    const char *rest = description;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        size_t digits = *rest == sizes[i].letter ? strspn(rest + 1, "0123456789") : 0;
        char separator = digits > 0 ? rest[1 + digits] : '?';
        bool last = i + 1 == sizeof sizes / sizeof sizes[0];
        if (digits > 9 || separator != (last ? '\0' : '-')) {
            return error_set(
                error, STATUS_USAGE,
                "expected gpt2, gpt2-medium, gpt2-large, gpt2-xl or the form L12-C768-H12-V50257-T1024");
        }
        *sizes[i].value = 0;
        for (size_t d = 1; d <= digits; d++) *sizes[i].value = *sizes[i].value * 10 + (rest[d] - '0');
        rest += 1 + digits + 1;
    }
    return STATUS_OK;
}

static enum status parse_description(const char *description, struct gpt2_config *config,
                                     struct error *error) {
    static const struct {
        const char *name;
        int layers, channels, heads;
    } published[] = {{"gpt2", 12, 768, 12},
                     {"gpt2-medium", 24, 1024, 16},
                     {"gpt2-large", 36, 1280, 20},
                     {"gpt2-xl", 48, 1600, 25}};
    for (size_t i = 0; i < sizeof published / sizeof published[0]; i++) {
        if (strcmp(description, published[i].name) != 0) continue;
        config->layers = published[i].layers;
        config->channels = published[i].channels;
        config->heads = published[i].heads;
        config->vocab = 50257;
        config->context = 1024;
        return STATUS_OK;
    }
    return parse_sizes(description, config, error);
}

enum status random_open(const char *description, struct model *model, struct error *error) {
    model->format = "random";
    model->stored_dtype = DTYPE_BF16;
    struct gpt2_config config = {.layer_norm_epsilon = 1e-5f, .scale_attention = true, .tied_lm_head = true};
    enum status status = parse_description(description, &config, error);
    config.inner = config.channels < 1 << 20 ? 4 * config.channels : 1;
    if (status == STATUS_OK && gpt2_config_check(&config, error) != STATUS_OK) status = STATUS_USAGE;
    if (status != STATUS_OK) {
        error_prefix(error, "model random:%.100s", description);
        return status;
    }
    config.eos_token = config.vocab == 50257 ? 50256 : -1;
    model->config = config;
    return STATUS_OK;
}

// ---- numbers ------------------------------------------------------------------------------------

static inline uint32_t float_bits(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline float bits_float(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

// -ln(x), x in (0, 1] and normal. x = 2^e m with m in [sqrt(1/2), sqrt(2)); ln m = 2 artanh((m - 1) / (m +
// 1)) by its series, whose first term left out is below 4e-9 of the sum.
static inline float negative_log(float x) {
    uint32_t offset = float_bits(x) - 0x3F3504F3; // of sqrt(1/2)
    int32_t exponent = (int32_t)(offset & 0xFF800000) / (1 << 23);
    float m = bits_float((offset & 0x007FFFFF) + 0x3F3504F3);
    float s = (m - 1) / (m + 1), s2 = s * s;
    float series = 1 + s2 * (1.0f / 3 + s2 * (1.0f / 5 + s2 * (1.0f / 7 + s2 * (1.0f / 9))));
    return -((float)exponent * 0.693147181f + 2 * s * series);
}

// Two independent numbers from N(0, 1) out of two random words (Box and Muller 1958): a radius, and an angle
// that is drawn within a quarter turn and then reflected into the other three.
static inline void normal_pair(uint32_t word0, uint32_t word1, float *first, float *second) {
    float uniform = ((float)word0 + 0.5f) * 0x1p-32f; // (0, 1]
    float radius = sqrtf(2 * negative_log(uniform));
    // The upper 30 bits as a signed fraction of a quarter turn, -1/2 .. 1/2.
    float a = (float)((int32_t)(word1 & 0xFFFFFFFC) / 4) * (1.57079633f * 0x1p-30f), a2 = a * a;
    float sine = a * (1 - a2 / 6 * (1 - a2 / 20 * (1 - a2 / 42 * (1 - a2 / 72))));
    float cosine = 1 - a2 / 2 * (1 - a2 / 12 * (1 - a2 / 30 * (1 - a2 / 56)));
    float signed_radius = word1 & 1 ? -radius : radius;
    *first = signed_radius * (word1 & 2 ? sine : cosine);
    *second = signed_radius * (word1 & 2 ? cosine : sine);
}

// ---- weights ------------------------------------------------------------------------------------

enum { CALLS = 64, BLOCK = 4 * CALLS }; // Philox calls and the weights they make at a time

// Weights first .. first + BLOCK of one tensor; first is a multiple of BLOCK.
static void random_block(enum gpt2_tensor tensor, int layer, uint64_t first, float mean,
                         float weights[BLOCK]) {
    static const uint32_t key[2] = {0x67707432, 0x696E6665}; // "gpt2", "infe"
    uint32_t words[4][CALLS];
    for (uint32_t i = 0; i < CALLS; i++) {
        uint64_t call = first / 4 + i;
        const uint32_t counter[4] = {(uint32_t)call, (uint32_t)(call >> 32), (uint32_t)tensor,
                                     (uint32_t)layer};
        uint32_t result[4];
        philox4x32(counter, key, result);
        for (int w = 0; w < 4; w++) words[w][i] = result[w];
    }
    float normals[4][CALLS];
    for (int i = 0; i < CALLS; i++) {
        normal_pair(words[0][i], words[1][i], &normals[0][i], &normals[1][i]);
        normal_pair(words[2][i], words[3][i], &normals[2][i], &normals[3][i]);
    }
    for (int i = 0; i < CALLS; i++)
        for (int n = 0; n < 4; n++) weights[4 * i + n] = mean + 0.02f * normals[n][i];
}

void random_read(const struct gpt2_config *config, enum gpt2_tensor tensor, int layer, float *destination) {
    struct gpt2_shape shape = gpt2_tensor_shape(config, tensor);
    float mean = tensor == GPT2_LN1W || tensor == GPT2_LN2W || tensor == GPT2_LNFW ? 1 : 0;
    uint64_t count = (uint64_t)shape.rows * (uint64_t)shape.columns;
#pragma omp parallel for schedule(static)
    for (uint64_t first = 0; first < count; first += BLOCK) {
        float weights[BLOCK];
        random_block(tensor, layer, first, mean, weights);
        memcpy(destination + first, weights,
               (count - first < BLOCK ? count - first : BLOCK) * sizeof *weights);
    }
}
