/* jobs.h - jobs as clients see them: created, read, listed, cancelled, tried again.
 * What the worker that runs one does: store/leases.h.
 *
 * Every change of state appends the event "state" with {"state":...,"attempt":...}, and a final one
 * "end" with the same after it, in the transaction of the change (store/events.h). */
#ifndef STORE_JOBS_H
#define STORE_JOBS_H

#include "store/catalog.h"

#define STORE_JOB_INPUTS_MAX 64
#define STORE_JOB_ATTEMPTS 3
#define STORE_JOB_SPEC_MAX (1 << 20)
#define STORE_JOB_RESULT_MAX (4 << 20)
#define STORE_JOB_METRICS_MAX (64 << 10)
#define STORE_JOB_ERROR_MAX (16 << 10)
#define STORE_IDEMPOTENCY_MS (24 * 60 * 60 * 1000)
#define STORE_IDEMPOTENCY_KEY_MAX 255

/* clang-format off */
#define STORE_JOB_STATES(X) \
    X(STORE_JOB_QUEUED, "queued") \
    X(STORE_JOB_RUNNING, "running") \
    X(STORE_JOB_SUCCEEDED, "succeeded") \
    X(STORE_JOB_FAILED, "failed") \
    X(STORE_JOB_CANCELLED, "cancelled")

enum store_job_state {
#define X(state, word) state,
    STORE_JOB_STATES(X)
#undef X
    STORE_JOB_STATE_COUNT
};
/* clang-format on */

const char *store_job_state_name(enum store_job_state state);
/* false when the word is none of them. */
bool store_job_state_from_name(enum store_job_state *out, const char *word);
/* Succeeded, failed or cancelled. */
bool store_job_state_final(enum store_job_state state);

struct store_job_new {
    const char *method;
    const char *spec;      /* JSON, every default filled in */
    const int64_t *inputs; /* ids of the versions it reads: they cannot be deleted before it has ended */
    size_t n_inputs;
    int max_attempts;  /* workers that may die of it; 0 = STORE_JOB_ATTEMPTS */
    int max_queued;    /* E_BUSY when so many are queued already; 0 = no limit */
    const char *trace; /* trace id of the request, or NULL */

    const char *idempotency_key; /* NULL = none */
    const char *principal;       /* whose key it is; NULL = "" */
    struct digest fingerprint;   /* of the request's body */
};

/* Queues a job. A key that this principal used within STORE_IDEMPOTENCY_MS with the same fingerprint
 * gives that job again, and *replayed (may be NULL) is true; with another fingerprint E_INVALID. (Two
 * requests at a time with one key are one after the other: none is ever told to come back.)
 * E_NOT_FOUND: an input is gone. E_TOO_LARGE. */
int store_job_create(int64_t *out, bool *replayed, struct store *s, const struct store_job_new *job, struct err *e);

struct store_progress {
    int64_t step, steps; /* 0 of 0 before the first report */
    double eta_s;        /* NaN = unknown */
};

struct store_job {
    int64_t id;
    char method[64];
    enum store_job_state state;
    bool cancel_requested;
    struct store_progress progress;
    char *spec;                        /* NULL in lists */
    char *metrics;                     /* the latest, a JSON object, or NULL */
    char *result;                      /* JSON as the worker gave it, or NULL; NULL in lists */
    char *error;                       /* JSON as the worker gave it, or NULL */
    char *trace;                       /* or NULL */
    char output_name[STORE_NAME_SIZE]; /* the model it made, "" = none; kept when that is deleted */
    int64_t output_number;
    struct digest output_digest;
    int attempt, max_attempts;
    int64_t created_at, started_at, finished_at; /* 0 = not yet */
    char owner[64];                              /* worker that holds it, "" = none */
    int64_t heartbeat_at, lease_expires;         /* 0 = none */
    int64_t revision;                            /* grows with every change but heartbeats */
};

int store_job_get(struct store_job *out, struct store *s, int64_t job, struct err *e);
void store_job_fini(struct store_job *job);

/* Just the state and the number of the newest event (0 = none): for those who wait. */
int store_job_peek(enum store_job_state *state, int64_t *last_event, struct store *s, int64_t job, struct err *e);

struct store_job_query {
    int state;          /* enum store_job_state, or -1 = any */
    const char *method; /* or NULL */
    int64_t after;      /* 0, or `next` of the page before */
    int limit;          /* 1..STORE_PAGE_MAX */
};

struct store_job_page {
    struct store_job *items;
    size_t n;
    int64_t next; /* 0 = this was the last page */
};

/* Newest first. */
int store_job_list(struct store_job_page *out, struct store *s, const struct store_job_query *query, struct err *e);
void store_job_page_fini(struct store_job_page *page);

/* The versions a job reads, in the order given at its creation; out has room for STORE_JOB_INPUTS_MAX. */
int store_job_inputs(int64_t *out, size_t *n, struct store *s, int64_t job, struct err *e);

/* A queued job is cancelled at once, a running one is asked to stop (its worker learns it with the next
 * heartbeat); *state (may be NULL) is the one afterwards. Cancelled already: nothing happens. E_NOT_FOUND;
 * E_CONFLICT when it has ended otherwise. */
int store_job_cancel(enum store_job_state *state, struct store *s, int64_t job, struct err *e);

/* Queues a failed or cancelled job again, with its attempts counted from 0 and its last checkpoint kept.
 * E_NOT_FOUND; E_CONFLICT in any other state or when one of its inputs was deleted. */
int store_job_retry(struct store *s, int64_t job, struct err *e);

/* Jobs whose lease ran out: queued again, or failed when they have had all their attempts (the error is
 * {"type":"worker-lost",...}), or cancelled when that was asked for. Whoever waits for work calls it now and then. */
int store_job_requeue(int64_t *n, struct store *s, struct err *e);

#endif
