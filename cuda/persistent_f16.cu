#include "cuda/persistent_kernel.cuh"

persistent::step_function persistent::f16_instance(int C, int B) {
    return instance_of<__half>(C, B);
}
