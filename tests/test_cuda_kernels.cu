// Packing, embedding, LayerNorm, cache write, bias and GELU, gathering: exact where they copy, else against
// float64.
#include "cuda/pointwise.h"
#include "support/cuda_test.cuh"

static const enum dtype DTYPES[] = {DTYPE_F32, DTYPE_F16, DTYPE_BF16};

static void assert_near(double found, double expected, double tolerance, const char *what, size_t i) {
    if (!(std::fabs(found - expected) <= tolerance))
        fail_msg("%s [%zu] is %.9g, expected %.9g +- %.3g", what, i, found, expected, tolerance);
}

// ---- packing

static void layout_sums_lengths(void **) {
    need_device();
    std::mt19937 generator(1);
    for (int count : {1, 2, 93, 256, 257, 4096}) {
        std::vector<int32_t> lengths(count), starts(1, 0), last(count);
        for (int i = 0; i < count; i++) {
            lengths[i] = generator() % 4 == 0 ? 0 : static_cast<int>(generator() % 1025);
            starts.push_back(starts.back() + lengths[i]);
            last[i] = lengths[i] > 0 ? starts.back() - 1 : -1;
        }
        device_array<int32_t> d_lengths(lengths), d_starts(count + 1), d_last(count);
        check_cuda(pack_layout(d_lengths.get(), count, d_starts.get(), d_last.get(), nullptr));
        assert_true(d_starts.download() == starts);
        assert_true(d_last.download() == last);
    }
}

static void prompts_enter_their_rows(void **) {
    need_device();
    const int B = 4, MAX_TOKENS = 6;
    device_array<int32_t> packed(std::vector<int32_t>{10, 11, 12, 20}), starts(std::vector<int32_t>{0, 3, 4});
    device_array<int32_t> rows(std::vector<int32_t>{2, 0}), lengths(std::vector<int32_t>{0, 5, 0, 0});
    device_array<int32_t> tokens(std::vector<int32_t>(B * MAX_TOKENS, -7));
    device_array<uint64_t> prompt_requests(std::vector<uint64_t>{1ull << 40, 3});
    device_array<uint64_t> requests(std::vector<uint64_t>(B, 9));
    check_cuda(prompts_enter(packed.get(), starts.get(), rows.get(), prompt_requests.get(), 2, tokens.get(),
                             MAX_TOKENS, lengths.get(), requests.get(), nullptr));
    std::vector<int32_t> expected(B * MAX_TOKENS, -7);
    expected[2 * MAX_TOKENS] = 10, expected[2 * MAX_TOKENS + 1] = 11, expected[2 * MAX_TOKENS + 2] = 12;
    expected[0] = 20;
    assert_true(tokens.download() == expected);
    assert_true(lengths.download() == (std::vector<int32_t>{1, 5, 3, 0}));
    assert_true(requests.download() == (std::vector<uint64_t>{3, 9, 1ull << 40, 9}));
}

static void collect_takes_the_newest(void **) {
    need_device();
    device_array<int32_t> tokens(std::vector<int32_t>{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12});
    device_array<int32_t> lengths(std::vector<int32_t>{4, 0, 1}), out(2 * 3);
    check_cuda(tokens_collect(tokens.get(), 4, lengths.get(), 3, 2, out.get(), nullptr));
    assert_true(out.download() == (std::vector<int32_t>{3, -1, -1, 4, -1, 9}));
}

static void gather_takes_rows_of_its_part(void **) {
    need_device();
    device_array<float> in(std::vector<float>{1, 2, 3, 4, 5, 6}), out(std::vector<float>(8, -1));
    device_array<int32_t> index(std::vector<int32_t>{12, 9, -1, 10});
    check_cuda(gather_rows(out.get(), in.get(), index.get(), 4, 10, 3, 2, nullptr));
    assert_true(out.download() == (std::vector<float>{5, 6, -1, -1, -1, -1, 1, 2}));
}

// ---- embedding

// A small history: rows of length 3, 0, 5, 1, positions past each length hold ids that would be out of range.
struct history {
    static const int B = 4, MAX_TOKENS = 5, V = 11;
    std::vector<int32_t> lengths{3, 0, 5, 1}, tokens;
    history() : tokens(B * MAX_TOKENS, 1 << 30) {
        for (int b = 0; b < B; b++) {
            for (int t = 0; t < lengths[b]; t++) tokens[b * MAX_TOKENS + t] = (b * 5 + t * 3) % V;
        }
    }
};

static void embedding_sums_token_and_position(void **) {
    need_device();
    history past;
    std::mt19937 generator(2);
    for (enum dtype dtype : DTYPES) {
        for (int C : {3, 4, 128, 768, 1600}) {
            std::vector<float> wte = random_values(generator, dtype, history::V * C);
            std::vector<float> wpe = random_values(generator, dtype, history::MAX_TOKENS * C);
            device_array<uint8_t> d_wte(to_bytes(dtype, wte)), d_wpe(to_bytes(dtype, wpe));
            device_array<int32_t> tokens(past.tokens), lengths(past.lengths);
            auto sum = [&](int row, int t, int c) {
                return wte[past.tokens[row * history::MAX_TOKENS + t] * C + c] + wpe[t * C + c];
            };

            device_array<float> newest(poison(history::B * C));
            check_cuda(embed_newest(dtype, newest.get(), d_wte.get(), d_wpe.get(), tokens.get(),
                                    history::MAX_TOKENS, lengths.get(), history::B, C, nullptr));
            std::vector<float> found = newest.download();
            for (int b = 0; b < history::B; b++) {
                for (int c = 0; c < C; c++)
                    assert_true(found[b * C + c] == (past.lengths[b] ? sum(b, past.lengths[b] - 1, c) : 0));
            }

            // Rows 2, 1 (free) and 3 packed, two tokens of padding.
            const std::vector<int32_t> rows{2, 1, 3}, starts{0, 5, 5, 6};
            device_array<int32_t> d_rows(rows), d_starts(starts);
            const int N = 8;
            device_array<float> packed(poison(N * C));
            check_cuda(embed_packed(dtype, packed.get(), d_wte.get(), d_wpe.get(), tokens.get(),
                                    history::MAX_TOKENS, d_starts.get(), d_rows.get(), 3, N, C, nullptr));
            found = packed.download();
            for (int n = 0; n < N; n++) {
                for (int c = 0; c < C; c++) {
                    float expected = n < 5 ? sum(2, n, c) : n == 5 ? sum(3, 0, c) : 0;
                    assert_true(found[n * C + c] == expected);
                }
            }
        }
    }
}

// ---- LayerNorm

// Tolerance. u: f32's unit roundoff, X the largest |x|, r = 1 / sqrt(variance + epsilon). Sums go over at
// most 16 elements per thread, 5 levels of a warp and 32 warps: 53 roundings, so the mean errs by 54 u X and
// the variance by 56 u relatively plus twice the mean's error, which the deviations' zero sum cancels to
// second order. So (x - mean) r errs by (54 + 2) u X r + (28 + 4) u |normal|; the weight and bias add 2 u.
// Then one rounding to the dtype.
static void check_layernorm(enum dtype dtype, int N, int C, float offset) {
    std::mt19937 generator(static_cast<unsigned>(N + C));
    const float EPSILON = 1e-5f;
    std::vector<float> x = random_values(generator, DTYPE_F32, static_cast<size_t>(N) * C, 3);
    for (float &value : x) value += offset;
    std::vector<float> weight = random_values(generator, DTYPE_F32, C),
                       bias = random_values(generator, DTYPE_F32, C);
    std::vector<int32_t> index(N);
    for (int n = 0; n < N; n++) index[n] = n % 3 == 1 ? -1 : (n * 7 + 2) % N;
    device_array<float> d_x(x), d_weight(weight), d_bias(bias);
    device_array<int32_t> d_index(index);
    for (bool gathered : {false, true}) {
        device_array<uint8_t> out(to_bytes(dtype, poison(static_cast<size_t>(N) * C)));
        check_cuda(layernorm_run(dtype, out.get(), d_x.get(), gathered ? d_index.get() : nullptr,
                                 d_weight.get(), d_bias.get(), EPSILON, N, C, nullptr));
        std::vector<float> found = from_bytes(dtype, out.download());
        for (int n = 0; n < N; n++) {
            int from = gathered ? index[n] : n;
            double mean = 0, variance = 0, largest = 0, u = unit_roundoff(DTYPE_F32);
            for (int c = 0; from >= 0 && c < C; c++) mean += x[from * C + c] / static_cast<double>(C);
            for (int c = 0; from >= 0 && c < C; c++) {
                double deviation = x[from * C + c] - mean;
                variance += deviation * deviation / C;
                largest = std::fmax(largest, std::fabs(x[from * C + c]));
            }
            double r = 1 / std::sqrt(variance + EPSILON);
            for (int c = 0; c < C; c++) {
                double normal = from < 0 ? 0 : (x[from * C + c] - mean) * r;
                double expected = from < 0 ? 0 : normal * weight[c] + bias[c];
                double tolerance = (56 * largest * r + 34 * std::fabs(normal)) * u * std::fabs(weight[c]) +
                                   2 * u * std::fabs(expected) + unit_roundoff(dtype) * std::fabs(expected);
                if (dtype == DTYPE_F16) tolerance += std::ldexp(1, -25);
                assert_near(found[n * C + c], expected, tolerance * (1 + unit_roundoff(dtype)), "LayerNorm",
                            n * C + c);
            }
        }
    }
}

static void layernorm_normalises(void **) {
    need_device();
    for (enum dtype dtype : DTYPES) {
        for (int C : {1, 3, 4, 30, 128, 192, 256, 768, 769, 1024, 1280, 1600})
            check_layernorm(dtype, 7, C, 0);
        check_layernorm(dtype, 7, 768, 100); // a mean that dwarfs the deviations
        check_layernorm(dtype, 1000, 768, 0);
        check_layernorm(dtype, 2, 16384, 0);
    }
}

// ---- cache

static void kv_write_fills_exactly_its_cells(void **) {
    need_device();
    std::mt19937 generator(3);
    const int B = 5, MAX_TOKENS = 9;
    const std::vector<int32_t> rows{3, 0, 4}, starts{0, 9, 9, 13};
    const int N = 15; // two tokens of padding
    for (enum dtype dtype : DTYPES) {
        for (int D : {4, 20, 64, 128}) {
            for (int H : {1, 3, 12}) {
                int C = H * D;
                std::vector<float> qkv = random_values(generator, dtype, static_cast<size_t>(N) * 3 * C);
                size_t cells = static_cast<size_t>(B) * H * MAX_TOKENS * D;
                std::vector<float> k(cells, -1), v(cells, -2);
                device_array<uint8_t> d_qkv(to_bytes(dtype, qkv)), d_k(to_bytes(dtype, k)),
                    d_v(to_bytes(dtype, v));
                device_array<int32_t> d_rows(rows), d_starts(starts);
                check_cuda(kv_write(dtype, d_qkv.get(), d_starts.get(), d_rows.get(), 3, N, H, D, MAX_TOKENS,
                                    d_k.get(), d_v.get(), nullptr));
                for (int i = 0; i < 3; i++) {
                    for (int n = starts[i]; n < starts[i + 1]; n++) {
                        for (int c = 0; c < C; c++) {
                            size_t cell =
                                ((static_cast<size_t>(rows[i]) * H + c / D) * MAX_TOKENS + n - starts[i]) * D;
                            k[cell + c % D] = qkv[static_cast<size_t>(n) * 3 * C + C + c];
                            v[cell + c % D] = qkv[static_cast<size_t>(n) * 3 * C + 2 * C + c];
                        }
                    }
                }
                assert_true(d_k.download() == to_bytes(dtype, k));
                assert_true(d_v.download() == to_bytes(dtype, v));
            }
        }
    }
}

// ---- bias and GELU

// Tolerance: the tanh argument z errs by 6 u |z| and tanhf by 2 ulp, so 1 + tanh by (6 |z| sech^2(z) + 4) u
// <= 8 u absolutely (|z| sech^2(z) < 0.45); times |y| / 2, plus the argument's own rounding of y, whose
// effect is at most 1.13 u |y|.
static void gelu_is_the_tanh_form(void **) {
    need_device();
    std::mt19937 generator(4);
    const int N = 13, F = 193;
    for (enum dtype dtype : DTYPES) {
        std::vector<float> y = random_values(generator, dtype, N * F, 3),
                           bias = random_values(generator, dtype, F);
        y[0] = 100, y[1] = -100;
        for (bool gelu : {false, true}) {
            device_array<uint8_t> d_y(to_bytes(dtype, y)), d_bias(to_bytes(dtype, bias));
            check_cuda(bias_gelu(dtype, d_y.get(), d_bias.get(), N, F, gelu, nullptr));
            std::vector<float> found = from_bytes(dtype, d_y.download());
            double u = unit_roundoff(DTYPE_F32);
            for (int i = 0; i < N * F; i++) {
                double sum = static_cast<double>(y[i]) + bias[i % F];
                double z = std::sqrt(2 / M_PI) * (sum + 0.044715 * sum * sum * sum);
                double expected = gelu ? 0.5 * sum * (1 + std::tanh(z)) : sum;
                double tolerance = 8 * u * std::fabs(sum) + unit_roundoff(dtype) * std::fabs(expected);
                if (dtype == DTYPE_F16) tolerance += std::ldexp(1, -25);
                assert_near(found[i], expected, tolerance, "GELU", i);
            }
        }
    }
}

int main() {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(layout_sums_lengths),
        cmocka_unit_test(prompts_enter_their_rows),
        cmocka_unit_test(collect_takes_the_newest),
        cmocka_unit_test(gather_takes_rows_of_its_part),
        cmocka_unit_test(embedding_sums_token_and_position),
        cmocka_unit_test(layernorm_normalises),
        cmocka_unit_test(kv_write_fills_exactly_its_cells),
        cmocka_unit_test(gelu_is_the_tanh_form),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
