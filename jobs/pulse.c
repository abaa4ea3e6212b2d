/* pulse.c - the heartbeat thread. */
#include "jobs/pulse.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <time.h>

#include "base/log.h"
#include "base/memory.h"

#define BEATS_PER_LEASE 5

struct pulse {
    struct store *store;
    struct store_lease lease;
    int64_t lease_ms;
    atomic_bool cancelled, lost;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    bool stop; /* under the mutex */
};

static void beat(struct pulse *p) {
    bool cancel = false;
    struct err e = {0};
    int status = store_lease_heartbeat(&cancel, p->store, &p->lease, p->lease_ms, &e);
    if (status == E_LOST)
        atomic_store(&p->lost, true);
    else if (status)
        log_warn("job %lld: no heartbeat: %s", (long long)p->lease.job, e.text);
    if (cancel) atomic_store(&p->cancelled, true);
}

static struct timespec in_ms(int64_t ms) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    int64_t ns = t.tv_nsec + ms % 1000 * 1000000;
    t.tv_sec += (time_t)(ms / 1000 + ns / 1000000000);
    t.tv_nsec = (long)(ns % 1000000000);
    return t;
}

static void *pulse_main(void *context) {
    struct pulse *p = context;
    pthread_mutex_lock(&p->mutex);
    while (!p->stop && !atomic_load(&p->lost)) {
        struct timespec until = in_ms(p->lease_ms / BEATS_PER_LEASE);
        while (!p->stop && pthread_cond_timedwait(&p->wake, &p->mutex, &until) != ETIMEDOUT) {
        }
        if (p->stop) break;
        pthread_mutex_unlock(&p->mutex);
        beat(p);
        pthread_mutex_lock(&p->mutex);
    }
    pthread_mutex_unlock(&p->mutex);
    return NULL;
}

/* Signals are for the main thread. */
static int start_thread(struct pulse *p, struct err *e) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(&p->thread, NULL, pulse_main, p);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return failed ? err_set(e, E_BUSY, "cannot start the thread of heartbeats") : 0;
}

static void pulse_free(struct pulse *p) {
    store_close(p->store);
    pthread_cond_destroy(&p->wake);
    pthread_mutex_destroy(&p->mutex);
    mem_free(p);
}

int pulse_start(struct pulse **out, const char *folder, const struct store_lease *lease, int64_t lease_ms,
                struct err *e) {
    struct pulse *p = mem_calloc(1, sizeof *p);
    if (!p) return err_memory(e, sizeof *p);
    p->lease = *lease;
    p->lease_ms = lease_ms;
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&p->mutex, NULL);
    pthread_cond_init(&p->wake, &monotonic);
    pthread_condattr_destroy(&monotonic);
    int status = store_open(&p->store, &(struct store_options){.folder = folder}, e);
    if (!status) status = start_thread(p, e);
    if (status)
        pulse_free(p);
    else
        *out = p;
    return status;
}

void pulse_stop(struct pulse *p) {
    if (!p) return;
    pthread_mutex_lock(&p->mutex);
    p->stop = true;
    pthread_cond_signal(&p->wake);
    pthread_mutex_unlock(&p->mutex);
    pthread_join(p->thread, NULL);
    pulse_free(p);
}

bool pulse_cancelled(const struct pulse *p) {
    return atomic_load(&p->cancelled);
}
bool pulse_lost(const struct pulse *p) {
    return atomic_load(&p->lost);
}
