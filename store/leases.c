/* leases.c - jobs as their worker sees them; see leases.h. Who holds the write lock may look at the token
 * first and write afterwards. */
#include "store/leases.h"

#include "base/text.h"
#include "store/internal.h"

static int lost(const struct store_lease *lease, struct err *e) {
    return err_set(e, E_LOST, "job %lld was taken from this worker", (long long)lease->job);
}

int lease_check_within(struct job_brief *out, struct store *s, const struct store_lease *lease, struct err *e) {
    struct job_brief brief;
    int r = job_brief_within(&brief, s, lease->job, e);
    if (r) return r;
    if (brief.state != STORE_JOB_RUNNING || brief.token != lease->token) return lost(lease, e);
    if (out) *out = brief;
    return 0;
}

/* ---- claim and heartbeat ---- */

static int claim_within(struct store_lease *out, bool *found, struct store *s, const char *owner, int64_t lease_ms,
                        struct err *e) {
    struct statement *st;
    char data[64];
    int64_t now = store_now(s);
    int r = db_query(
        &st, s->meta,
        "UPDATE jobs SET state = 1, attempt = attempt + 1, fencing_token = fencing_token + 1, lease_owner = ?1,"
        " lease_expires = ?2, heartbeat_at = ?3, revision = revision + 1,"
        " started_at = CASE started_at WHEN 0 THEN ?3 ELSE started_at END"
        " WHERE id = (SELECT id FROM jobs WHERE state = 0 ORDER BY id LIMIT 1)"
        " RETURNING id, fencing_token, attempt",
        BIND(value_text(owner), value_int(now + lease_ms), value_int(now)), e);
    if (!r) r = statement_step(st, e);
    if (r <= 0) return r;
    *out =
        (struct store_lease){.job = column_int(st, 0), .token = column_int(st, 1), .attempt = (int)column_int(st, 2)};
    statement_reset(st);
    *found = true;
    text_print(data, sizeof data, "{\"state\":\"running\",\"attempt\":%d}", out->attempt);
    return event_add_within(NULL, s, out->job, "state", data, e);
}

int store_lease_claim(struct store_lease *out, bool *found, struct store *s, const char *owner, int64_t lease_ms,
                      struct err *e) {
    int64_t any;
    *out = (struct store_lease){0};
    *found = false;
    int r = text_limit(owner, sizeof((struct store_job *)0)->owner - 1, "the worker's name", e);
    if (!r) r = db_integer(&any, s->meta, "SELECT EXISTS (SELECT 1 FROM jobs WHERE state = 0)", BIND_NOTHING, e);
    if (r || !any) return r; /* who waits for work takes no lock */
    r = db_begin(s->meta, DB_RELAXED, e);
    if (!r) r = db_end(s->meta, claim_within(out, found, s, owner, lease_ms, e), e);
    if (r) {
        *out = (struct store_lease){0};
        *found = false;
    }
    return r;
}

int store_lease_heartbeat(bool *cancel, struct store *s, const struct store_lease *lease, int64_t lease_ms,
                          struct err *e) {
    int64_t now = store_now(s), requested = 0;
    *cancel = false;
    int r = db_begin(s->meta, DB_RELAXED, e);
    if (r) return r;
    r = db_integer(
        &requested, s->meta,
        "UPDATE jobs SET lease_expires = ?3, heartbeat_at = ?4 WHERE id = ?1 AND state = 1 AND fencing_token = ?2"
        " RETURNING cancel_requested",
        BIND(value_int(lease->job), value_int(lease->token), value_int(now + lease_ms), value_int(now)), e);
    if (r == E_NOT_FOUND) r = lost(lease, e);
    r = db_end(s->meta, r, e);
    *cancel = !r && requested;
    return r;
}

int store_lease_progress(struct store *s, const struct store_lease *lease, const struct store_progress *progress,
                         const char *metrics, struct err *e) {
    int r = text_limit(metrics, STORE_JOB_METRICS_MAX, "the metrics", e);
    if (!r) r = db_begin(s->meta, DB_RELAXED, e);
    if (r) return r;
    r = db_run(
        s->meta,
        "UPDATE jobs SET step = ?3, steps = ?4, eta_s = ?5, metrics = COALESCE(?6, metrics), revision = revision + 1"
        " WHERE id = ?1 AND state = 1 AND fencing_token = ?2",
        BIND(value_int(lease->job), value_int(lease->token), value_int(progress->step), value_int(progress->steps),
             value_real(progress->eta_s), value_text(metrics)),
        e);
    if (!r && db_changes(s->meta) == 0) r = lost(lease, e);
    return db_end(s->meta, r, e);
}

/* ---- the end ---- */

static int publish(struct store_version *version, struct store *s, const struct store_lease *lease,
                   const struct store_model_new *output, struct err *e) {
    struct store_model_new model = *output;
    bool existed;
    model.job = lease->job;
    int r = model_put_within(version, &existed, s, &model, e);
    if (r) return r;
    return db_run(s->meta, "UPDATE jobs SET output_name = ?2, output_number = ?3, output_digest = ?4 WHERE id = ?1",
                  BIND(value_int(lease->job), value_text(version->name), value_int(version->number),
                       value_digest(&version->digest)),
                  e);
}

static int succeed_within(struct store_version *version, struct store *s, const struct store_lease *lease,
                          const struct store_model_new *output, const char *result, struct err *e) {
    struct job_brief brief;
    int r = lease_check_within(&brief, s, lease, e);
    if (!r && output) r = publish(version, s, lease, output, e);
    if (!r)
        r = db_run(s->meta, "UPDATE jobs SET result = ?2 WHERE id = ?1",
                   BIND(value_int(lease->job), value_text(result)), e);
    return r ? r : job_move_within(s, lease->job, STORE_JOB_SUCCEEDED, brief.attempt, NULL, e);
}

int store_lease_succeed(struct store_version *version, struct store *s, const struct store_lease *lease,
                        const struct store_model_new *output, const char *result, struct err *e) {
    struct store_version made = {0};
    int r = text_limit(result, STORE_JOB_RESULT_MAX, "the result", e);
    if (!r) r = db_begin(s->meta, DB_DURABLE, e);
    if (!r) r = db_end(s->meta, succeed_within(&made, s, lease, output, result, e), e);
    if (version) *version = r ? (struct store_version){0} : made;
    return r;
}

static int end_within(struct store *s, const struct store_lease *lease, enum store_job_state state, const char *error,
                      struct err *e) {
    struct job_brief brief;
    int r = lease_check_within(&brief, s, lease, e);
    return r ? r : job_move_within(s, lease->job, state, brief.attempt, error, e);
}

int store_lease_fail(struct store *s, const struct store_lease *lease, const char *error, struct err *e) {
    int r = text_limit(error, STORE_JOB_ERROR_MAX, "the error", e);
    if (!r) r = db_begin(s->meta, DB_DURABLE, e);
    return r ? r : db_end(s->meta, end_within(s, lease, STORE_JOB_FAILED, error, e), e);
}

int store_lease_cancelled(struct store *s, const struct store_lease *lease, struct err *e) {
    int r = db_begin(s->meta, DB_DURABLE, e);
    return r ? r : db_end(s->meta, end_within(s, lease, STORE_JOB_CANCELLED, NULL, e), e);
}

static int release_within(struct store *s, const struct store_lease *lease, struct err *e) {
    struct job_brief brief;
    int r = lease_check_within(&brief, s, lease, e);
    if (r) return r;
    if (brief.cancel_requested) return job_move_within(s, lease->job, STORE_JOB_CANCELLED, brief.attempt, NULL, e);
    return job_move_within(s, lease->job, STORE_JOB_QUEUED, brief.attempt - 1, NULL, e);
}

int store_lease_release(struct store *s, const struct store_lease *lease, struct err *e) {
    int r = db_begin(s->meta, DB_DURABLE, e);
    return r ? r : db_end(s->meta, release_within(s, lease, e), e);
}

/* ---- checkpoints ---- */

static int checkpoint_within(struct store *s, const struct store_lease *lease, int64_t step, int64_t blob,
                             struct err *e) {
    struct store_blob there;
    int r = lease_check_within(NULL, s, lease, e);
    if (!r) r = blob_check(&there, s, blob, e);
    if (!r)
        r = db_run(s->meta, "INSERT INTO checkpoints (job_id, step, blob, created_at) VALUES (?1, ?2, ?3, ?4)",
                   BIND(value_int(lease->job), value_int(step), value_int(blob), value_int(store_now(s))), e);
    return r ? r : checkpoint_trim_within(s, lease->job, STORE_CHECKPOINTS_KEPT, e);
}

int store_checkpoint_put(struct store *s, const struct store_lease *lease, int64_t step, int64_t blob, struct err *e) {
    int r = db_begin(s->meta, DB_DURABLE, e);
    return r ? r : db_end(s->meta, checkpoint_within(s, lease, step, blob, e), e);
}

int checkpoint_trim_within(struct store *s, int64_t job, int kept, struct err *e) {
    return db_run(s->meta,
                  "DELETE FROM checkpoints WHERE job_id = ?1 AND id NOT IN"
                  " (SELECT id FROM checkpoints WHERE job_id = ?1 ORDER BY id DESC LIMIT ?2)",
                  BIND(value_int(job), value_int(kept)), e);
}

int store_checkpoint_get(struct store_checkpoint *out, struct store *s, int64_t job, int age, struct err *e) {
    struct statement *st;
    *out = (struct store_checkpoint){0};
    int r = db_query(
        &st, s->meta,
        "SELECT id, step, created_at, blob FROM checkpoints WHERE job_id = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2",
        BIND(value_int(job), value_int(age)), e);
    if (!r) r = statement_step(st, e);
    if (r < 0) return r;
    if (r == 0) return err_set(e, E_NOT_FOUND, "job %lld has no such checkpoint", (long long)job);
    out->id = column_int(st, 0);
    out->step = column_int(st, 1);
    out->created_at = column_int(st, 2);
    int64_t blob = column_int(st, 3);
    statement_reset(st);
    r = store_blob_get(&out->blob, s, blob, e);
    if (r) *out = (struct store_checkpoint){0};
    return r;
}
