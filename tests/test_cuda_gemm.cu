// Matrix products against float64, for every dtype and epilogue, at the engine's shapes and at odd ones.
//
// Tolerance. With S = sum |x w| over the k products of an element and u = 2^-24, a dot product in f32 errs by
// at most k u S in whatever order it is summed; tensor cores truncate where f32 rounds, which doubles it. The
// result is rounded to the output's dtype (its unit roundoff times |y|) once, or twice where bias and GELU
// follow in a kernel of their own. GELU's slope is at most 1.13. cuBLAS's own GELU, in 16-bit products, may
// use the hardware's tanh, whose relative error is 2^-11 at most (PTX ISA, tanh.approx.f32): |z| 2^-12 here,
// doubled for the rounding of its argument.
#include "support/cuda_test.cuh"

#include "cuda/gemm.h"

#include <algorithm>

namespace {

struct product {
    gemm_shape shape;
    std::vector<float> weight, bias, input,
        before; // (outputs, inputs), (outputs), (tokens, inputs), (tokens, outputs)
};

product random_product(const gemm_shape &shape, unsigned seed) {
    std::mt19937 generator(seed);
    const size_t outputs = (size_t)shape.outputs, inputs = (size_t)shape.inputs,
                 tokens = (size_t)shape.tokens;
    product p = {shape, {}, {}, {}, {}};
    p.weight = random_values(generator, shape.input, outputs * inputs, 1 / std::sqrt((float)inputs));
    p.bias = random_values(generator, shape.output, outputs);
    p.input = random_values(generator, shape.input, tokens * inputs);
    p.before = random_values(generator, shape.output, tokens * outputs);
    return p;
}

// Device copies of a product; the output starts as `before`, or as poison where it must not be read.
struct device_product {
    explicit device_product(const product &p)
        : weight(to_bytes(p.shape.input, p.weight)), bias(to_bytes(p.shape.output, p.bias)),
          input(to_bytes(p.shape.input, p.input)), output(p.before.size() * dtype_size(p.shape.output)),
          workspace(GEMM_WORKSPACE_BYTES) {}

    gemm_operands operands() const { return {weight.get(), bias.get(), input.get(), output.get()}; }
    void reset_output(const product &p) {
        output.upload(
            to_bytes(p.shape.output, p.shape.epilogue == GEMM_RESIDUAL ? p.before : poison(p.before.size())));
    }

    device_array<uint8_t> weight, bias, input, output, workspace;
};

double gelu(double z) {
    return 0.5 * z * (1 + std::tanh(std::sqrt(2 / M_PI) * (z + 0.044715 * z * z * z)));
}

struct bound {
    double value, tolerance;
};

bound expected(const product &p, size_t token, size_t output) {
    const size_t k = (size_t)p.shape.inputs;
    const double u = unit_roundoff(p.shape.output);
    double sum = 0, magnitude = 0;
    for (size_t i = 0; i < k; i++) {
        const double term = (double)p.weight[output * k + i] * p.input[token * k + i];
        sum += term;
        magnitude += std::fabs(term);
    }
    // The last term is half the distance of f16's subnormal numbers.
    double tolerance = 2 * (double)k * std::ldexp(1, -24) * magnitude + std::ldexp(1, -25);
    if (p.shape.epilogue == GEMM_PLAIN) return {sum, tolerance + u * std::fabs(sum)};
    if (p.shape.epilogue == GEMM_RESIDUAL) sum += p.before[token * (size_t)p.shape.outputs + output];
    const double z = sum + p.bias[output];
    tolerance += u * (std::fabs(sum) + std::fabs(z));
    if (p.shape.epilogue != GEMM_GELU) return {z, tolerance};
    const double tanh_error = p.shape.output == DTYPE_F32 ? std::ldexp(1, -21) : std::ldexp(1, -11);
    return {gelu(z), 1.13 * tolerance + tanh_error * std::fabs(z) + u * std::fabs(gelu(z))};
}

// All elements of small outputs, a seeded sample of large ones.
void check_output(const product &p, const std::vector<float> &found) {
    const size_t total = found.size(), checked = std::min<size_t>(total, 3000);
    std::mt19937_64 generator(7);
    for (size_t i = 0; i < checked; i++) {
        const size_t at = checked == total ? i : generator() % total;
        const size_t token = at / (size_t)p.shape.outputs, output = at % (size_t)p.shape.outputs;
        const bound want = expected(p, token, output);
        if (!(std::fabs(found[at] - want.value) <= want.tolerance)) {
            fail_msg(
                "%d tokens of %d -> %d, %s -> %s, epilogue %d: element (%zu, %zu) is %.9g, expected %.9g "
                "within %.3g",
                p.shape.tokens, p.shape.inputs, p.shape.outputs, dtype_name(p.shape.input),
                dtype_name(p.shape.output), p.shape.epilogue, token, output, found[at], want.value,
                want.tolerance);
        }
    }
}

std::vector<float> run_and_check(gemm_table *table, const product &p) {
    device_product device(p);
    cudaStream_t stream;
    check_cuda(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    const gemm_operands operands = device.operands();
    const gemm_target target = {stream, device.workspace.get()};
    struct error error = {};
    const gemm_plan *plan;
    check_status(gemm_find(table, &p.shape, &operands, 1, &target, &plan, &error), error);
    device.reset_output(p); // timing has overwritten it
    check_cuda(cudaDeviceSynchronize());
    check_status(gemm_run(plan, p.shape.tokens, &operands, &target, &error), error);
    check_cuda(cudaStreamSynchronize(stream));
    const std::vector<float> found = from_bytes(p.shape.output, device.output.download());
    check_output(p, found);
    check_cuda(cudaStreamDestroy(stream));
    return found;
}

// The engine's uses of a product: T is the compute dtype.
void check_all_uses(gemm_table *table, enum dtype T, int outputs, int inputs, int tokens) {
    const gemm_shape uses[] = {
        {outputs, inputs, tokens, T, T, GEMM_BIAS},
        {outputs, inputs, tokens, T, T, GEMM_GELU},
        {outputs, inputs, tokens, T, DTYPE_F32, GEMM_RESIDUAL},
        {outputs, inputs, tokens, T, DTYPE_F32, GEMM_PLAIN},
    };
    for (const gemm_shape &shape : uses) run_and_check(table, random_product(shape, 1));
}

gemm_table *open_table(bool deterministic) {
    struct error error = {};
    gemm_table *table;
    check_status(gemm_open(deterministic, &table, &error), error);
    return table;
}

void check_dtype(enum dtype T) {
    static const int shapes[][3] = {
        // outputs, inputs, tokens
        {2304, 768, 1},   {768, 768, 32}, {3072, 768, 93},
        {768, 3072, 93},  {768, 3072, 1},                // GPT-2 124M
        {2304, 768, 300},                                // its prefill
        {896, 192, 17},   {576, 192, 93}, {384, 128, 3}, // small models
        {12, 4, 1},       {4, 4, 5},      {16, 4, 2},
        {4, 16, 7},       {128, 4, 3}, // the tiniest
        {15, 5, 3},       {77, 33, 9},    {5, 20, 1},
        {1, 1, 1},        {769, 31, 13}, // aligned to nothing
    };
    gemm_table *table = open_table(false);
    for (const auto &shape : shapes) check_all_uses(table, T, shape[0], shape[1], shape[2]);
    gemm_close(table);
}

void test_f32(void **) {
    need_device();
    check_dtype(DTYPE_F32);
}
void test_f16(void **) {
    need_device();
    check_dtype(DTYPE_F16);
}
void test_bf16(void **) {
    need_device();
    check_dtype(DTYPE_BF16);
}

// Plans are shared by neighbouring token counts above 256 and by nothing else.
void test_shared_plans(void **) {
    need_device();
    gemm_table *table = open_table(false);
    const gemm_shape planned = {256, 128, 320, DTYPE_BF16, DTYPE_BF16, GEMM_BIAS};
    for (int tokens : {320, 289, 300}) { // the first one's plan serves the others
        gemm_shape shape = planned;
        shape.tokens = tokens;
        run_and_check(table, random_product(shape, 2));
    }
    device_product device(random_product({256, 128, 321, DTYPE_BF16, DTYPE_BF16, GEMM_BIAS}, 3));
    const gemm_operands operands = device.operands();
    const gemm_target target = {cudaStreamPerThread, device.workspace.get()};
    struct error error = {};
    const auto plan_for = [&](int tokens) {
        gemm_shape shape = planned;
        const gemm_plan *plan;
        shape.tokens = tokens;
        check_status(gemm_find(table, &shape, &operands, 1, &target, &plan, &error), error);
        return plan;
    };
    assert_ptr_equal(plan_for(289), plan_for(320));
    assert_ptr_not_equal(plan_for(320), plan_for(321));
    assert_ptr_not_equal(plan_for(92), plan_for(93));
    gemm_close(table);
}

// f32 products are the reference: they keep all 24 bits, where TF32 would keep 11.
void test_f32_is_whole(void **) {
    need_device();
    gemm_table *table = open_table(false);
    const gemm_shape shape = {64, 64, 64, DTYPE_F32, DTYPE_F32, GEMM_PLAIN};
    product p = random_product(shape, 4);
    std::fill(p.weight.begin(), p.weight.end(), 0.0f);
    for (size_t i = 0; i < 64; i++) p.weight[i * 64 + i] = 1.0f;
    for (size_t i = 0; i < p.input.size(); i++) p.input[i] = 1.0f + (float)(i + 1) * 0x1p-23f;
    run_and_check(table, p);
    gemm_close(table);
}

// What another process computes where nothing is chosen by timing.
void test_deterministic_tables_agree(void **) {
    need_device();
    static const int shapes[][3] = {{2304, 768, 50}, {768, 3072, 93}, {3072, 768, 300}, {77, 33, 9}};
    for (const auto &s : shapes) {
        for (enum gemm_epilogue epilogue : {GEMM_BIAS, GEMM_GELU}) {
            const product p = random_product({s[0], s[1], s[2], DTYPE_BF16, DTYPE_BF16, epilogue}, 5);
            std::vector<float> found[2];
            for (std::vector<float> &one : found) {
                gemm_table *table = open_table(true);
                one = run_and_check(table, p);
                gemm_close(table);
            }
            assert_true(found[0] == found[1]);
        }
    }
}

} // namespace

int main() {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_f32),          cmocka_unit_test(test_f16),
        cmocka_unit_test(test_bf16),         cmocka_unit_test(test_shared_plans),
        cmocka_unit_test(test_f32_is_whole), cmocka_unit_test(test_deterministic_tables_agree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
