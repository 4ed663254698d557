// A decode step's own matrix products (linear layers, LM head with argmax) against float64.
#include "base/dtype.h"
#include "cuda/decode_head.h"
#include "cuda/decode_linear.h"

#include <algorithm>
#include <cuda_runtime.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <vector>

extern "C" {
#include "base/philox.h"
#include <cmocka.h>
}

namespace {

const float EPSILON = 1e-5f;

bool device_is_ready() {
    int count = 0;
    return cudaGetDeviceCount(&count) == cudaSuccess && count > 0 && decode_device_supported();
}

void require(cudaError_t code) {
    if (code != cudaSuccess) fail_msg("%s", cudaGetErrorString(code));
}

// Roughly normal numbers with the given standard deviation, different for each `stream`.
std::vector<float> random_values(size_t count, uint32_t stream, float deviation, float mean = 0) {
    std::vector<float> values(count);
    const uint32_t key[2] = {stream, 17};
    for (size_t i = 0; i < count; i++) {
        const uint32_t counter[4] = {(uint32_t)i, (uint32_t)(i >> 32), 0, 0};
        uint32_t words[4];
        philox4x32(counter, key, words);
        float sum = 0; // of four uniform numbers: variance 1/3
        for (uint32_t word : words) sum += (float)(word >> 8) * 0x1p-24f;
        values[i] = mean + deviation * (sum - 2.0f) * 1.7320508f;
    }
    return values;
}

// Rounds to dtype and back, so that the reference starts from what the device is given.
void round_to(enum dtype dtype, std::vector<float> &values) {
    std::vector<uint8_t> raw(values.size() * dtype_size(dtype));
    dtype_from_f32(dtype, values.data(), raw.data(), values.size());
    dtype_to_f32(dtype, raw.data(), values.data(), values.size());
}

struct device_array {
    void *data = nullptr;
    explicit device_array(size_t bytes) { require(cudaMalloc(&data, bytes)); }
    device_array(enum dtype dtype, const std::vector<float> &values) {
        std::vector<uint8_t> raw(values.size() * dtype_size(dtype));
        dtype_from_f32(dtype, values.data(), raw.data(), values.size());
        require(cudaMalloc(&data, raw.size()));
        require(cudaMemcpy(data, raw.data(), raw.size(), cudaMemcpyHostToDevice));
    }
    device_array(const device_array &) = delete;
    ~device_array() { cudaFree(data); }

    std::vector<float> read(enum dtype dtype, size_t count) const {
        std::vector<uint8_t> raw(count * dtype_size(dtype));
        std::vector<float> values(count);
        require(cudaMemcpy(raw.data(), data, raw.size(), cudaMemcpyDeviceToHost));
        dtype_to_f32(dtype, raw.data(), values.data(), count);
        return values;
    }
};

double unit_roundoff(enum dtype dtype) {
    return ldexp(1, dtype == DTYPE_F16 ? -11 : -8);
}

std::vector<double> layer_norm(const float *x, const std::vector<float> &gain,
                               const std::vector<float> &offset, int K) {
    double mean = 0, variance = 0;
    for (int k = 0; k < K; k++) mean += x[k] / (double)K;
    for (int k = 0; k < K; k++) variance += (x[k] - mean) * (x[k] - mean) / (double)K;
    std::vector<double> y((size_t)K);
    for (int k = 0; k < K; k++) y[k] = (x[k] - mean) / sqrt(variance + (double)EPSILON) * gain[k] + offset[k];
    return y;
}

double gelu(double x) {
    return 0.5 * x * (1 + tanh(sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
}

// ---- products with a deferred LayerNorm

struct rows_on_device {
    device_array x, scaled, stats;
    rows_on_device(const std::vector<float> &before, size_t B, size_t C)
        : x(DTYPE_F32, before), scaled(2 * B * C), stats(sizeof(float2) * (C / NORM_SEGMENT) * B) {
        // NaN: whatever a kernel leaves out is noticed.
        require(cudaMemset(scaled.data, 0xff, 2 * B * C));
        require(cudaMemset(stats.data, 0xff, sizeof(float2) * (C / NORM_SEGMENT) * B));
    }
    deferred_rows view() const { return {(float *)x.data, scaled.data, (float2 *)stats.data}; }
};

// Fails where found (B, N) is further from W input + bias (+ before) than `input_error` of each addend and
// f32 sums explain.
void compare_product(const char *what, const std::vector<float> &found, const std::vector<double> &input,
                     const std::vector<float> &w, const std::vector<float> &bias,
                     const std::vector<double> &input_error, enum decode_epilogue epilogue,
                     const std::vector<float> *before, double u, int B, int N, int K) {
    for (int b = 0; b < B; b++) {
        for (int n = 0; n<N; n += N> 1024 ? 7 : 1) {
            double exact = bias[(size_t)n], magnitude = fabs(exact), tolerance = 0;
            for (int k = 0; k < K; k++) {
                const double weight = w[(size_t)(n * K + k)], value = input[(size_t)(b * K + k)];
                exact += value * weight;
                magnitude += fabs(value * weight);
                tolerance += input_error[(size_t)(b * K + k)] * fabs(weight);
            }
            tolerance += magnitude * K * 0x1p-24;
            if (epilogue == DECODE_GELU) {
                exact = gelu(exact);
                tolerance *= 1.13;
            }
            if (before) exact += (*before)[(size_t)(b * N + n)];
            tolerance += fabs(exact) * (before ? 0x1p-22 : u) + 1e-6;
            const double got = found[(size_t)(b * N + n)];
            if (!(fabs(got - exact) <= tolerance))
                fail_msg("%s B=%d N=%d K=%d: (%d, %d) found %g, expected %g, tolerance %g", what, B, N, K, b,
                         n, got, exact, tolerance);
        }
    }
}

// How far each addend of a product may be off per unit of weight when LayerNorm is deferred: u is rounded to
// the type, and f32 sums of u w and mean S, which cancel, are rounded to f32 as often as there are channels.
std::vector<double> norm_error(enum dtype dtype, const float *x, const std::vector<float> &gain,
                               const std::vector<float> &offset, int K) {
    double mean = 0, variance = 0;
    for (int k = 0; k < K; k++) mean += x[k] / (double)K;
    for (int k = 0; k < K; k++) variance += (x[k] - mean) * (x[k] - mean) / (double)K;
    std::vector<double> error((size_t)K);
    for (int k = 0; k < K; k++) {
        const double size = fabs((double)x[k]);
        error[(size_t)k] = (size * unit_roundoff(dtype) + (fabs(mean) + size) * K * 0x1p-24) *
                               fabs((double)gain[(size_t)k]) / sqrt(variance + (double)EPSILON) +
                           fabs((double)offset[(size_t)k]) * K * 0x1p-24;
    }
    return error;
}

// x += h W1^T + b1, then y = epilogue(LN(x) W2^T + b2): h (B, F), x (B, C), y (B, N). `next`: when the first
// product lets the second start.
void check_pair(enum dtype dtype, int B, int C, int F, int N, enum decode_epilogue epilogue,
                enum decode_next next = NEXT_AFTER_WAIT) {
    const size_t b = (size_t)B, c = (size_t)C, f = (size_t)F, n = (size_t)N;
    const uint32_t seed = (uint32_t)(B * 131 + C * 7 + F);
    std::vector<float> h = random_values(b * f, seed, 1.0f), w1 = random_values(c * f, seed + 1, 0.05f),
                       b1 = random_values(c, seed + 2, 0.5f), x = random_values(b * c, seed + 3, 2.0f, 0.3f),
                       gain = random_values(c, seed + 4, 0.2f, 1.0f),
                       offset = random_values(c, seed + 5, 0.1f), w2 = random_values(n * c, seed + 6, 0.05f),
                       b2 = random_values(n, seed + 7, 0.5f);
    for (std::vector<float> *values : {&h, &w1, &w2, &b2}) round_to(dtype, *values);
    assert_true(decode_linear_supports(dtype, C, F) && decode_linear_supports(dtype, N, C));
    device_array dh(dtype, h), dw1(dtype, w1), db1(DTYPE_F32, b1), dgain(DTYPE_F32, gain),
        doffset(DTYPE_F32, offset), dw2(dtype, w2), db2(dtype, b2), sums(4 * n), folded(4 * n), y(2 * b * n);
    rows_on_device rows(x, b, c);
    require(cudaMemset(y.data, 0xff, 2 * b * n));
    require(deferred_norm_fold(dtype, dw2.data, db2.data, (const float *)dgain.data,
                               (const float *)doffset.data, N, C, (float *)sums.data, (float *)folded.data,
                               nullptr));
    decode_linear_args first = {}, second = {};
    first.dtype = second.dtype = dtype;
    first.B = second.B = B;
    first.N = C, first.K = F;
    first.input = dh.data, first.weight = dw1.data, first.bias = (const float *)db1.data;
    first.epilogue = DECODE_RESIDUAL;
    first.residual = rows.view();
    first.next_gain = (const float *)dgain.data;
    first.next = next;
    second.N = N, second.K = C;
    second.input = rows.scaled.data, second.weight = dw2.data, second.bias = (const float *)folded.data;
    second.stats = (const float2 *)rows.stats.data, second.sums = (const float *)sums.data;
    second.epsilon = EPSILON;
    second.epilogue = epilogue;
    second.out = y.data;
    require(decode_linear_run(&first, nullptr));
    require(decode_linear_run(&second, nullptr));
    require(cudaDeviceSynchronize());

    const double u = unit_roundoff(dtype);
    const std::vector<float> sum = rows.x.read(DTYPE_F32, b * c);
    compare_product("residual", sum, std::vector<double>(h.begin(), h.end()), w1, b1,
                    std::vector<double>(b * f, 0.0), DECODE_RESIDUAL, &x, u, B, C, F);
    std::vector<double> normed, error;
    for (size_t row = 0; row < b; row++) {
        const std::vector<double> exact = layer_norm(&sum[row * c], gain, offset, C);
        normed.insert(normed.end(), exact.begin(), exact.end());
        const std::vector<double> bound = norm_error(dtype, &sum[row * c], gain, offset, C);
        error.insert(error.end(), bound.begin(), bound.end());
    }
    compare_product("deferred norm", y.read(dtype, b * n), normed, w2, b2, error, epilogue, nullptr, u, B, N,
                    C);
}

void test_pairs(void **) {
    if (!device_is_ready()) skip();
    for (enum dtype dtype : {DTYPE_BF16, DTYPE_F16}) {
        for (int B : {1, 2, 7, 8, 9, 16, 17, 33, 64, 93, 128, 129, 257}) {
            check_pair(dtype, B, 64, 64, 64, DECODE_STORE);
            for (enum decode_next next : {NEXT_AFTER_WAIT, NEXT_AT_ONCE, NEXT_AFTER_ROWS})
                check_pair(dtype, B, 192, 768, 576, DECODE_GELU, next);
        }
        check_pair(dtype, 1, 768, 3072, 3072, DECODE_GELU);
        check_pair(dtype, 5, 768, 768, 2304, DECODE_STORE);
        check_pair(dtype, 93, 768, 3072, 2304, DECODE_STORE);
        check_pair(dtype, 257, 768, 3072, 2304, DECODE_STORE, NEXT_AFTER_ROWS); // of a ring of stages
        check_pair(dtype, 3, 1600, 6400, 4800, DECODE_STORE);
        check_pair(dtype, 40, 1280, 5120, 5120, DECODE_GELU);
        check_pair(dtype, 12, 1024, 1024, 3072, DECODE_STORE);
    }
}

// Attention reads lengths and cache before its wait: nothing may start before what the step before wrote of
// them is complete, and attention has no first rows to wait for.
void test_next(void **) {
    for (int C = 64; C <= 2048; C += 64) {
        for (int B = 1; B <= 1100; B++) {
            assert_int_not_equal(decode_next_choose(DECODE_QKV, 0, B, C), NEXT_AT_ONCE);
            for (int layer = 0; layer < 2; layer++)
                assert_int_not_equal(decode_next_choose(DECODE_ATTENTION, layer, B, C), NEXT_AFTER_ROWS);
        }
    }
    assert_int_equal(decode_next_choose(DECODE_QKV, 1, 16, 768), NEXT_AT_ONCE);
    assert_int_equal(decode_next_choose(DECODE_FC2, 1, 256, 768), NEXT_AFTER_ROWS);
}

// Logits against float64, and the chosen token against the logits the kernel itself wrote.
void check_head(enum dtype dtype, int B, int V, int K) {
    const size_t padded = ((size_t)V + 7) / 8 * 8, b_ = (size_t)B, k_ = (size_t)K;
    // The rows come out of a product with a zero weight, which leaves x as it is, and its statistics.
    std::vector<float> x = random_values(b_ * k_, 3, 2.0f), w = random_values(padded * k_, 4, 0.02f),
                       gain = random_values(k_, 5, 0.2f, 1.0f), offset = random_values(k_, 6, 0.1f);
    round_to(dtype, w);
    // Rows behind the vocabulary that would win if they counted, and two equal best rows: the lower id must
    // win.
    for (size_t k = 0; k < (size_t)K; k++) {
        for (size_t v = (size_t)V; v < padded; v++) w[v * (size_t)K + k] = 1.0f;
        w[(size_t)(V - 2) * (size_t)K + k] = w[(size_t)(V / 3) * (size_t)K + k];
    }
    device_array dw(dtype, w), dgain(DTYPE_F32, gain), doffset(DTYPE_F32, offset),
        logits(sizeof(float) * b_ * padded), sums(4 * padded), biases(4 * padded),
        partial(sizeof(int2) * b_ * (size_t)decode_head_blocks(B)),
        zeros(dtype, std::vector<float>(k_ * std::max(k_, b_), 0.0f)),
        no_bias(DTYPE_F32, std::vector<float>(k_, 0.0f));
    std::vector<float> wpe = random_values(8 * k_, 7, 0.1f);
    round_to(dtype, wpe);
    device_array dwpe(dtype, wpe);
    rows_on_device rows(x, b_, k_);
    decode_linear_args identity = {};
    identity.dtype = dtype;
    identity.B = B, identity.N = identity.K = K;
    identity.input = identity.weight = zeros.data;
    identity.bias = (const float *)no_bias.data;
    identity.epilogue = DECODE_RESIDUAL;
    identity.residual = rows.view();
    identity.next_gain = (const float *)dgain.data;
    require(decode_linear_run(&identity, nullptr));
    require(deferred_norm_fold(dtype, dw.data, nullptr, (const float *)dgain.data,
                               (const float *)doffset.data, V, K, (float *)sums.data, (float *)biases.data,
                               nullptr));
    std::vector<int32_t> lengths((size_t)B, 3), tokens((size_t)B * 8, -7);
    lengths[0] = B > 1 ? 0 : 3; // a free row stays as it is
    device_array dl(sizeof(int32_t) * lengths.size()), dt(sizeof(int32_t) * tokens.size());
    require(cudaMemcpy(dl.data, lengths.data(), sizeof(int32_t) * lengths.size(), cudaMemcpyHostToDevice));
    require(cudaMemcpy(dt.data, tokens.data(), sizeof(int32_t) * tokens.size(), cudaMemcpyHostToDevice));
    assert_true(decode_head_supports(dtype, B, K));
    decode_head_args args = {};
    args.dtype = dtype;
    args.B = B, args.V = V, args.K = K;
    args.rows = rows.view();
    args.weight = dw.data;
    args.sums = (const float *)sums.data, args.biases = (const float *)biases.data;
    args.epsilon = EPSILON;
    args.logits = (float *)logits.data, args.ld = (int)padded;
    args.partial = (int2 *)partial.data;
    require(decode_head_run(&args, nullptr));
    rows_on_device next_rows(x, b_, k_);
    const deferred_embedding next = {dtype,
                                     B,
                                     K,
                                     next_rows.view(),
                                     (const float *)dgain.data,
                                     dw.data,
                                     dwpe.data,
                                     (int32_t *)dt.data,
                                     (int32_t *)dl.data,
                                     8};
    require(decode_head_finish(args.partial, V, &next, nullptr));
    require(cudaDeviceSynchronize());
    const std::vector<float> found = logits.read(DTYPE_F32, (size_t)B * padded);
    const std::vector<float> embedded = next_rows.x.read(DTYPE_F32, b_ * k_);
    std::vector<int32_t> new_lengths((size_t)B), new_tokens((size_t)B * 8);
    require(cudaMemcpy(new_lengths.data(), dl.data, sizeof(int32_t) * new_lengths.size(),
                       cudaMemcpyDeviceToHost));
    require(
        cudaMemcpy(new_tokens.data(), dt.data, sizeof(int32_t) * new_tokens.size(), cudaMemcpyDeviceToHost));
    for (size_t b = 0; b < (size_t)B; b++) {
        const std::vector<double> row = layer_norm(&x[b * k_], gain, offset, K),
                                  error = norm_error(dtype, &x[b * k_], gain, offset, K);
        int best = 0;
        for (int v = 0; v < V; v++) {
            const float logit = found[b * padded + (size_t)v];
            if (logit > found[b * padded + (size_t)best]) best = v;
            if (v % 13 != 0) continue;
            double exact = 0, tolerance = 1e-6;
            for (size_t k = 0; k < (size_t)K; k++) {
                exact += row[k] * w[(size_t)v * (size_t)K + k];
                tolerance += error[k] * fabs((double)w[(size_t)v * (size_t)K + k]);
            }
            if (!(fabs(logit - exact) <= tolerance))
                fail_msg("head B=%d V=%d: row %zu logit %d found %g, expected %g", B, V, b, v, (double)logit,
                         exact);
        }
        const bool live = lengths[b] > 0;
        assert_int_equal(new_lengths[b], lengths[b] + live);
        for (int i = 0; i < 8; i++)
            assert_int_equal(new_tokens[b * 8 + (size_t)i], live && i == 3 ? best : -7);
        for (size_t k = 0; k < k_; k++) // the next step's input, at position 3
            assert_true(embedded[b * k_ + k] == (live ? w[(size_t)best * k_ + k] + wpe[3 * k_ + k] : 0.0f));
    }
}

void test_head(void **) {
    if (!device_is_ready()) skip();
    for (enum dtype dtype : {DTYPE_BF16, DTYPE_F16}) {
        for (int B : {1, 3, 16, 17, 40, 93, 96}) {
            check_head(dtype, B, 769, 192);
            check_head(dtype, B, 5003, 768);
        }
    }
    check_head(DTYPE_BF16, 2, 50257, 768);
    check_head(DTYPE_BF16, 16, 7001, 1600);
}

} // namespace

int main() {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pairs),
        cmocka_unit_test(test_next),
        cmocka_unit_test(test_head),
    };
    return cmocka_run_group_tests_name("decode linear layers", tests, nullptr, nullptr);
}
