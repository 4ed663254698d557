// The kernel of the persistent step, and which one of its instances serves which sizes.
#ifndef CUDA_PERSISTENT_KERNEL_CUH
#define CUDA_PERSISTENT_KERNEL_CUH

#include "cuda/persistent_assist.cuh"
#include "cuda/persistent_feed.cuh"
#include "cuda/persistent_phases.cuh"

// Not an unnamed namespace: on older targets the kernel is empty and its parts are not used.
namespace persistent {

// ---- the kernel

__device__ inline void init_barriers(shared_state *s, int stages) {
#pragma unroll 1
    for (int i = 0; i < stages; i++) {
        barrier_init(s->full + i, 1);
        barrier_init(s->empty + i, MULTIPLIERS);
    }
    for (uint64_t *barrier : {&s->stream, &s->qkv, &s->attention, &s->inner}) barrier_init(barrier, 1);
    barrier_init(&s->followed, WORKER_WARPS);
    barrier_init(&s->emptied, ADDER_WARPS);
    barrier_init(&s->chosen, MULTIPLIERS);
    barrier_init_fence();
}

__device__ inline void init_owned(shared_state *s, const arguments &a) {
    const int cluster = cluster_of_block(), tiles = (a.m.V + TILE - 1) / TILE;
    s->heads_owned = count_of(a.m.H, a.clusters, cluster);
    s->groups_owned = a.first_group[cluster + 1] - a.first_group[cluster];
    s->vocab_owned = count_of(tiles, (int)gridDim.x, (int)blockIdx.x);
}

// Dynamic shared memory: shared_state, shared_layout, the ring of weights. Without steps it does nothing.
template <typename S>
__global__ void __launch_bounds__(THREADS, 1) step_kernel(const __grid_constant__ arguments a) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
    if (a.steps == 0) return; // asked whether it can be launched
    extern __shared__ __align__(1024) unsigned char shared[];
    shared_state *s = reinterpret_cast<shared_state *>(shared);
    if (threadIdx.x == 0) {
        init_barriers(s, a.ring.stages);
        init_owned(s, a);
    }
    if (threadIdx.x < S::B) { // rows that the kernel has beyond the session's are free
        const int length = (int)threadIdx.x < a.r.B ? a.r.lengths[threadIdx.x] : 0;
        s->length[threadIdx.x] = length;
        s->token[threadIdx.x] =
            length > 0 ? a.r.tokens[(size_t)threadIdx.x * a.r.max_tokens + length - 1] : 0;
    }
    __syncthreads();
    cluster_arrive(); // nobody sends before all barriers are there
    cluster_wait();
    worker w;
    w.s = s;
    w.warp = uniform_warp(), w.lane = threadIdx.x % WARP;
    if (w.warp < MULTIPLIERS) {
        asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(int{MULTIPLIER_REGISTERS}));
        multiply_steps<S>(&w, a);
    } else {
        asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(int{OTHER_REGISTERS}));
        if (w.warp == FEEDER) {
            feeder f = {s, shared + a.ring.slots, w.lane, evict_first_policy(), {}, {}, 0, 0};
            feed<S>(&f, a);
        }
        if (S::STREAM_ONCE && w.warp >= ADDER) add_steps<S>(s, w.warp - ADDER, w.lane, a);
        if (w.warp != ASSISTANT) return; // those that wait below would be missed by the workers' barrier
        assist_steps<S>(&w, a);
    }
    __syncwarp();
    cluster_arrive(); // nobody's shared memory goes while somebody may still send to it
    cluster_wait();
#endif
}

using step_function = void (*)(arguments);

// Rows of the instance that serves B rows. GPT-2's sizes have instances of their own (more than 4 rows of the
// larger ones are slower than other ways, and share one), others share some.
constexpr int rows_of_instance(int C, int B) {
    const bool own = C == 768 || C == 1024 || C == 1280 || C == 1600;
    return own && B <= 2 ? B : B <= 4 ? 4 : (int)MAX_ROWS;
}

template <typename T, int C>
step_function instance_of_rows(int B) {
    static_assert(MAX_ROWS == 8, "see rows_of_instance");
    return B == 1   ? step_kernel<shape<T, C, 1>>
           : B == 2 ? step_kernel<shape<T, C, 2>>
           : B <= 4 ? step_kernel<shape<T, C, 4>>
                    : step_kernel<shape<T, C <= 1024 ? C : 0, 8>>;
}

template <typename T>
step_function instance_of(int C, int B) {
    switch (C) {
    case 768:
        return instance_of_rows<T, 768>(B);
    case 1024:
        return instance_of_rows<T, 1024>(B);
    case 1280:
        return instance_of_rows<T, 1280>(B);
    case 1600:
        return instance_of_rows<T, 1600>(B);
    default:
        return B <= 4 ? step_kernel<shape<T, 0, 4>> : step_kernel<shape<T, 0, 8>>;
    }
}

// In a file each: they take long to compile.
step_function f16_instance(int C, int B);
step_function bf16_instance(int C, int B);

} // namespace persistent

#endif
