// Every attention variant against a float64 reference, on ragged rows, packed and cached.
#include "cuda/attention.h"
#include "support/cuda_test.cuh"

static const enum attention_variant VARIANTS[] = {ATTENTION_NAIVE, ATTENTION_FLASH, ATTENTION_SPLITKV};
static const enum attention_variant DECODE_VARIANTS[] = {ATTENTION_NAIVE, ATTENTION_FLASH, ATTENTION_SPLITKV,
                                                         ATTENTION_STREAM};
static const enum dtype DTYPES[] = {DTYPE_F32, DTYPE_F16, DTYPE_BF16};

// ---- the reference

struct expectation {
    double value, tolerance; // the tolerance without the rounding of numerators to the dtype
    double magnitude;        // sum of weight * |v|
};

// One query against `keys` keys: q (D), k and v (keys, D) as f32.
//
// Tolerance. With u the unit roundoff of f32 and S the largest sum of |q||k|, scaled: a score is a sum of D
// products times a scale, and loses (D + 2) u S; its distance to the maximum is rounded, u S, and so is the
// change to base 2; the exponential itself is good to 4 u. So a weight errs by e = ((D + 4) S + 8) u
// relatively, and a sum of `keys` of them by keys u more, numerator and denominator alike: 2 (e + keys u) of
// the sum of weight * |v|. The output is rounded to the dtype once.
static std::vector<expectation> attend(enum dtype dtype, const float *q, const float *k, const float *v,
                                       int keys, int D, double scale) {
    std::vector<double> weight(keys);
    double highest = -INFINITY, largest = 0, sum = 0;
    for (int t = 0; t < keys; t++) {
        double dot = 0, size = 0;
        for (int d = 0; d < D; d++) {
            double product = static_cast<double>(q[d]) * k[t * D + d];
            dot += product;
            size += std::fabs(product);
        }
        weight[t] = dot * scale;
        highest = std::fmax(highest, weight[t]);
        largest = std::fmax(largest, size * scale);
    }
    for (double &w : weight) sum += w = std::exp(w - highest);
    double u = unit_roundoff(DTYPE_F32), relative = 2 * u * ((D + 4) * largest + 8 + keys);
    std::vector<expectation> result(D);
    for (int d = 0; d < D; d++) {
        expectation &out = result[d];
        out = {};
        for (int t = 0; t < keys; t++) {
            out.value += weight[t] / sum * v[t * D + d];
            out.magnitude += weight[t] / sum * std::fabs(v[t * D + d]);
        }
        out.tolerance = relative * out.magnitude +
                        unit_roundoff(dtype) * (std::fabs(out.value) + out.magnitude * relative);
    }
    return result;
}

static void compare(enum attention_variant variant, enum dtype dtype,
                    const std::vector<expectation> &expected, const float *out, const char *where, int B,
                    int T, int D, int row, int query, int head) {
    for (int d = 0; d < D; d++) {
        // The tensor-core form rounds numerators, but not their sum, to the dtype.
        double tolerance = expected[d].tolerance;
        if (variant == ATTENTION_FLASH && dtype != DTYPE_F32)
            tolerance += unit_roundoff(dtype) * (1 + unit_roundoff(dtype)) * expected[d].magnitude;
        if (dtype == DTYPE_F16) tolerance += std::ldexp(1, -25); // half a unit of subnormal numbers
        if (!(std::fabs(out[d] - expected[d].value) <= tolerance))
            fail_msg("%s %s %s, B=%d T=%d D=%d: row %d query %d head %d d %d is %.9g, expected %.9g +- %.3g",
                     attention_variant_name(variant), where, dtype_name(dtype), B, T, D, row, query, head, d,
                     out[d], expected[d].value, tolerance);
    }
}

// Lengths 1 .. T, the first T; the second row is free.
static std::vector<int32_t> ragged_lengths(std::mt19937 &generator, int B, int T) {
    std::vector<int32_t> lengths(B);
    for (int b = 0; b < B; b++) lengths[b] = b == 0 ? T : b == 1 ? 0 : 1 + static_cast<int>(generator() % T);
    return lengths;
}

struct workspace {
    device_array<uint8_t> memory;
    workspace(enum attention_variant variant, int B, int H, int D, int max_queries, int max_keys)
        : memory(attention_workspace_bytes(variant, B, H, D, max_queries, max_keys)) {
        check_cuda(
            cudaMemset(memory.get(), 0, attention_workspace_bytes(variant, B, H, D, max_queries, max_keys)));
    }
};

static void run(enum attention_variant variant, const struct attention_args &args) {
    struct error error = {};
    check_status(attention_run(variant, &args, nullptr, &error), error);
    check_cuda(cudaDeviceSynchronize());
}

// ---- packed rows, every query of a row against its own prefix

static void check_packed(int B, int H, int T, int D, enum dtype dtype) {
    std::mt19937 generator(static_cast<unsigned>(B * 7919 + T * 31 + D + static_cast<int>(dtype)));
    std::vector<int32_t> lengths = ragged_lengths(generator, B, T), starts(1, 0);
    for (int32_t length : lengths) starts.push_back(starts.back() + length);
    int C = H * D, N = starts.back(), padded = N + 3;
    std::vector<float> qkv = random_values(generator, dtype, static_cast<size_t>(N) * 3 * C);
    qkv.resize(static_cast<size_t>(padded) * 3 * C, NAN);
    float scale = 1 / std::sqrt(static_cast<float>(D));

    std::vector<expectation> expected(static_cast<size_t>(N) * C);
    for (int b = 0; b < B; b++) {
        for (int h = 0; h < H; h++) {
            int n = lengths[b];
            std::vector<float> k(n * D), v(n * D);
            for (int t = 0; t < n; t++) {
                const float *token = &qkv[static_cast<size_t>(starts[b] + t) * 3 * C + h * D];
                std::copy_n(token + C, D, &k[t * D]);
                std::copy_n(token + 2 * C, D, &v[t * D]);
            }
#pragma omp parallel for schedule(dynamic)
            for (int t = 0; t < n; t++) {
                size_t token = static_cast<size_t>(starts[b] + t);
                std::vector<expectation> one =
                    attend(dtype, &qkv[token * 3 * C + h * D], k.data(), v.data(), t + 1, D, scale);
                std::copy(one.begin(), one.end(), &expected[token * C + h * D]);
            }
        }
    }

    device_array<uint8_t> d_qkv(to_bytes(dtype, qkv));
    device_array<int32_t> d_starts(starts);
    uint8_t *base = d_qkv.get();
    for (enum attention_variant variant : VARIANTS) {
        device_array<uint8_t> out(to_bytes(dtype, poison(static_cast<size_t>(padded) * C)));
        workspace space(variant, B, H, D, T, T);
        struct attention_args args = {};
        args.dtype = dtype;
        args.B = B, args.H = H, args.D = D, args.scale = scale;
        args.q = attention_packed(base, 3 * C, D, d_starts.get());
        args.k = attention_packed(base + C * dtype_size(dtype), 3 * C, D, d_starts.get());
        args.v = attention_packed(base + 2 * C * dtype_size(dtype), 3 * C, D, d_starts.get());
        args.out = out.get();
        args.max_queries = args.max_keys = T;
        args.workspace = space.memory.get();
        run(variant, args);
        std::vector<float> result = from_bytes(dtype, out.download());
        for (int b = 0; b < B; b++) {
            for (int t = 0; t < lengths[b]; t++) {
                for (int h = 0; h < H; h++) {
                    size_t at = static_cast<size_t>(starts[b] + t) * C + h * D;
                    std::vector<expectation> one(&expected[at], &expected[at] + D);
                    compare(variant, dtype, one, &result[at], "packed", B, T, D, b, t, h);
                }
            }
        }
        for (size_t i = static_cast<size_t>(N) * C; i < result.size(); i++)
            assert_true(std::isnan(result[i]));
    }
}

static void packed(int B, int H, const std::vector<int> &lengths) {
    for (int T : lengths) {
        for (int D : {4, 32, 64, 128}) {
            for (enum dtype dtype : DTYPES) check_packed(B, H, T, D, dtype);
        }
    }
}

static void packed_one_row(void **) {
    need_device();
    packed(1, 3, {1, 17, 64, 65, 128, 250});
}
static void packed_long_row(void **) {
    need_device();
    packed(1, 1, {1023});
}
static void packed_three_rows(void **) {
    need_device();
    packed(3, 5, {1, 17, 65, 128});
}
static void packed_many_rows(void **) {
    need_device();
    packed(93, 3, {17, 65});
}

// ---- decode: one query per row against the cache, its own key and value appended

struct decode_case {
    int B, H, T, D, max_tokens;
    enum dtype dtype;
    std::vector<int32_t> lengths;
    std::vector<float> qkv, k, v; // (B, 3C), (B, H, max_tokens, D): NaN from each row's newest token on

    decode_case(int B_, int H_, int T_, int D_, enum dtype dtype_)
        : B(B_), H(H_), T(T_), D(D_), max_tokens(T_ + 2), dtype(dtype_) {
        std::mt19937 generator(static_cast<unsigned>(B * 104729 + T * 131 + D + static_cast<int>(dtype)));
        lengths = ragged_lengths(generator, B, T);
        fill(generator);
    }
    decode_case(const std::vector<int32_t> &lengths_, int H_, int D_, enum dtype dtype_)
        : B(static_cast<int>(lengths_.size())), H(H_), T(*std::max_element(lengths_.begin(), lengths_.end())),
          D(D_), max_tokens(T + 2), dtype(dtype_), lengths(lengths_) {
        std::mt19937 generator(static_cast<unsigned>(T * 131 + D + static_cast<int>(dtype)));
        fill(generator);
    }
    void fill(std::mt19937 &generator) {
        qkv = random_values(generator, dtype, static_cast<size_t>(B) * 3 * H * D);
        k = random_values(generator, dtype, static_cast<size_t>(B) * H * max_tokens * D);
        v = random_values(generator, dtype, k.size());
        for (int b = 0; b < B; b++) {
            for (int h = 0; h < H; h++) {
                for (int t = std::max(0, lengths[b] - 1); t < max_tokens; t++) {
                    std::fill_n(&k[cell(b, h, t)], D, NAN);
                    std::fill_n(&v[cell(b, h, t)], D, NAN);
                }
            }
        }
    }
    size_t cell(int b, int h, int t) const { return ((static_cast<size_t>(b) * H + h) * max_tokens + t) * D; }
    float scale() const { return 1 / std::sqrt(static_cast<float>(D)); }

    // What the caches must hold afterwards.
    void append() {
        int C = H * D;
        for (int b = 0; b < B; b++) {
            if (lengths[b] == 0) continue;
            for (int h = 0; h < H; h++) {
                const float *own = &qkv[static_cast<size_t>(b) * 3 * C + h * D];
                std::copy_n(own + C, D, &k[cell(b, h, lengths[b] - 1)]);
                std::copy_n(own + 2 * C, D, &v[cell(b, h, lengths[b] - 1)]);
            }
        }
    }

    // Rows first .. first + rows - 1 as a batch of their own, without pointers to what is computed.
    struct attention_args describe(int first, int rows, int max_keys, uint8_t *d_qkv, uint8_t *d_k,
                                   uint8_t *d_v, const int32_t *d_lengths) const {
        size_t size = dtype_size(dtype);
        int C = H * D;
        uint8_t *base = d_qkv + static_cast<size_t>(first) * 3 * C * size;
        struct attention_args args = {};
        args.dtype = dtype;
        args.B = rows, args.H = H, args.D = D, args.scale = scale();
        args.q = attention_packed(base, 3 * C, D, nullptr);
        args.k = attention_cache(d_k + cell(first, 0, 0) * size, H, max_tokens, D);
        args.v = attention_cache(d_v + cell(first, 0, 0) * size, H, max_tokens, D);
        args.lengths = d_lengths + first;
        args.new_k = base + C * size;
        args.new_v = base + 2 * C * size;
        args.max_queries = 1;
        args.max_keys = max_keys;
        return args;
    }

    // The output bytes (B, C) of these rows, run `repeats` times, always the same; with `stored`, the caches
    // hold the newest token already.
    std::vector<uint8_t> run_rows(enum attention_variant variant, int first, int rows, int max_keys,
                                  int repeats, device_array<uint8_t> &d_k, device_array<uint8_t> &d_v,
                                  bool stored = false) const {
        std::vector<uint8_t> poisoned = to_bytes(dtype, poison(static_cast<size_t>(rows) * H * D)), result;
        device_array<uint8_t> d_qkv(to_bytes(dtype, qkv)), out(poisoned);
        device_array<int32_t> d_lengths(lengths);
        workspace space(variant, rows, H, D, 1, max_keys);
        struct attention_args args =
            describe(first, rows, max_keys, d_qkv.get(), d_k.get(), d_v.get(), d_lengths.get());
        if (stored) args.new_k = args.new_v = nullptr;
        args.out = out.get();
        args.workspace = space.memory.get();
        for (int i = 0; i < repeats; i++) {
            out.upload(poisoned);
            run(variant, args);
            std::vector<uint8_t> again = out.download();
            if (i > 0) assert_true(again == result);
            result = again;
        }
        return result;
    }

    // Whether the variant runs this case on this device; what `stream` must run is asserted.
    bool runs(enum attention_variant variant) const {
        if (variant != ATTENTION_STREAM) return true;
        device_array<uint8_t> memory(16);
        device_array<int32_t> d_lengths(lengths);
        struct attention_args args =
            describe(0, B, T, memory.get(), memory.get(), memory.get(), d_lengths.get());
        args.out = memory.get();
        int device = 0, major = 0;
        check_cuda(cudaGetDevice(&device));
        check_cuda(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device));
        bool expected = major >= 9 && dtype != DTYPE_F32 && (D == 64 || D == 128);
        assert_int_equal(attention_stream_supports(&args), expected);
        return expected;
    }
};

static void assert_same_bytes(const std::vector<uint8_t> &a, const std::vector<uint8_t> &b) {
    assert_int_equal(a.size(), b.size());
    assert_memory_equal(a.data(), b.data(), a.size());
}

static void check_decode(decode_case &test) {
    const int B = test.B, H = test.H, T = test.T, D = test.D;
    const enum dtype dtype = test.dtype;
    std::vector<uint8_t> k_before = to_bytes(dtype, test.k), v_before = to_bytes(dtype, test.v);
    test.append();
    std::vector<uint8_t> k_after = to_bytes(dtype, test.k), v_after = to_bytes(dtype, test.v);
    std::vector<expectation> expected(static_cast<size_t>(B) * H * D);
#pragma omp parallel for schedule(dynamic)
    for (int item = 0; item < B * H; item++) {
        int b = item / H, h = item % H;
        if (test.lengths[b] == 0) continue;
        std::vector<expectation> one =
            attend(dtype, &test.qkv[static_cast<size_t>(b) * 3 * H * D + h * D], &test.k[test.cell(b, h, 0)],
                   &test.v[test.cell(b, h, 0)], test.lengths[b], D, test.scale());
        std::copy(one.begin(), one.end(), &expected[static_cast<size_t>(item) * D]);
    }
    for (enum attention_variant variant : DECODE_VARIANTS) {
        if (!test.runs(variant)) continue;
        device_array<uint8_t> d_k(k_before), d_v(v_before);
        // A bound above the true lengths, and a second run over what the first one left.
        std::vector<uint8_t> bytes = test.run_rows(variant, 0, B, T + 2, 2, d_k, d_v);
        std::vector<float> out = from_bytes(dtype, bytes);
        for (int item = 0; item < B * H; item++) {
            size_t at = static_cast<size_t>(item) * D;
            if (test.lengths[item / H] == 0) {
                for (int d = 0; d < D; d++) assert_true(std::isnan(out[at + d]));
                continue;
            }
            std::vector<expectation> one(&expected[at], &expected[at] + D);
            compare(variant, dtype, one, &out[at], "decode", B, T, D, item / H, 0, item % H);
        }
        assert_same_bytes(d_k.download(), k_after);
        assert_same_bytes(d_v.download(), v_after);
        assert_same_bytes(test.run_rows(variant, 0, B, T + 2, 1, d_k, d_v, true), bytes);
    }
}

static void check_decode(int B, int H, int T, int D, enum dtype dtype) {
    decode_case test(B, H, T, D, dtype);
    check_decode(test);
}

static void decode(int B, int H, const std::vector<int> &lengths, const std::vector<int> &head_sizes) {
    for (int T : lengths) {
        for (int D : head_sizes) {
            for (enum dtype dtype : DTYPES) check_decode(B, H, T, D, dtype);
        }
    }
}

static void decode_one_row(void **) {
    need_device();
    decode(1, 5, {1, 17, 64, 65, 128, 250, 1023}, {4, 32, 64, 128});
}
static void decode_three_rows(void **) {
    need_device();
    decode(3, 12, {1, 17, 64, 65, 128, 250, 1023}, {4, 32, 64, 128});
}
static void decode_many_rows(void **) {
    need_device();
    decode(93, 3, {1, 17, 65, 250}, {4, 32, 64, 128});
    decode(93, 3, {1023}, {64});
}

// Around the sizes at which octets, chunks and segments of keys end, in one batch.
static void decode_around_boundaries(void **) {
    need_device();
    const std::vector<int32_t> lengths = {1,   2,   7,   8,   9,   15,  16,  17,  31,   32,   33,
                                          63,  64,  65,  127, 128, 129, 255, 256, 257,  0,    288,
                                          289, 511, 512, 513, 0,   767, 768, 769, 1000, 1024, 0};
    for (int D : {64, 128}) {
        for (enum dtype dtype : {DTYPE_F16, DTYPE_BF16}) {
            decode_case test(lengths, 5, D, dtype);
            check_decode(test);
        }
    }
}

// More work than the device holds at a time, several times over.
static void decode_very_many_rows(void **) {
    need_device();
    check_decode(400, 12, 130, 64, DTYPE_BF16);
}

// A row's bits depend neither on its neighbours nor on how the work was shared out.
static void decode_is_independent_of_the_batch(void **) {
    need_device();
    for (int T : {65, 250, 1023}) {
        decode_case test(93, 3, T, 64, DTYPE_BF16);
        device_array<uint8_t> d_k(to_bytes(test.dtype, test.k)), d_v(to_bytes(test.dtype, test.v));
        size_t row_bytes = static_cast<size_t>(3 * 64) * dtype_size(test.dtype);
        for (enum attention_variant variant : {ATTENTION_SPLITKV, ATTENTION_STREAM}) {
            if (!test.runs(variant)) continue;
            std::vector<uint8_t> together = test.run_rows(variant, 0, 93, T, 20, d_k, d_v);
            for (int row : {0, 2, 50, 92}) {
                for (int max_keys : {test.lengths[row], 1100, 4000}) {
                    std::vector<uint8_t> alone = test.run_rows(variant, row, 1, max_keys, 2, d_k, d_v);
                    assert_memory_equal(alone.data(), together.data() + row * row_bytes, row_bytes);
                }
            }
        }
    }
}

// Vectors that do not begin on 16 bytes take the general path.
static void unaligned_strides(void **) {
    need_device();
    for (enum dtype dtype : DTYPES) {
        check_decode(3, 3, 65, 20, dtype);
        check_packed(3, 3, 65, 20, dtype);
        check_decode(2, 1, 40, 250, dtype);
        check_packed(1, 1, 40, 250, dtype);
    }
}

static void wrong_arguments_are_refused(void **) {
    struct attention_args args = {};
    struct error error = {};
    args.B = 1, args.H = 1, args.D = 300, args.max_queries = 1, args.max_keys = 1;
    assert_int_equal(attention_run(ATTENTION_NAIVE, &args, nullptr, &error), STATUS_USAGE);
    args.D = 64, args.max_keys = 0;
    assert_int_equal(attention_run(ATTENTION_FLASH, &args, nullptr, &error), STATUS_USAGE);
    args.max_keys = 1, args.new_k = &args;
    assert_int_equal(attention_run(ATTENTION_SPLITKV, &args, nullptr, &error), STATUS_USAGE);
    args.new_k = nullptr, args.dtype = DTYPE_F32;
    assert_int_equal(attention_run(ATTENTION_STREAM, &args, nullptr, &error), STATUS_USAGE);
}

int main() {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(packed_one_row),           cmocka_unit_test(packed_long_row),
        cmocka_unit_test(packed_three_rows),        cmocka_unit_test(packed_many_rows),
        cmocka_unit_test(decode_one_row),           cmocka_unit_test(decode_three_rows),
        cmocka_unit_test(decode_many_rows),         cmocka_unit_test(decode_is_independent_of_the_batch),
        cmocka_unit_test(decode_around_boundaries), cmocka_unit_test(decode_very_many_rows),
        cmocka_unit_test(unaligned_strides),        cmocka_unit_test(wrong_arguments_are_refused),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
