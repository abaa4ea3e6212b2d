/* desk.c - worker threads with a queue each. */
#include "server/desk.h"

#include <pthread.h>

#include "base/memory.h"
#include "server/stores.h"

struct desk {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct task *first, **last;
    int load; /* queued and running */
    bool stopping;
};

struct desks {
    int n;
    struct desk desk[];
};

static struct task *next_task(struct desk *d) {
    pthread_mutex_lock(&d->lock);
    while (!d->first && !d->stopping) pthread_cond_wait(&d->wake, &d->lock);
    struct task *t = d->first;
    if (t) {
        d->first = t->next;
        if (!d->first) d->last = &d->first;
    }
    pthread_mutex_unlock(&d->lock);
    return t;
}

static void *desk_main(void *argument) {
    struct desk *d = argument;
    struct task *t;
    while ((t = next_task(d))) {
        t->run(t, stores_mine());
        pthread_mutex_lock(&d->lock);
        d->load--;
        pthread_mutex_unlock(&d->lock);
    }
    return NULL;
}

static bool desk_start(struct desk *d) {
    pthread_mutex_init(&d->lock, NULL);
    pthread_cond_init(&d->wake, NULL);
    d->last = &d->first;
    if (!pthread_create(&d->thread, NULL, desk_main, d)) return true;
    pthread_cond_destroy(&d->wake);
    pthread_mutex_destroy(&d->lock);
    return false;
}

int desks_start(struct desks **out, int n, struct err *e) {
    struct desks *all = mem_calloc(1, sizeof *all + (size_t)n * sizeof all->desk[0]);
    *out = NULL;
    if (!all) return err_memory(e, sizeof *all);
    while (all->n < n && desk_start(&all->desk[all->n])) all->n++;
    if (all->n < n) {
        desks_stop(all);
        return err_set(e, E_INTERNAL, "cannot start %d threads", n);
    }
    *out = all;
    return 0;
}

void desks_stop(struct desks *all) {
    for (int i = 0; all && i < all->n; i++) {
        struct desk *d = &all->desk[i];
        pthread_mutex_lock(&d->lock);
        d->stopping = true;
        pthread_cond_signal(&d->wake);
        pthread_mutex_unlock(&d->lock);
        pthread_join(d->thread, NULL);
        pthread_cond_destroy(&d->wake);
        pthread_mutex_destroy(&d->lock);
    }
    mem_free(all);
}

int desks_choose(struct desks *all) {
    int best = 0, least = 0;
    for (int i = 0; i < all->n; i++) {
        pthread_mutex_lock(&all->desk[i].lock);
        int load = all->desk[i].load;
        pthread_mutex_unlock(&all->desk[i].lock);
        if (i == 0 || load < least) best = i, least = load;
    }
    return best;
}

void desk_submit(struct desks *all, int desk, struct task *t) {
    struct desk *d = &all->desk[desk];
    t->next = NULL;
    pthread_mutex_lock(&d->lock);
    *d->last = t;
    d->last = &t->next;
    d->load++;
    pthread_cond_signal(&d->wake);
    pthread_mutex_unlock(&d->lock);
}
