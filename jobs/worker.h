/* worker.h - the process that runs jobs: claims one, runs its method, publishes the result, claims the next. */
#ifndef JOBS_WORKER_H
#define JOBS_WORKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "store/store.h"

struct worker_options {
    const char *folder;    /* data folder of the store */
    const char *name;      /* owner of leases, at most 63 bytes; NULL = "host:pid" */
    int threads;           /* of the engine; 0 = one per processor */
    size_t memory;         /* bytes one job may take; 0 = no limit */
    int64_t lease_ms;      /* how long a job stays ours without a sign of life; 0 = WORKER_LEASE_MS */
    int64_t checkpoint_ms; /* between two checkpoints; 0 = WORKER_CHECKPOINT_MS, < 0 = after every step */
    int64_t poll_ms;       /* longest sleep between two looks at an empty queue; 0 = WORKER_POLL_MS */
    bool until_idle;       /* return when the queue is empty, for tests and for cron */
};

#define WORKER_LEASE_MS 10000
#define WORKER_CHECKPOINT_MS 5000
#define WORKER_POLL_MS 250

/* Works until SIGTERM or SIGINT, then gives the job at hand back to the queue (with a checkpoint of the
 * step just finished) and returns 0; 1 when the store cannot be opened. Takes over the handlers of both
 * signals. Errors of jobs are the jobs' own, and never end the worker. */
int worker_main(const struct worker_options *options);

/* Claims and runs one job, if there is one: *found. Errors are those of the store. `s` is this thread's. */
int worker_run_one(bool *found, struct store *s, const struct worker_options *options, struct err *e);

/* Asks the worker of this process to stop as SIGTERM does; safe in signal handlers. */
void worker_stop(void);

#endif
