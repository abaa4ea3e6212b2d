/* watch.h - who waits for something to happen in the store: long polls and event streams.
 *
 * What they wait for is done by other processes, so one thread looks for changes with store_changes,
 * many times a second, as long as somebody waits, and wakes all waiters after one. Once a second it
 * wakes them anyway: libmicrohttpd 0.9.75 may overlook a connection while another is being suspended.
 *
 *     waiter->seen = watch_moment(w);   before looking
 *     ... look into the store: nothing new ...
 *     watch_add(w, waiter);             wakes when anything changed since that moment */
#ifndef SERVER_WATCH_H
#define SERVER_WATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

#define WATCH_EVERY_MS 50

struct watch;

struct waiter {
    void (*wake)(struct waiter *w); /* called once per watch_add, from the watching thread or from watch_add */
    uint64_t seen;                  /* a watch_moment */
    int64_t deadline_ns;            /* monotonic: wakes then at the latest */
    struct waiter *next;            /* private */
};

int watch_start(struct watch **out, struct err *e);
/* Wakes everybody and ends the thread. NULL is fine. */
void watch_stop(struct watch *w);

uint64_t watch_moment(struct watch *w);

/* The waiter must live until it is woken. After watch_close it is woken at once. */
void watch_add(struct watch *w, struct waiter *waiter);

/* Wakes everybody, now and from now on. */
void watch_close(struct watch *w);
bool watch_closed(struct watch *w);

#endif
