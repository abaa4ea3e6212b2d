/* teller.h - what a running job tells the world: events, series, progress, gathered and written
 * a few times per second, so that a job of a thousand steps a second does not write as often. */
#ifndef JOBS_TELLER_H
#define JOBS_TELLER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/text.h"
#include "store/events.h"
#include "store/leases.h"
#include "store/store.h"

#define TELLER_FLUSH_MS 200 /* how old the oldest thing not yet written may get */
#define TELLER_BATCH 256
#define TELLER_SERIES 64

struct teller {
    struct store *store;
    struct store_lease lease;
    struct text data[TELLER_BATCH]; /* of the events, JSON */
    const char *types[TELLER_BATCH];
    size_t n_events;
    char series[TELLER_BATCH][STORE_SERIES_SIZE];
    struct store_point points[TELLER_BATCH];
    size_t n_points;
    struct {
        char name[STORE_SERIES_SIZE];
        double value;
    } latest[TELLER_SERIES];
    size_t n_latest;
    int64_t step, steps;             /* told last */
    int64_t shown_step, shown_steps; /* written last */
    int64_t first_step, first_ns;    /* when this attempt began to step, for the time left */
    int64_t flushed_ns;
    bool lost;
};

void teller_init(struct teller *t, struct store *s, const struct store_lease *lease);
void teller_fini(struct teller *t);

void teller_metric(struct teller *t, const char *series, int64_t step, double value);
void teller_log(struct teller *t, const char *text);
void teller_progress(struct teller *t, int64_t step, int64_t steps);

/* Writes what is gathered, at once or when it is time. What cannot be written is dropped with a line in
 * the log of the process - a job does not fail for its commentary - but E_LOST is remembered. */
void teller_flush(struct teller *t);
void teller_flush_when_due(struct teller *t);

#endif
