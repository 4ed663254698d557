#include "cuda/persistent_kernel.cuh"

persistent::step_function persistent::bf16_instance(int C, int B) {
    return instance_of<__nv_bfloat16>(C, B);
}
