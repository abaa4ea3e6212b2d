/* events.h - what a job tells while it runs: numbered events, and series of numbers.
 * Both survive a killed process; the last of them may be lost with the power. */
#ifndef STORE_EVENTS_H
#define STORE_EVENTS_H

#include "store/leases.h"

#define STORE_EVENT_DATA_MAX (64 << 10)
#define STORE_EVENT_BATCH_MAX 1000
#define STORE_EVENTS_KEPT 100000 /* newest of each job */

struct store_event_new {
    const char *type; /* "progress" "metric" "log" "state" "end"; at most 31 bytes */
    const char *data; /* JSON */
};

struct store_event {
    int64_t seq; /* 1, 2, 3... within the job, without gaps */
    int64_t at;
    char type[32];
    char *data; /* belongs to the page */
};

struct store_event_page {
    struct store_event *items;
    size_t n;
};

/* Appends in order, all or none; *last (may be NULL) is the number of the last one. E_LOST, E_TOO_LARGE. */
int store_event_append(int64_t *last, struct store *s, const struct store_lease *lease,
                       const struct store_event_new *events, size_t n, struct err *e);

/* Events after number `after`, oldest first, at most `limit` (1..STORE_PAGE_MAX) and about 4 MiB of
 * data, but at least one. Unknown jobs have none. */
int store_event_read(struct store_event_page *out, struct store *s, int64_t job, int64_t after, int limit,
                     struct err *e);
void store_event_page_fini(struct store_event_page *page);

/* ---- metrics: (series, step) -> value ---- */

#define STORE_SERIES_SIZE 65
#define STORE_SERIES_MAX 256 /* of one job */
#define STORE_POINTS_MAX 10000

struct store_point {
    int64_t step;
    double value; /* NaN and infinities are kept */
};

struct store_point_new {
    const char *series; /* "loss", at most 64 bytes */
    struct store_point point;
};

/* Records points, at most STORE_POINTS_MAX a call; a step recorded before gets the new value (a job
 * that resumes writes some again). E_LOST; E_TOO_LARGE: too many points or series. */
int store_metric_append(struct store *s, const struct store_lease *lease, const struct store_point_new *points,
                        size_t n, struct err *e);

struct store_series_list {
    char (*names)[STORE_SERIES_SIZE]; /* by name */
    size_t n;
};

int store_series_list(struct store_series_list *out, struct store *s, int64_t job, struct err *e);
void store_series_list_fini(struct store_series_list *list);

struct store_point_page {
    struct store_point *items;
    size_t n;
};

/* Points of a series with step > after (INT64_MIN = from the first), by step, at most `limit`
 * (1..STORE_POINTS_MAX). An unknown series has none. */
int store_metric_read(struct store_point_page *out, struct store *s, int64_t job, const char *series, int64_t after,
                      int limit, struct err *e);
void store_point_page_fini(struct store_point_page *page);

#endif
