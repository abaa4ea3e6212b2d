/* desk.h - threads for work that would hold up an event loop: writing, importing, waiting for a disk.
 *
 * A desk is a thread with a queue and a store of its own. What belongs together goes to one desk, in
 * order: a writer of the store must stay with the connection it began on. Queues are as long as
 * there are connections at most, as each has one task. */
#ifndef SERVER_DESK_H
#define SERVER_DESK_H

#include <stdbool.h>

#include "base/error.h"

struct store;
struct desks;

struct task {
    void (*run)(struct task *t, struct store *store);
    struct task *next; /* private */
};

/* Starts `n` desks; each opens its store with stores_mine (server/stores.h) when it has work. */
int desks_start(struct desks **out, int n, struct err *e);

/* Runs what is queued, then ends the threads. NULL is fine. */
void desks_stop(struct desks *d);

/* The desk with the least to do; give it to desk_submit. */
int desks_choose(struct desks *d);

/* Queues a task, which must live until it has run. `store` is NULL when it could not be opened. */
void desk_submit(struct desks *d, int desk, struct task *t);

#endif
