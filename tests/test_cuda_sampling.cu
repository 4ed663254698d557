// Sampling and scoring on the device against the rule of engine/sampling.h in float64, and against the
// reference sampler.
#include "cuda/sample.h"
#include "engine/sampling.h"
#include "support/cuda_test.cuh"

#include <curand_kernel.h>
#include <numeric>

static const float INF = std::numeric_limits<float>::infinity();

static const struct sampling GREEDY = {0, 0, 1, 0, 0};

// Rows with lengths (B), their tokens (B, max_tokens) filled with -7, and logits (B, ld) with +inf behind
// column V.
struct decode_state {
    int B, V, ld, max_tokens;
    std::vector<int32_t> lengths, tokens;
    std::vector<uint64_t> requests;
    std::vector<float> logits;

    decode_state(int B_, int V_, int max_tokens_ = 8)
        : B(B_), V(V_), ld((V_ + 63) / 64 * 64), max_tokens(max_tokens_), lengths(B_),
          tokens(B_ * max_tokens_, -7), requests(B_), logits(static_cast<size_t>(B_) * ld, INF) {
        for (int b = 0; b < B; b++) {
            lengths[b] = 1 + b % (max_tokens - 1);
            requests[b] = (static_cast<uint64_t>(b) << 33) + 17 * b;
        }
    }
    float *row(int b) { return &logits[static_cast<size_t>(b) * ld]; }
    void fill_normal(unsigned seed, float spread) {
        std::mt19937 generator(seed);
        std::normal_distribution<float> normal(-40, spread); // all negative, as GPT-2's are
        for (int b = 0; b < B; b++) {
            for (int v = 0; v < V; v++) row(b)[v] = normal(generator);
        }
    }

    // One step of the device. Demands that only live rows with room got longer, by one token in range, and
    // that nothing else changed; returns each row's new token, -1 for rows without.
    std::vector<int32_t> step(const struct sampling &sampling, int repeats = 1) {
        device_array<float> d_logits(logits);
        device_array<int32_t> d_tokens(tokens), d_lengths(lengths);
        device_array<uint64_t> d_requests(requests);
        device_array<uint8_t> workspace(std::vector<uint8_t>(sample_workspace_bytes(B), 0));
        struct sample_args args = {};
        args.sampling = sampling;
        args.logits = d_logits.get();
        args.count = B, args.V = V, args.ld = ld;
        args.tokens = d_tokens.get();
        args.lengths = d_lengths.get();
        args.requests = d_requests.get();
        args.max_tokens = max_tokens;
        args.workspace = workspace.get();
        std::vector<int32_t> drawn(B, -1);
        for (int i = 0; i < repeats; i++) {
            d_tokens.upload(tokens);
            d_lengths.upload(lengths);
            check_cuda(sample_run(&args, nullptr));
            check_cuda(cudaDeviceSynchronize());
            std::vector<int32_t> new_tokens = d_tokens.download(), new_lengths = d_lengths.download();
            std::vector<int32_t> expected = tokens;
            for (int b = 0; b < B; b++) {
                bool extended = lengths[b] > 0 && lengths[b] < max_tokens;
                assert_int_equal(new_lengths[b], lengths[b] + extended);
                if (!extended) continue;
                int32_t token = new_tokens[b * max_tokens + lengths[b]];
                assert_in_range(token, 0, V - 1);
                if (i > 0) assert_int_equal(token, drawn[b]);
                expected[b * max_tokens + lengths[b]] = drawn[b] = token;
            }
            assert_true(new_tokens == expected);
        }
        std::vector<uint8_t> left = workspace.download();
        for (uint8_t byte : left) assert_int_equal(byte, 0);
        return drawn;
    }
};

// ---- greedy

static void greedy_takes_the_highest(void **) {
    need_device();
    const int sizes[][2] = {{1, 50257}, {3, 1}, {93, 50257}, {1024, 5003}, {32, 1023}};
    for (auto &size : sizes) {
        decode_state state(size[0], size[1]);
        state.fill_normal(11, 3);
        std::vector<int32_t> drawn = state.step(GREEDY, 3);
        for (int b = 0; b < state.B; b++) {
            int expected =
                static_cast<int>(std::max_element(state.row(b), state.row(b) + state.V) - state.row(b));
            assert_int_equal(drawn[b], state.lengths[b] < state.max_tokens ? expected : -1);
        }
    }
}

static void greedy_ties_and_oddities(void **) {
    need_device();
    decode_state state(9, 5000, 3);
    state.lengths = {1, 1, 1, 1, 1, 1, 0, 3, 2};
    state.fill_normal(12, 1);
    for (int v : {4999, 700, 3000}) state.row(0)[v] = 5; // the lowest id of equals
    std::fill_n(state.row(1), 5000, NAN);                // anything in range
    std::fill_n(state.row(2), 5000, NAN);
    state.row(2)[4321] = -1e30f;
    std::fill_n(state.row(3), 5000, -INF);
    state.row(4)[77] = INF, state.row(4)[76] = NAN;
    std::fill_n(state.row(5), 5000, -1.0f);
    state.row(5)[9] = -0.0f, state.row(5)[10] = 0.0f; // equal
    state.row(8)[1234] = 0;
    std::vector<int32_t> drawn = state.step(GREEDY, 2);
    const int32_t expected[] = {700, 0, 4321, 0, 77, 9, -1, -1, 1234};
    for (int b = 0; b < 9; b++) assert_int_equal(drawn[b], expected[b]);
}

static void rows_are_mapped(void **) {
    need_device();
    device_array<float> logits(std::vector<float>{0, 1, 0, 0, /**/ 0, 0, 0, 1});
    device_array<int32_t> rows(std::vector<int32_t>{2, 0}), tokens(std::vector<int32_t>(9, -7));
    device_array<int32_t> lengths(std::vector<int32_t>{1, 1, 2});
    device_array<uint8_t> workspace(std::vector<uint8_t>(sample_workspace_bytes(2), 0));
    struct sample_args args = {};
    args.sampling = GREEDY;
    args.logits = logits.get();
    args.count = 2, args.V = 4, args.ld = 4;
    args.rows = rows.get();
    args.tokens = tokens.get(), args.lengths = lengths.get();
    args.max_tokens = 3;
    args.workspace = workspace.get();
    check_cuda(sample_run(&args, nullptr));
    assert_true(lengths.download() == (std::vector<int32_t>{2, 1, 3}));
    assert_true(tokens.download() == (std::vector<int32_t>{-7, 3, -7, -7, -7, -7, -7, -7, 1}));
}

// ---- random numbers

__global__ void uniform_kernel(uint64_t seed, const uint64_t *request, const uint64_t *position, int count,
                               float *u) {
    int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
    if (i >= count) return;
    curandStatePhilox4_32_10_t state;
    curand_init(seed, request[i], position[i], &state);
    u[i] = curand_uniform(&state);
}

static void uniforms_equal_curand(void **) {
    need_device();
    const int COUNT = 10000;
    std::mt19937_64 generator(13);
    std::vector<uint64_t> request(COUNT), position(COUNT);
    for (int i = 0; i < COUNT; i++) {
        request[i] = i < 100 ? i : generator();
        position[i] = i < 5000 ? i % 1024 : generator() >> 3;
    }
    device_array<uint64_t> d_request(request), d_position(position);
    device_array<float> u(COUNT);
    for (uint64_t seed : {uint64_t{0}, uint64_t{42}, ~uint64_t{0}}) {
        uniform_kernel<<<40, 256>>>(seed, d_request.get(), d_position.get(), COUNT, u.get());
        std::vector<float> found = u.download();
        for (int i = 0; i < COUNT; i++) {
            float expected = sampling_uniform(seed, request[i], position[i]);
            assert_memory_equal(&found[i], &expected, sizeof expected);
        }
    }
}

// ---- random draws

// How far u lies from drawing another token than `token`, by the rule in float64, as a fraction of the kept
// mass: not negative when `token` is right.
static double draw_margin(const struct sampling &rule, const float *logits, int V, double u, int token) {
    std::vector<int> order(V);
    std::iota(order.begin(), order.end(), 0);
    std::sort(order.begin(), order.end(),
              [&](int a, int b) { return logits[a] > logits[b] || (logits[a] == logits[b] && a < b); });
    std::vector<double> p(V);
    for (int v = 0; v < V; v++)
        p[v] = std::exp((static_cast<double>(logits[v]) - logits[order[0]]) / rule.temperature);
    int kept = rule.top_k > 0 ? std::min(rule.top_k, V) : V;
    double mass = 0, reached = 0;
    for (int i = 0; i < kept; i++) mass += p[order[i]];
    if (rule.top_p < 1) {
        int count = 0;
        while (count < kept && reached < rule.top_p * mass) reached += p[order[count++]];
        kept = count;
    }
    for (int i = kept; i < V; i++) p[order[i]] = 0;
    for (double &weight : p) weight = weight >= rule.min_p ? weight : 0;
    double total = std::accumulate(p.begin(), p.end(), 0.0);
    double before = std::accumulate(p.begin(), p.begin() + token, 0.0);
    if (p[token] == 0) return -1;
    return std::fmin(u - before / total, (before + p[token]) / total - u);
}

// Rounding moves a cumulative probability by no more than this: weights err by 26 u of their exponent's
// argument and 3 u of the exponential (u = 2^-24), relatively, and a boundary by as much of the total.
static const double BOUNDARY = 30 * 0x1p-24;

static void draws_follow_the_rule(void **) {
    need_device();
    const struct sampling rules[] = {
        {1, 0, 1, 0, 42},    {0.7f, 0, 1, 0, 1},           {1, 1, 1, 0, 2},
        {1, 40, 1, 0, 3},    {1.3f, 5000, 1, 0, 4},        {1, 60000, 1, 0, 5},
        {1, 0, 0.9f, 0, 6},  {1, 0, 0.01f, 0, 7},          {0.8f, 50, 0.95f, 0, 8},
        {1, 0, 1, 0.05f, 9}, {1.5f, 200, 0.9f, 0.02f, 10}, {0.01f, 0, 1, 0, 11},
        {100, 0, 1, 0, 12},  {100, 20000, 0.5f, 0, 13},    {1, 0, 0.999f, 1, 14},
    };
    const int sizes[][2] = {{32, 50257}, {64, 769}, {40, 5}, {3, 1}};
    for (const struct sampling &rule : rules) {
        for (auto &size : sizes) {
            decode_state state(size[0], size[1]);
            state.fill_normal(static_cast<unsigned>(rule.seed) + 100, 3);
            std::vector<int32_t> drawn = state.step(rule, 2);
            std::vector<float> probability(state.V);
            std::vector<int32_t> order(state.V);
            for (int b = 0; b < state.B; b++) {
                if (drawn[b] < 0) continue;
                float u =
                    sampling_uniform(rule.seed, state.requests[b], static_cast<uint64_t>(state.lengths[b]));
                double margin = draw_margin(rule, state.row(b), state.V, u, drawn[b]);
                if (!(margin >= -BOUNDARY))
                    fail_msg("seed %d, V=%d, row %d: token %d misses u = %.9g by %g",
                             static_cast<int>(rule.seed), state.V, b, drawn[b], u, -margin);
                struct sampling_scratch scratch = {probability.data(), order.data()};
                int32_t reference = sampling_draw(&rule, state.row(b), state.V, u, &scratch);
                if (std::fabs(margin) > BOUNDARY) assert_int_equal(drawn[b], reference);
            }
        }
    }
}

// Equal logits: top-k and top-p keep the lowest ids, so the draw is uniform over exactly these.
static void ties_keep_the_lowest_ids(void **) {
    need_device();
    for (const struct sampling &rule : {sampling{1, 7, 1, 0, 1}, sampling{1, 0, 0.0068f, 0, 1}}) {
        decode_state state(512, 1000);
        for (int b = 0; b < state.B; b++) std::fill_n(state.row(b), state.V, -3.0f);
        std::vector<int32_t> drawn = state.step(rule);
        std::vector<int> seen(7);
        for (int32_t token : drawn) {
            assert_in_range(token + 1, 0, 7);
            if (token >= 0) seen[token]++;
        }
        for (int count : seen) assert_true(count > 0);
    }
}

static void odd_logits_draw_in_range(void **) {
    need_device();
    for (const struct sampling &rule : {sampling{1, 0, 1, 0, 1}, sampling{1, 5, 0.9f, 0.1f, 1}}) {
        decode_state state(4, 300, 2);
        state.lengths = {1, 1, 1, 1};
        std::fill_n(state.row(0), 300, NAN);
        std::fill_n(state.row(1), 300, -INF);
        std::fill_n(state.row(2), 300, -1.0f);
        state.row(2)[5] = INF, state.row(2)[6] = NAN;
        std::fill_n(state.row(3), 300, NAN);
        state.row(3)[299] = -1e30f;
        std::vector<int32_t> drawn = state.step(rule, 2);
        assert_int_equal(drawn[2], 5);
        assert_int_equal(drawn[3], 299);
    }
}

// Chi-square with 7 degrees of freedom exceeds 44.3 with a probability below 2e-7; the draws are seeded.
static void draws_are_distributed_as_softmax(void **) {
    need_device();
    const int V = 8, ROUNDS = 5;
    const float logits[V] = {0, 1, -1, 2, 0.5f, -2, 1.5f, 0.25f};
    std::vector<double> counts(V);
    int draws = 0;
    for (int round = 0; round < ROUNDS; round++) {
        decode_state state(4096, V, 1000);
        for (int b = 0; b < state.B; b++) {
            std::copy_n(logits, V, state.row(b));
            state.lengths[b] = 1 + round;
        }
        for (int32_t token : state.step({1, 0, 1, 0, 2024})) counts[token]++, draws++;
    }
    double total = 0, chi_square = 0;
    for (float logit : logits) total += std::exp(logit);
    for (int v = 0; v < V; v++) {
        double expected = draws * std::exp(logits[v]) / total;
        chi_square += (counts[v] - expected) * (counts[v] - expected) / expected;
    }
    assert_true(chi_square < 44.3);
}

// ---- scores

// Tolerance, u = 2^-24: each exponential errs by 26 u of its argument's rounding at the most where it
// matters, and 2 u; a sum of 99 per thread, 5 levels and 16 warps by 120 u; the logarithm and the two
// differences by u of their values.
static void scores_are_losses(void **) {
    need_device();
    std::mt19937 generator(14);
    const int sizes[][2] = {{5, 50257}, {3, 1}, {64, 769}};
    for (auto &size : sizes) {
        decode_state state(size[0], size[1]);
        state.fill_normal(15, 4);
        std::vector<int32_t> targets(state.B);
        for (int b = 0; b < state.B; b++) targets[b] = b == 1 ? -1 : static_cast<int>(generator() % state.V);
        device_array<float> logits(state.logits), nll(poison(state.B));
        device_array<int32_t> d_targets(targets), argmax(state.B), argmax_alone(state.B);
        check_cuda(score_rows(logits.get(), state.B, state.V, state.ld, d_targets.get(), nll.get(),
                              argmax.get(), nullptr));
        check_cuda(score_rows(logits.get(), state.B, state.V, state.ld, nullptr, nullptr, argmax_alone.get(),
                              nullptr));
        std::vector<float> found = nll.download();
        std::vector<int32_t> best = argmax.download();
        assert_true(best == argmax_alone.download());
        for (int b = 0; b < state.B; b++) {
            const float *row = state.row(b);
            assert_int_equal(best[b], std::max_element(row, row + state.V) - row);
            double sum = 0, expected = 0, u = 0x1p-24;
            for (int v = 0; v < state.V; v++) sum += std::exp(static_cast<double>(row[v]) - row[best[b]]);
            if (targets[b] >= 0) expected = std::log(sum) + row[best[b]] - row[targets[b]];
            double tolerance = u * (150 + std::log(sum) + 2 * std::fabs(expected));
            assert_true(std::fabs(found[b] - expected) <= tolerance);
        }
    }
}

int main() {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(greedy_takes_the_highest), cmocka_unit_test(greedy_ties_and_oddities),
        cmocka_unit_test(rows_are_mapped),          cmocka_unit_test(uniforms_equal_curand),
        cmocka_unit_test(draws_follow_the_rule),    cmocka_unit_test(ties_keep_the_lowest_ids),
        cmocka_unit_test(odd_logits_draw_in_range), cmocka_unit_test(draws_are_distributed_as_softmax),
        cmocka_unit_test(scores_are_losses),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
