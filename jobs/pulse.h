/* pulse.h - a thread that keeps a lease alive while a job computes, and hears whether it shall stop.
 * Steps of a job may take longer than a lease lasts, so the heart beats beside them. */
#ifndef JOBS_PULSE_H
#define JOBS_PULSE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "store/leases.h"

struct pulse;

/* Starts to extend the lease, several times per lease_ms, over a connection of its own to the folder. */
int pulse_start(struct pulse **out, const char *folder, const struct store_lease *lease, int64_t lease_ms,
                struct err *e);

/* Ends the thread and waits for it; NULL is fine. */
void pulse_stop(struct pulse *p);

bool pulse_cancelled(const struct pulse *p); /* somebody wants the job to stop */
bool pulse_lost(const struct pulse *p);      /* another worker has the job, or it has ended */

#endif
