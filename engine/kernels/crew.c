/* crew.c - threads that spin briefly for the next task, then sleep. */
#include "engine/kernels/crew.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/memory.h"
#include "engine/kernels/blas.h"

/* A network's steps follow each other within microseconds: waiting for them by spinning is
 * far cheaper than sleeping. After this many pauses (about 50 us) the thread sleeps. */
#define SPINS 2000

struct crew {
    int threads;
    pthread_t handle[CREW_MAX_THREADS];
    int started; /* threads[1..started] run */

    void (*work)(void *context, int unit, int thread);
    void *context;
    int n_units;
    _Alignas(64) atomic_int next_unit;
    _Alignas(64) atomic_uint task; /* counts up with every crew_run; odd jumps never happen */
    _Alignas(64) atomic_int busy;  /* helpers that have not finished the task */
    atomic_bool quit;

    pthread_mutex_t mutex; /* for sleeping only */
    pthread_cond_t wake;
    atomic_int sleepers;
};

struct helper {
    struct crew *crew;
    int thread;
};

static void pause_briefly(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#else
    sched_yield();
#endif
}

static void work_off(struct crew *c, int thread) {
    for (;;) {
        int unit = atomic_fetch_add_explicit(&c->next_unit, 1, memory_order_relaxed);
        if (unit >= c->n_units) return;
        c->work(c->context, unit, thread);
    }
}

/* Waits until the task number differs from `seen`; returns the new one. */
static unsigned wait_for_task(struct crew *c, unsigned seen) {
    for (int i = 0; i < SPINS; i++) {
        unsigned task = atomic_load_explicit(&c->task, memory_order_acquire);
        if (task != seen) return task;
        pause_briefly();
    }
    pthread_mutex_lock(&c->mutex);
    atomic_fetch_add(&c->sleepers, 1);
    unsigned task;
    while ((task = atomic_load(&c->task)) == seen) pthread_cond_wait(&c->wake, &c->mutex);
    atomic_fetch_sub(&c->sleepers, 1);
    pthread_mutex_unlock(&c->mutex);
    return task;
}

static void *helper_main(void *argument) {
    struct helper h = *(struct helper *)argument;
    mem_free(argument);
    blas_enter_thread();
    for (unsigned seen = 0;;) {
        seen = wait_for_task(h.crew, seen);
        if (atomic_load(&h.crew->quit)) return NULL;
        work_off(h.crew, h.thread);
        atomic_fetch_sub_explicit(&h.crew->busy, 1, memory_order_release);
    }
}

static void announce_task(struct crew *c) {
    atomic_fetch_add(&c->task, 1);
    if (atomic_load(&c->sleepers) == 0) return;
    pthread_mutex_lock(&c->mutex);
    pthread_cond_broadcast(&c->wake);
    pthread_mutex_unlock(&c->mutex);
}

void crew_run(struct crew *c, void (*work)(void *, int, int), void *context, int n_units) {
    if (c->started == 0 || n_units == 1) {
        for (int unit = 0; unit < n_units; unit++) work(context, unit, 0);
        return;
    }
    c->work = work;
    c->context = context;
    c->n_units = n_units;
    atomic_store_explicit(&c->next_unit, 0, memory_order_relaxed);
    atomic_store_explicit(&c->busy, c->started, memory_order_relaxed);
    announce_task(c);
    work_off(c, 0);
    for (int i = 0; atomic_load_explicit(&c->busy, memory_order_acquire) > 0; i++)
        if (i < SPINS)
            pause_briefly();
        else
            sched_yield();
}

static int start_helpers(struct crew *c, struct err *e) {
    for (int i = 1; i < c->threads; i++) {
        struct helper *h = mem_alloc(sizeof *h);
        if (!h) return err_memory(e, sizeof *h);
        *h = (struct helper){c, i};
        if (pthread_create(&c->handle[i], NULL, helper_main, h)) {
            mem_free(h);
            return err_set(e, E_BUSY, "cannot start thread %d of %d", i + 1, c->threads);
        }
        c->started = i;
    }
    return 0;
}

static int processors(void) {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set)) return 1;
    int n = CPU_COUNT(&set);
    return n < 1 ? 1 : n > CREW_MAX_THREADS ? CREW_MAX_THREADS : n;
}

int crew_new(struct crew **out, int n, struct err *e) {
    if (n < 0 || n > CREW_MAX_THREADS)
        return err_set(e, E_INVALID, "%d threads asked for; between 1 and %d are possible", n, CREW_MAX_THREADS);
    struct crew *c = mem_alloc_aligned(sizeof *c);
    if (!c) return err_memory(e, sizeof *c);
    c->threads = n ? n : processors();
    pthread_mutex_init(&c->mutex, NULL);
    pthread_cond_init(&c->wake, NULL);
    blas_enter_thread();
    int status = start_helpers(c, e);
    if (status) {
        crew_free(c);
        return status;
    }
    *out = c;
    return 0;
}

void crew_free(struct crew *c) {
    if (!c) return;
    atomic_store(&c->quit, true);
    announce_task(c);
    for (int i = 1; i <= c->started; i++) pthread_join(c->handle[i], NULL);
    pthread_cond_destroy(&c->wake);
    pthread_mutex_destroy(&c->mutex);
    mem_free_aligned(c);
}

int crew_threads(const struct crew *c) {
    return c->threads;
}
