// The decode path's own matrix products (few rows, LM head with argmax) against float64.
#include "base/dtype.h"
#include "cuda/skinny.h"

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
    return cudaGetDeviceCount(&count) == cudaSuccess && count > 0 &&
           skinny_supports(DTYPE_BF16, 1, 16, 32, false);
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

struct problem {
    enum dtype dtype;
    int B, N, K;
    bool norm;
    enum skinny_epilogue epilogue;
};

// Worst-case rounding: a normalised x is off by u relative, each of K additions in f32 by 2^-24 of the sum of
// magnitudes, a stored output by u relative; gelu's slope is at most 1.13.
void check(const problem &p) {
    const size_t B = (size_t)p.B, N = (size_t)p.N, K = (size_t)p.K;
    const uint32_t seed = (uint32_t)(p.B * 131 + p.N * 7 + p.K);
    std::vector<float> x = random_values(B * K, seed, 2.0f, 0.3f), w = random_values(N * K, seed + 1, 0.05f),
                       bias = random_values(N, seed + 2, 0.5f), gain = random_values(K, seed + 3, 0.2f, 1.0f),
                       offset = random_values(K, seed + 4, 0.1f),
                       before = random_values(B * N, seed + 5, 1.0f);
    const bool residual = p.epilogue == SKINNY_RESIDUAL;
    const enum dtype out_dtype = residual ? DTYPE_F32 : p.dtype;
    round_to(p.dtype, w);
    if (!p.norm) round_to(p.dtype, x);
    if (!residual) round_to(p.dtype, bias);
    device_array dx(p.norm ? DTYPE_F32 : p.dtype, x), dw(p.dtype, w), db(out_dtype, bias),
        dg(DTYPE_F32, gain), dofs(DTYPE_F32, offset), out(residual ? DTYPE_F32 : p.dtype, before);
    if (!residual) require(cudaMemset(out.data, 0xff, B * N * dtype_size(out_dtype))); // NaN
    assert_true(skinny_supports(p.dtype, p.B, p.N, p.K, p.norm));
    skinny_norm norm = {nullptr, nullptr, EPSILON};
    if (p.norm) norm.weight = (const float *)dg.data, norm.bias = (const float *)dofs.data;
    skinny_args args = {p.dtype, p.B, p.N, p.K, dx.data, norm, dw.data, db.data, p.epilogue, out.data};
    require(skinny_run(&args, nullptr));
    require(cudaDeviceSynchronize());
    const std::vector<float> found = out.read(out_dtype, B * N);
    const double u = unit_roundoff(p.dtype);
    for (size_t b = 0; b < B; b++) {
        std::vector<double> row(x.begin() + (ptrdiff_t)(b * K), x.begin() + (ptrdiff_t)((b + 1) * K));
        if (p.norm) row = layer_norm(&x[b * K], gain, offset, p.K);
        for (size_t n = 0; n<N; n += N> 1024 ? 7 : 1) {
            double exact = bias[n], magnitude = fabs((double)bias[n]);
            for (size_t k = 0; k < K; k++) {
                exact += row[k] * w[n * K + k];
                magnitude += fabs(row[k] * w[n * K + k]);
            }
            double tolerance = magnitude * ((p.norm ? u : 0) + (double)K * 0x1p-24);
            if (p.epilogue == SKINNY_GELU) {
                exact = gelu(exact);
                tolerance *= 1.13;
            }
            if (residual) exact += before[b * N + n];
            tolerance += fabs(exact) * (residual ? 0x1p-22 : u) + 1e-6;
            if (!(fabs(found[b * N + n] - exact) <= tolerance)) {
                fail_msg("B=%d N=%d K=%d norm=%d epilogue=%d: (%zu, %zu) found %g, expected %g, tolerance %g",
                         p.B, p.N, p.K, p.norm, (int)p.epilogue, b, n, (double)found[b * N + n], exact,
                         tolerance);
            }
        }
    }
}

void test_skinny(void **) {
    if (!device_is_ready()) skip();
    const int rows[] = {1, 3, 8, 9, 16};
    for (enum dtype dtype : {DTYPE_BF16, DTYPE_F16}) {
        for (int B : rows) {
            check({dtype, B, 96, 32, true, SKINNY_STORE});
            check({dtype, B, 288, 96, true, SKINNY_GELU});
            check({dtype, B, 192, 768, false, SKINNY_RESIDUAL});
            check({dtype, B, 2304, 768, true, SKINNY_STORE});
            check({dtype, B, 768, 3072, false, SKINNY_RESIDUAL});
        }
        for (int C : {1024, 1280, 1600}) {
            check({dtype, 2, 4 * C, C, true, SKINNY_GELU});
            check({dtype, 11, 4 * C, C, true, SKINNY_GELU});
            check({dtype, 2, C, 4 * C, false, SKINNY_RESIDUAL});
            check({dtype, 11, C, 4 * C, false, SKINNY_RESIDUAL});
        }
    }
}

// Logits against float64, and the chosen token against the logits the kernel itself wrote.
void check_head(enum dtype dtype, int B, int V, int K) {
    const size_t padded = ((size_t)V + 7) / 8 * 8;
    std::vector<float> x = random_values((size_t)(B * K), 3, 2.0f),
                       w = random_values(padded * (size_t)K, 4, 0.02f),
                       gain = random_values((size_t)K, 5, 0.2f, 1.0f),
                       offset = random_values((size_t)K, 6, 0.1f);
    round_to(dtype, w);
    // Rows behind the vocabulary that would win if they counted, and two equal best rows: the lower id must
    // win.
    for (size_t k = 0; k < (size_t)K; k++) {
        for (size_t v = (size_t)V; v < padded; v++) w[v * (size_t)K + k] = 1.0f;
        w[(size_t)(V - 2) * (size_t)K + k] = w[(size_t)(V / 3) * (size_t)K + k];
    }
    device_array dx(DTYPE_F32, x), dw(dtype, w), dg(DTYPE_F32, gain), dofs(DTYPE_F32, offset),
        logits(sizeof(float) * (size_t)B * padded),
        partial(sizeof(int2) * (size_t)(B * skinny_head_blocks()));
    std::vector<int32_t> lengths((size_t)B, 3), tokens((size_t)B * 8, -7);
    lengths[0] = B > 1 ? 0 : 3; // a free row stays as it is
    device_array dl(sizeof(int32_t) * lengths.size()), dt(sizeof(int32_t) * tokens.size());
    require(cudaMemcpy(dl.data, lengths.data(), sizeof(int32_t) * lengths.size(), cudaMemcpyHostToDevice));
    require(cudaMemcpy(dt.data, tokens.data(), sizeof(int32_t) * tokens.size(), cudaMemcpyHostToDevice));
    skinny_norm norm = {(const float *)dg.data, (const float *)dofs.data, EPSILON};
    skinny_head_args args = {dtype,
                             B,
                             V,
                             K,
                             (const float *)dx.data,
                             norm,
                             dw.data,
                             (float *)logits.data,
                             (int)padded,
                             (int2 *)partial.data};
    require(skinny_head_run(&args, nullptr));
    require(skinny_head_finish((const int2 *)partial.data, B, V, (int32_t *)dt.data, 8, (int32_t *)dl.data,
                               nullptr));
    require(cudaDeviceSynchronize());
    const std::vector<float> found = logits.read(DTYPE_F32, (size_t)B * padded);
    std::vector<int32_t> new_lengths((size_t)B), new_tokens((size_t)B * 8);
    require(cudaMemcpy(new_lengths.data(), dl.data, sizeof(int32_t) * new_lengths.size(),
                       cudaMemcpyDeviceToHost));
    require(
        cudaMemcpy(new_tokens.data(), dt.data, sizeof(int32_t) * new_tokens.size(), cudaMemcpyDeviceToHost));
    for (size_t b = 0; b < (size_t)B; b++) {
        std::vector<double> row = layer_norm(&x[b * (size_t)K], gain, offset, K);
        int best = 0;
        for (int v = 0; v < V; v++) {
            const float logit = found[b * padded + (size_t)v];
            if (logit > found[b * padded + (size_t)best]) best = v;
            if (v % 13 != 0) continue;
            double exact = 0, magnitude = 0;
            for (size_t k = 0; k < (size_t)K; k++) {
                exact += row[k] * w[(size_t)v * (size_t)K + k];
                magnitude += fabs(row[k] * w[(size_t)v * (size_t)K + k]);
            }
            if (!(fabs(logit - exact) <= magnitude * (unit_roundoff(dtype) + K * 0x1p-24)))
                fail_msg("head B=%d V=%d: row %zu logit %d found %g, expected %g", B, V, b, v, (double)logit,
                         exact);
        }
        const bool live = lengths[b] > 0;
        assert_int_equal(new_lengths[b], lengths[b] + live);
        for (int i = 0; i < 8; i++)
            assert_int_equal(new_tokens[b * 8 + (size_t)i], live && i == 3 ? best : -7);
    }
}

void test_head(void **) {
    if (!device_is_ready()) skip();
    for (enum dtype dtype : {DTYPE_BF16, DTYPE_F16}) {
        for (int B : {1, 3, 8, 9, 16}) {
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
        cmocka_unit_test(test_skinny),
        cmocka_unit_test(test_head),
    };
    return cmocka_run_group_tests_name("decode linear layers", tests, nullptr, nullptr);
}
