// The best of a row's tokens so far: the highest logit, of equal ones the lowest id.
#ifndef CUDA_BEST_TOKEN_CUH
#define CUDA_BEST_TOKEN_CUH

struct best {
    float value;
    int id;
};
__device__ inline best better(best a, best b) {
    return b.value > a.value || (b.value == a.value && b.id < a.id) ? b : a;
}

#endif
