/* run.h - one claimed job from its specification to its end in the store. */
#ifndef JOBS_RUN_H
#define JOBS_RUN_H

#include "base/error.h"
#include "jobs/host.h"
#include "store/leases.h"

/* Runs the job of a lease and records how it ended: succeeded with a published student, failed with a
 * problem, cancelled, or released when the worker stops. Errors are only those of recording that. */
int run_job(struct store *s, const struct store_lease *lease, const struct job_host_options *options, struct err *e);

#endif
