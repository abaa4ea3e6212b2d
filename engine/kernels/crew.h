/* crew.h - a few threads that work off numbered units together.
 *
 * What a unit computes must not depend on which thread does it or when: then results do not
 * depend on the number of threads. Library calls inside units are single-threaded. */
#ifndef ENGINE_KERNELS_CREW_H
#define ENGINE_KERNELS_CREW_H

#include "base/error.h"

#define CREW_MAX_THREADS 64

struct crew;

/* A crew of n threads, the caller's among them (1 <= n <= CREW_MAX_THREADS; 0 = one per processor
 * that this process may use). */
int crew_new(struct crew **out, int n, struct err *e);
void crew_free(struct crew *c);
int crew_threads(const struct crew *c);

/* Runs work(context, unit, thread) for every unit in [0, n_units), thread in [0, threads), and
 * returns when all are done. Not to be called from inside a unit. */
void crew_run(struct crew *c, void (*work)(void *context, int unit, int thread), void *context, int n_units);

#endif
