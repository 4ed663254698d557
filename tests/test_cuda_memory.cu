// Device memory running out for real: refused with the ledger, and everything that was open goes on working.
#include "support/cuda_test.cuh"

#include "engine/backend.h"

namespace {

// 64 MiB of cache a row, so that a few thousand rows fill any device.
const char *const model_shape = "random:L8-C256-H4-V257-T4096";
const int max_tokens = 4096;

struct backend *open_backend() {
    struct error error = {};
    struct device device;
    struct model *model;
    struct backend *backend;
    const struct backend_options options = {DTYPE_F32, 0, false, NULL};
    check_status(device_find("cuda", &device, &error), error);
    check_status(model_open(model_shape, &model, &error), error);
    check_status(backend_open(device, model, &options, &backend, &error), error);
    model_close(model);
    return backend;
}

struct session_spec spec_of(int rows) {
    struct session_spec spec = {};
    spec.rows = rows;
    spec.max_tokens = max_tokens;
    spec.kv_cache = true;
    spec.sampling.top_p = 1;
    return spec;
}

// The rows whose session takes about `share` of the free memory.
int rows_taking(struct backend *backend, double share) {
    const struct session_spec specs[2] = {spec_of(100),
                                          spec_of(1100)}; // enough for activations to stop growing
    struct memory_ledger ledgers[2];
    double bytes[2];
    for (int i = 0; i < 2; i++) {
        backend_ledger(backend, &specs[i], &ledgers[i]);
        bytes[i] = (double)memory_ledger_session_bytes(&ledgers[i]);
    }
    const double per_row = (bytes[1] - bytes[0]) / 1000, rest = bytes[0] - 100 * per_row;
    return (int)((share * (double)ledgers[0].free - rest) / per_row);
}

enum status open_session(struct backend *backend, int rows, struct session **session, struct error *error) {
    const struct session_spec spec = spec_of(rows);
    return session_open(backend, &spec, session, error);
}

void require_working(struct session *session) {
    struct error error = {};
    const int row = session_spec_of(session)->rows - 1, length = 3;
    const int32_t prompt[] = {5, 250, 17};
    const uint64_t request = 0;
    const struct prompt_batch batch = {1, &row, &length, prompt, &request};
    const int rows = session_spec_of(session)->rows, steps = 4;
    std::vector<int32_t> tokens((size_t)rows * steps);
    check_status(session_prefill(session, &batch, &error), error);
    check_status(session_decode(session, steps, &error), error);
    check_status(session_collect(session, tokens.data(), &error), error);
    for (int step = 0; step < steps; step++) {
        for (int other = 0; other < rows; other++) {
            const int32_t token = tokens[(size_t)step * (size_t)rows + (size_t)other];
            if (other != row)
                assert_int_equal(token, -1);
            else
                assert_in_range(token, 0, 256);
        }
    }
    check_status(session_retire(session, &row, 1, &error), error);
}

void test_second_session_does_not_fit(void **) {
    need_device();
    struct backend *backend = open_backend();
    struct session *first, *second;
    struct error error = {};
    const int rows = rows_taking(backend, 0.6);
    check_status(open_session(backend, rows, &first, &error), error);
    assert_int_equal(open_session(backend, rows, &second, &error), STATUS_OUT_OF_MEMORY);
    assert_null(second);
    assert_non_null(std::strstr(error.message, "KV cache"));
    assert_non_null(std::strstr(error.message, "MiB free"));
    require_working(first);
    session_close(first);
    check_status(open_session(backend, rows, &second, &error), error); // its memory is free again
    require_working(second);
    session_close(second);
    backend_close(backend);
}

// What the ledger calls free can be had nearly to the end, and nothing runs out later.
void test_session_near_the_limit(void **) {
    need_device();
    struct backend *backend = open_backend();
    struct session *session;
    struct error error = {};
    check_status(open_session(backend, rows_taking(backend, 0.95), &session, &error), error);
    require_working(session);
    session_close(session);
    assert_int_equal(open_session(backend, rows_taking(backend, 1.0) + 1, &session, &error),
                     STATUS_OUT_OF_MEMORY);
    check_status(open_session(backend, 2, &session, &error), error);
    require_working(session);
    session_close(session);
    backend_close(backend);
}

// A session leaves as much memory free as it found: nothing is taken behind the ledger's back for long.
void test_sessions_return_their_memory(void **) {
    need_device();
    struct backend *backend = open_backend();
    struct error error = {};
    size_t before = 0, after = 0, total;
    for (int round = 0; round < 4; round++) {
        struct session *session;
        check_status(open_session(backend, 8, &session, &error), error);
        require_working(session);
        session_close(session);
        check_cuda(cudaMemGetInfo(round == 1 ? &before : &after, &total)); // the first round loads code
    }
    assert_true(after + (4 << 20) >= before);
    backend_close(backend);
}

} // namespace

int main() {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_second_session_does_not_fit),
        cmocka_unit_test(test_session_near_the_limit),
        cmocka_unit_test(test_sessions_return_their_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
