/* watch.c - the thread that notices changes for those who wait. */
#include "server/watch.h"

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "base/clock.h"
#include "base/memory.h"
#include "server/stores.h"
#include "store/store.h"

#define NS_PER_MS INT64_C(1000000)
#define WATCHDOG_NS (1000 * NS_PER_MS)

struct watch {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct waiter *first;
    atomic_uint_fast64_t moment; /* grows with every change that was noticed */
    int64_t changes;             /* of store_changes, at that moment */
    int64_t everybody_ns;        /* when all were woken last */
    atomic_bool closed;
    bool stopping;
};

/* Unlinks those whose time has come and wakes them. */
static void wake_due(struct watch *w, int64_t now, bool everybody) {
    uint64_t moment = atomic_load(&w->moment);
    struct waiter *due = NULL;
    for (struct waiter **at = &w->first; *at;) {
        struct waiter *one = *at;
        if (everybody || one->seen != moment || one->deadline_ns <= now) {
            *at = one->next;
            one->next = due;
            due = one;
        } else {
            at = &one->next;
        }
    }
    while (due) {
        struct waiter *next = due->next; /* a woken waiter may be gone or listed again */
        due->wake(due);
        due = next;
    }
}

/* A store that cannot be read counts as changed: the waiters will find out what is wrong. */
static void look(struct watch *w) {
    int64_t changes = 0;
    struct store *store = stores_mine();
    if (store && !store_changes(&changes, store, NULL) && changes == w->changes) return;
    w->changes = changes;
    atomic_fetch_add(&w->moment, 1);
}

/* A full pause, whoever comes to wait meanwhile: it is what bounds the work per second. */
static void nap(struct watch *w) {
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += WATCH_EVERY_MS * NS_PER_MS;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    while (!w->stopping && !pthread_cond_timedwait(&w->wake, &w->lock, &until)) continue;
}

static void *watch_main(void *argument) {
    struct watch *w = argument;
    pthread_mutex_lock(&w->lock);
    while (!w->stopping) {
        if (!w->first) {
            pthread_cond_wait(&w->wake, &w->lock);
            continue;
        }
        pthread_mutex_unlock(&w->lock);
        look(w);
        pthread_mutex_lock(&w->lock);
        int64_t now = clock_monotonic_ns();
        bool everybody = now - w->everybody_ns >= WATCHDOG_NS;
        if (everybody) w->everybody_ns = now;
        wake_due(w, now, everybody);
        nap(w);
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

int watch_start(struct watch **out, struct err *e) {
    *out = NULL;
    struct watch *w = mem_calloc(1, sizeof *w);
    if (!w) return err_memory(e, sizeof *w);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->wake, &monotonic);
    pthread_condattr_destroy(&monotonic);
    if (!pthread_create(&w->thread, NULL, watch_main, w)) {
        *out = w;
        return 0;
    }
    pthread_cond_destroy(&w->wake);
    pthread_mutex_destroy(&w->lock);
    mem_free(w);
    return err_set(e, E_INTERNAL, "cannot start a thread");
}

void watch_close(struct watch *w) {
    pthread_mutex_lock(&w->lock);
    atomic_store(&w->closed, true);
    wake_due(w, 0, true);
    pthread_mutex_unlock(&w->lock);
}

void watch_stop(struct watch *w) {
    if (!w) return;
    watch_close(w);
    pthread_mutex_lock(&w->lock);
    w->stopping = true;
    pthread_cond_signal(&w->wake);
    pthread_mutex_unlock(&w->lock);
    pthread_join(w->thread, NULL);
    pthread_cond_destroy(&w->wake);
    pthread_mutex_destroy(&w->lock);
    mem_free(w);
}

uint64_t watch_moment(struct watch *w) {
    return atomic_load(&w->moment);
}

bool watch_closed(struct watch *w) {
    return atomic_load(&w->closed);
}

void watch_add(struct watch *w, struct waiter *waiter) {
    pthread_mutex_lock(&w->lock);
    if (atomic_load(&w->closed)) {
        waiter->wake(waiter);
    } else {
        waiter->next = w->first;
        w->first = waiter;
        if (!waiter->next) pthread_cond_signal(&w->wake);
    }
    pthread_mutex_unlock(&w->lock);
}
