/* host.h - struct host (engine/transfer/method.h) over the store: the world of a running job. */
#ifndef JOBS_HOST_H
#define JOBS_HOST_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "engine/transfer/method.h"
#include "jobs/loader.h"
#include "jobs/pulse.h"
#include "jobs/references.h"
#include "jobs/teller.h"
#include "store/leases.h"
#include "store/store.h"

struct job_host_options {
    const char *folder;
    int threads;
    size_t memory;
    int64_t checkpoint_ms;   /* < 0: after every step */
    struct pulse *pulse;     /* borrowed */
    const atomic_bool *stop; /* set when the worker shall end */
};

struct job_host {
    struct host host; /* what the method is given; its context is this struct */
    struct store *store;
    struct store_lease lease;
    struct job_host_options options;
    struct loader loader;
    struct teller teller;
    int64_t checkpoint_ns; /* when the last one was made, or the run began */
    int64_t step;          /* told last */
    int64_t found;         /* blob of the checkpoint that the run goes on from */
    int64_t stop_ns;       /* when it was noticed that the worker shall end; 0 = it shall not */
    bool stop_seen;        /* the method has been asked for a last checkpoint */
};

/* Borrows all it is given. */
void job_host_init(struct job_host *h, struct store *s, const struct store_lease *lease,
                   const struct references *references, const struct job_host_options *options);
void job_host_fini(struct job_host *h);

#endif
