// Threads that run a whole forward pass together. One parallel region surrounds the pass; inside, each kernel
// takes its share of the work by orphaned `omp for` loops and ends with the barrier below.
//
// OpenMP's own barrier spins for milliseconds. With another program on the machine the spinning thread uses
// up the time its partner needs: measured beside two busy loops on two cores, a step took ten times as long
// with it. This one spins for microseconds, then sleeps.
#ifndef CPU_TEAM_H
#define CPU_TEAM_H

#include <pthread.h>
#include <stdatomic.h>

struct team {
    atomic_int arrived; // threads waiting in this phase
    atomic_int phase;   // counts barriers passed
    pthread_mutex_t lock;
    pthread_cond_t passed;
};

void team_init(struct team *team);
void team_destroy(struct team *team);

// Waits until every thread of the enclosing parallel region has called it; what they wrote before is visible
// after. Outside of a region there is nobody to wait for.
void team_barrier(struct team *team);

#endif
