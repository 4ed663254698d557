// The persistent decode kernel by itself against a float64 model: no library runs beside it, so that tools
// which watch every access can.
#include "cuda/deferred_norm.h"
#include "cuda/persistent_step.h"
#include "support/cuda_test.cuh"

namespace {

constexpr int D = PERSISTENT_D, MAX_TOKENS = 48, STEPS = 3;
constexpr float EPSILON = 1e-5f;

struct sizes {
    int L, C, F, V;
    std::vector<int> lengths; // of the rows; 0: free
};

// Values as the kernel gets them, rounded to its dtype, and a copy of them on the device.
class tensor {
  public:
    tensor(enum dtype dtype, size_t count, double deviation, double mean, std::mt19937 &random)
        : values(count), raw(count * dtype_size(dtype)), device(raw.size()) {
        std::normal_distribution<double> normal(mean, deviation);
        for (float &value : values) value = (float)normal(random);
        dtype_from_f32(dtype, values.data(), raw.data(), count);
        dtype_to_f32(dtype, raw.data(), values.data(), count);
        device.upload(raw);
    }
    const float *at(size_t offset) const { return values.data() + offset; }

    std::vector<float> values;
    std::vector<uint8_t> raw;
    device_array<uint8_t> device;
};

// All that a model consists of, a layer's tensors one behind the other.
struct model {
    sizes s;
    enum dtype dtype;
    std::mt19937 random{7};
    tensor qkvw, qkvb, attprojw, fcw, fcb, fcprojw, wte, wpe;
    tensor ln1w, ln1b, ln2w, ln2b, lnfw, lnfb, attprojb, fcprojb;

    tensor normal(enum dtype type, size_t count, double deviation, double mean = 0) {
        return tensor(type, count, deviation, mean, random);
    }
    static size_t squared(const sizes &s) { return (size_t)s.L * s.C * s.C; }
    model(const sizes &s_, enum dtype t)
        : s(s_), dtype(t), qkvw(normal(t, 3 * squared(s), 0.1)), qkvb(normal(t, (size_t)s.L * 3 * s.C, 0.1)),
          attprojw(normal(t, squared(s), 0.1)), fcw(normal(t, (size_t)s.L * s.F * s.C, 0.1)),
          fcb(normal(t, (size_t)s.L * s.F, 0.1)), fcprojw(normal(t, (size_t)s.L * s.C * s.F, 0.05)),
          wte(normal(t, (size_t)(s.V + 7) / 8 * 8 * s.C, 0.3)), wpe(normal(t, (size_t)MAX_TOKENS * s.C, 0.3)),
          ln1w(normal(DTYPE_F32, (size_t)s.L * s.C, 0.2, 1)), ln1b(normal(DTYPE_F32, (size_t)s.L * s.C, 0.2)),
          ln2w(normal(DTYPE_F32, (size_t)s.L * s.C, 0.2, 1)), ln2b(normal(DTYPE_F32, (size_t)s.L * s.C, 0.2)),
          lnfw(normal(DTYPE_F32, (size_t)s.C, 0.2, 1)), lnfb(normal(DTYPE_F32, (size_t)s.C, 0.2)),
          attprojb(normal(DTYPE_F32, (size_t)s.L * s.C, 0.2)),
          fcprojb(normal(DTYPE_F32, (size_t)s.L * s.C, 0.2)) {}
};

using vector64 = std::vector<double>;

vector64 layer_norm(const vector64 &x, const float *gain, const float *offset) {
    double mean = 0, variance = 0;
    for (double value : x) mean += value / (double)x.size();
    for (double value : x) variance += (value - mean) * (value - mean) / (double)x.size();
    vector64 y(x.size());
    for (size_t i = 0; i < x.size(); i++)
        y[i] = (x[i] - mean) / std::sqrt(variance + (double)EPSILON) * (double)gain[i] + (double)offset[i];
    return y;
}

// x weight^T + bias; bias may be NULL.
vector64 linear(const vector64 &x, const float *weight, const float *bias, int outputs) {
    vector64 y((size_t)outputs);
    for (size_t n = 0; n < y.size(); n++) {
        y[n] = bias ? (double)bias[n] : 0;
        for (size_t k = 0; k < x.size(); k++) y[n] += x[k] * (double)weight[n * x.size() + k];
    }
    return y;
}

void add(vector64 *x, const vector64 &y) {
    for (size_t i = 0; i < x->size(); i++) (*x)[i] += y[i];
}

// One row's keys and values: [layer][K|V] (H, MAX_TOKENS, D).
struct row_cache {
    std::vector<vector64> part;
};

vector64 attend(const vector64 &qkv, row_cache *cache, int layer, int C, int length) {
    vector64 &keys = cache->part[2 * (size_t)layer], &values = cache->part[2 * (size_t)layer + 1],
             mixed((size_t)C);
    for (int head = 0; head < C / D; head++) {
        const size_t first = (size_t)head * MAX_TOKENS * D, own = first + (size_t)(length - 1) * D;
        const double *q = qkv.data() + head * D;
        for (int d = 0; d < D; d++) {
            keys[own + d] = q[C + d];
            values[own + d] = q[2 * C + d];
        }
        vector64 weights((size_t)length);
        double sum = 0;
        for (int token = 0; token < length; token++) {
            double score = 0;
            for (int d = 0; d < D; d++) score += q[d] * keys[first + (size_t)token * D + d];
            sum += weights[(size_t)token] = std::exp(score / std::sqrt((double)D));
        }
        for (int token = 0; token < length; token++) {
            for (int d = 0; d < D; d++)
                mixed[(size_t)head * D + d] +=
                    weights[(size_t)token] / sum * values[first + (size_t)token * D + d];
        }
    }
    return mixed;
}

// Logits behind the row's token number length - 1, whose key and value are appended to the cache.
vector64 reference_step(const model &m, row_cache *cache, int token, int length) {
    const int C = m.s.C, F = m.s.F;
    vector64 x((size_t)C);
    for (int c = 0; c < C; c++)
        x[c] =
            (double)m.wte.values[(size_t)token * C + c] + (double)m.wpe.values[(size_t)(length - 1) * C + c];
    for (size_t l = 0; l < (size_t)m.s.L; l++) {
        const vector64 normed = layer_norm(x, m.ln1w.at(l * C), m.ln1b.at(l * C)),
                       qkv = linear(normed, m.qkvw.at(l * 3 * C * C), m.qkvb.at(l * 3 * C), 3 * C);
        add(&x,
            linear(attend(qkv, cache, (int)l, C, length), m.attprojw.at(l * C * C), m.attprojb.at(l * C), C));
        vector64 inner = linear(layer_norm(x, m.ln2w.at(l * C), m.ln2b.at(l * C)), m.fcw.at(l * F * C),
                                m.fcb.at(l * F), F);
        for (double &y : inner) // GPT-2's form of GELU
            y = 0.5 * y * (1 + std::tanh(std::sqrt(2 / M_PI) * (y + 0.044715 * y * y * y)));
        add(&x, linear(inner, m.fcprojw.at(l * C * F), m.fcprojb.at(l * C), C));
    }
    return linear(layer_norm(x, m.lnfw.values.data(), m.lnfb.values.data()), m.wte.values.data(), NULL,
                  m.s.V);
}

// LayerNorm folded into the products behind it, as the backend does when it loads a model.
struct folded {
    device_array<float> sums, biases;
    folded(const model &m, const tensor &weight, const tensor *bias, const tensor &gain, const tensor &offset,
           int layers, int outputs)
        : sums((size_t)layers * outputs), biases((size_t)layers * outputs) {
        const size_t C = (size_t)m.s.C, N = (size_t)outputs, size = dtype_size(m.dtype);
        for (size_t l = 0; l < (size_t)layers; l++)
            check_cuda(deferred_norm_fold(m.dtype, weight.device.get() + l * N * C * size,
                                          bias ? bias->device.get() + l * N * size : NULL,
                                          (const float *)gain.device.get() + l * C,
                                          (const float *)offset.device.get() + l * C, outputs, m.s.C,
                                          sums.get() + l * N, biases.get() + l * N, NULL));
    }
};

layered layers_of(const void *first, size_t elements, size_t size) {
    return {first, (int64_t)(elements * size)};
}

void check_steps(const sizes &s, enum dtype dtype) {
    const int B = (int)s.lengths.size(), H = s.C / D;
    if (!persistent_supports(dtype, B, s.C, H, s.F, NULL)) skip();
    model m(s, dtype);
    const size_t size = dtype_size(dtype), C = (size_t)s.C, F = (size_t)s.F,
                 row_size = (size_t)H * MAX_TOKENS * D;
    const int padded = (s.V + 7) / 8 * 8;
    tensor kv = m.normal(dtype, (size_t)s.L * 2 * B * row_size, 1);
    const folded qkv(m, m.qkvw, &m.qkvb, m.ln1w, m.ln1b, s.L, 3 * s.C),
        fc(m, m.fcw, &m.fcb, m.ln2w, m.ln2b, s.L, s.F), head(m, m.wte, NULL, m.lnfw, m.lnfb, 1, padded);
    struct persistent_model p = {};
    p.dtype = dtype, p.L = s.L, p.C = s.C, p.H = H, p.F = s.F, p.V = s.V, p.epsilon = EPSILON;
    p.attention_scale = 1 / std::sqrt((float)D);
    p.qkvw = layers_of(m.qkvw.device.get(), 3 * C * C, size);
    p.attprojw = layers_of(m.attprojw.device.get(), C * C, size);
    p.fcw = layers_of(m.fcw.device.get(), F * C, size);
    p.fcprojw = layers_of(m.fcprojw.device.get(), C * F, size);
    p.qkv_sums = layers_of(qkv.sums.get(), 3 * C, 4), p.qkv_biases = layers_of(qkv.biases.get(), 3 * C, 4);
    p.fc_sums = layers_of(fc.sums.get(), F, 4), p.fc_biases = layers_of(fc.biases.get(), F, 4);
    p.attprojb = layers_of(m.attprojb.device.get(), C, 4),
    p.fcprojb = layers_of(m.fcprojb.device.get(), C, 4);
    p.ln1w = layers_of(m.ln1w.device.get(), C, 4), p.ln2w = layers_of(m.ln2w.device.get(), C, 4);
    p.lnfw = (const float *)m.lnfw.device.get();
    p.wte = p.head = m.wte.device.get(), p.wpe = m.wpe.device.get();
    p.head_sums = head.sums.get(), p.head_biases = head.biases.get();

    std::vector<int32_t> tokens((size_t)B * MAX_TOKENS), lengths(s.lengths.begin(), s.lengths.end());
    for (size_t i = 0; i < tokens.size(); i++) tokens[i] = (int32_t)(i * 7 % (size_t)s.V);
    device_array<int32_t> device_tokens(tokens), device_lengths(lengths);
    device_array<float> logits((size_t)B * padded);
    struct persistent_rows rows = {};
    rows.B = B, rows.max_tokens = MAX_TOKENS, rows.tokens = device_tokens.get(),
    rows.lengths = device_lengths.get();
    rows.kv = kv.device.get(), rows.kv_stride = (int64_t)(B * row_size * size);
    rows.logits = logits.get(), rows.ld = padded;
    device_array<uint8_t> workspace(persistent_workspace_bytes(s.L, s.C, s.F, B));
    struct persistent_step *step = NULL;
    check_cuda(persistent_open(&p, &rows, workspace.get(), NULL, &step));
    check_cuda(persistent_run(step, STEPS - 1, NULL)); // several steps in a kernel, and a kernel behind it
    check_cuda(persistent_run(step, 1, NULL));
    check_cuda(cudaDeviceSynchronize());
    persistent_close(step);

    // Of all roundings to 16 bits on the way (six a layer, one in front of the LM head) each moves a logit by
    // no more than the unit roundoff's share of the largest.
    const double roundoff = unit_roundoff(dtype);
    const std::vector<int32_t> new_tokens = device_tokens.download();
    const std::vector<float> last = logits.download();
    for (int row = 0; row < B; row++) {
        const int length = s.lengths[(size_t)row];
        if (length == 0) continue;
        row_cache cache;
        for (size_t part = 0; part < 2 * (size_t)s.L; part++) {
            const float *first = kv.at((part * (size_t)B + (size_t)row) * row_size);
            cache.part.emplace_back(first, first + row_size);
        }
        const int32_t *own = new_tokens.data() + (size_t)row * MAX_TOKENS;
        for (int i = 0; i < STEPS; i++) {
            const vector64 expected = reference_step(m, &cache, own[length - 1 + i], length + i);
            double largest = 0;
            for (double logit : expected) largest = std::max(largest, std::fabs(logit));
            const double tolerance = (6 * s.L + 1) * roundoff * largest;
            const int32_t chosen = own[length + i];
            assert_in_range(chosen, 0, s.V - 1);
            const double best = *std::max_element(expected.begin(), expected.end());
            if (expected[(size_t)chosen] < best - 2 * tolerance)
                fail_msg("row %d step %d: logit %g where %g is the best", row, i, expected[(size_t)chosen],
                         best);
            for (int id = 0; i == STEPS - 1 && id < s.V; id++) {
                const double found = (double)last[(size_t)row * padded + (size_t)id];
                if (!(std::fabs(found - expected[(size_t)id]) <= tolerance))
                    fail_msg("row %d logit %d: %g, not %g", row, id, found, expected[(size_t)id]);
            }
        }
    }
}

void steps_of_one_row(void **) {
    need_device();
    for (enum dtype dtype : {DTYPE_F16, DTYPE_BF16}) check_steps({2, 128, 512, 99, {37}}, dtype);
}
void steps_of_rows_with_a_free_one(void **) {
    need_device();
    for (enum dtype dtype : {DTYPE_F16, DTYPE_BF16}) check_steps({2, 128, 512, 99, {20, 1, 0, 35}}, dtype);
    check_steps({2, 128, 512, 99, {20, 1, 0, 35, 7, 9, 30}}, DTYPE_BF16);
}
// GPT-2's 768 channels, for which there are kernels of their own.
void steps_of_a_size_of_gpt2(void **) {
    need_device();
    check_steps({1, 768, 3072, 99, {40}}, DTYPE_BF16);
    check_steps({1, 768, 3072, 99, {40, 3}}, DTYPE_BF16);
    check_steps({1, 768, 3072, 99, {40, 3, 1, 17, 8, 22, 30, 5}}, DTYPE_BF16);
}

} // namespace

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steps_of_one_row),
        cmocka_unit_test(steps_of_rows_with_a_free_one),
        cmocka_unit_test(steps_of_a_size_of_gpt2),
    };
    return cmocka_run_group_tests_name("persistent step", tests, NULL, NULL);
}
