// What the tests of CUDA kernels share: skipping without a device, device buffers, seeded inputs rounded to a
// dtype.
#ifndef SUPPORT_CUDA_TEST_CUH
#define SUPPORT_CUDA_TEST_CUH

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

extern "C" {
#include <cmocka.h>
}

#include "base/dtype.h"
#include "base/status.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <cuda_runtime.h>
#include <limits>
#include <random>
#include <vector>

// Skips the running test where no CUDA device is usable. Call it before any C++ object exists.
inline void need_device() {
    int count = 0;
    if (cudaGetDeviceCount(&count) != cudaSuccess || count == 0 || cudaFree(nullptr) != cudaSuccess) skip();
}

inline void check_cuda(cudaError_t code) {
    if (code != cudaSuccess) fail_msg("%s", cudaGetErrorString(code));
}

inline void check_status(enum status status, const struct error &error) {
    if (status != STATUS_OK) fail_msg("%s", error.message);
}

// `count` elements of device memory.
template <typename T>
class device_array {
  public:
    explicit device_array(size_t count) : count_(count) {
        check_cuda(cudaMalloc(&data_, (count + 1) * sizeof(T)));
    }
    explicit device_array(const std::vector<T> &values) : device_array(values.size()) { upload(values); }
    device_array(const device_array &) = delete;
    device_array &operator=(const device_array &) = delete;
    ~device_array() { cudaFree(data_); }

    T *get() const { return data_; }
    void upload(const std::vector<T> &values) {
        check_cuda(cudaMemcpy(data_, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice));
    }
    std::vector<T> download() const {
        std::vector<T> values(count_);
        check_cuda(cudaMemcpy(values.data(), data_, count_ * sizeof(T), cudaMemcpyDeviceToHost));
        return values;
    }

  private:
    T *data_ = nullptr;
    size_t count_;
};

// Half the distance from 1 to the next number: rounding to the dtype errs by at most this, relatively.
inline double unit_roundoff(enum dtype dtype) {
    return dtype == DTYPE_F32   ? std::ldexp(1, -24)
           : dtype == DTYPE_F16 ? std::ldexp(1, -11)
                                : std::ldexp(1, -8);
}

// Elements of a dtype as they lie in memory, and back. NaN stays NaN: the poison of what must not be read or
// written.
inline std::vector<uint8_t> to_bytes(enum dtype dtype, const std::vector<float> &values) {
    std::vector<uint8_t> bytes(values.size() * dtype_size(dtype));
    dtype_from_f32(dtype, values.data(), bytes.data(), values.size());
    return bytes;
}
inline std::vector<float> from_bytes(enum dtype dtype, const std::vector<uint8_t> &bytes) {
    std::vector<float> values(bytes.size() / dtype_size(dtype));
    dtype_to_f32(dtype, bytes.data(), values.data(), values.size());
    return values;
}
inline std::vector<float> poison(size_t count) {
    return std::vector<float>(count, std::numeric_limits<float>::quiet_NaN());
}

// Normal numbers already rounded to the dtype.
inline std::vector<float> random_values(std::mt19937 &generator, enum dtype dtype, size_t count,
                                        float scale = 1) {
    std::normal_distribution<float> normal(0, scale);
    std::vector<float> values(count);
    for (float &value : values) value = normal(generator);
    return from_bytes(dtype, to_bytes(dtype, values));
}

#endif
