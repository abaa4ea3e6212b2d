/* leases.h - jobs as the worker sees them that runs one.
 *
 * A claim gives a lease: the right to write about a job, for a time that heartbeats extend. Each claim
 * of a job has a higher token; every call below checks it in its transaction and answers E_LOST when
 * the job has been taken from the worker (another claim, requeued, ended). Then the worker stops and
 * leaves no trace: what it did since is not recorded. */
#ifndef STORE_LEASES_H
#define STORE_LEASES_H

#include "store/jobs.h"
#include "store/models.h"

#define STORE_CHECKPOINTS_KEPT 2                               /* of a job that has not ended */
#define STORE_CHECKPOINT_MS ((int64_t)7 * 24 * 60 * 60 * 1000) /* how long one outlives a failed or cancelled job */

struct store_lease {
    int64_t job;
    int64_t token;
    int attempt; /* 1 the first time */
};

/* Takes the oldest queued job for `lease_ms`: *found says whether there was one. Two claimers never get
 * the same one. `owner` names the worker, at most 63 bytes. */
int store_lease_claim(struct store_lease *out, bool *found, struct store *s, const char *owner, int64_t lease_ms,
                      struct err *e);

/* The lease ends `lease_ms` from now; *cancel says whether the job shall stop. */
int store_lease_heartbeat(bool *cancel, struct store *s, const struct store_lease *lease, int64_t lease_ms,
                          struct err *e);

/* `metrics`: the latest ones as a JSON object, NULL = leave them. */
int store_lease_progress(struct store *s, const struct store_lease *lease, const struct store_progress *progress,
                         const char *metrics, struct err *e);

/* Ends the job well: publishes `output` (NULL = none) as a version and records `result` (JSON) in one
 * transaction. *version (may be NULL) is the published one. The checkpoints go. E_LOST publishes nothing. */
int store_lease_succeed(struct store_version *version, struct store *s, const struct store_lease *lease,
                        const struct store_model_new *output, const char *result, struct err *e);

/* Ends it with an error (JSON); retrying it is up to the client. The newest checkpoint stays. */
int store_lease_fail(struct store *s, const struct store_lease *lease, const char *error, struct err *e);

/* Ends it because that was asked for. The newest checkpoint stays. */
int store_lease_cancelled(struct store *s, const struct store_lease *lease, struct err *e);

/* Gives the job back unharmed (a worker that shuts down): queued again, the attempt is not counted. */
int store_lease_release(struct store *s, const struct store_lease *lease, struct err *e);

/* ---- checkpoints ---- */

struct store_checkpoint {
    int64_t id;
    int64_t step;
    struct store_blob blob;
    int64_t created_at;
};

/* Names a finished blob as the newest checkpoint and forgets all but STORE_CHECKPOINTS_KEPT, at once.
 * E_NOT_FOUND: the blob is gone. */
int store_checkpoint_put(struct store *s, const struct store_lease *lease, int64_t step, int64_t blob, struct err *e);

/* The newest (age 0) or an older one; E_NOT_FOUND. */
int store_checkpoint_get(struct store_checkpoint *out, struct store *s, int64_t job, int age, struct err *e);

#endif
