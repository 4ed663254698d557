#include "cpu/team.h"

#include <omp.h>

void team_init(struct team *team) {
    // On Linux neither takes resources or fails without attributes.
    pthread_mutex_init(&team->lock, NULL);
    pthread_cond_init(&team->passed, NULL);
    atomic_init(&team->arrived, 0);
    atomic_init(&team->phase, 0);
}

void team_destroy(struct team *team) {
    pthread_cond_destroy(&team->passed);
    pthread_mutex_destroy(&team->lock);
}

static void pass(struct team *team) {
    atomic_store(&team->arrived, 0);
    pthread_mutex_lock(&team->lock);
    atomic_fetch_add(&team->phase, 1);
    pthread_mutex_unlock(&team->lock);
    pthread_cond_broadcast(&team->passed);
}

void team_barrier(struct team *team) {
    const int spins = 10000; // some microseconds, as long as waking a thread takes
    const int threads = omp_get_num_threads(), phase = atomic_load(&team->phase);
    if (atomic_fetch_add(&team->arrived, 1) == threads - 1) {
        pass(team);
        return;
    }
    for (int i = 0; i < spins; i++) {
        if (atomic_load_explicit(&team->phase, memory_order_acquire) != phase) return;
    }
    pthread_mutex_lock(&team->lock);
    while (atomic_load(&team->phase) == phase) pthread_cond_wait(&team->passed, &team->lock);
    pthread_mutex_unlock(&team->lock);
}
