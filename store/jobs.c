/* jobs.c - jobs as clients see them; see jobs.h. */
#include "store/jobs.h"

#include "base/memory.h"
#include "base/text.h"
#include "store/internal.h"

/* ---- states ---- */

static const char *const state_words[] = {
#define X(state, word) word,
    STORE_JOB_STATES(X)
#undef X
};

const char *store_job_state_name(enum store_job_state state) {
    return state_words[state];
}

bool store_job_state_from_name(enum store_job_state *out, const char *word) {
    for (int i = 0; i < STORE_JOB_STATE_COUNT; i++)
        if (strcmp(state_words[i], word) == 0) {
            *out = (enum store_job_state)i;
            return true;
        }
    return false;
}

bool store_job_state_final(enum store_job_state state) {
    return state != STORE_JOB_QUEUED && state != STORE_JOB_RUNNING;
}

static int state_events(struct store *s, int64_t job, enum store_job_state state, int attempt, struct err *e) {
    char data[64];
    text_print(data, sizeof data, "{\"state\":\"%s\",\"attempt\":%d}", state_words[state], attempt);
    int r = event_add_within(NULL, s, job, "state", data, e);
    if (!r && store_job_state_final(state)) r = event_add_within(NULL, s, job, "end", data, e);
    return r;
}

int job_brief_within(struct job_brief *out, struct store *s, int64_t job, struct err *e) {
    struct statement *st;
    *out = (struct job_brief){0};
    int r = db_query(&st, s->meta,
                     "SELECT state, attempt, max_attempts, cancel_requested, fencing_token FROM jobs WHERE id = ?1",
                     BIND(value_int(job)), e);
    if (!r) r = statement_step(st, e);
    if (r < 0) return r;
    if (r == 0) return err_set(e, E_NOT_FOUND, "there is no job %lld", (long long)job);
    out->state = (enum store_job_state)column_int(st, 0);
    out->attempt = (int)column_int(st, 1);
    out->max_attempts = (int)column_int(st, 2);
    out->cancel_requested = column_int(st, 3) != 0;
    out->token = column_int(st, 4);
    statement_reset(st);
    return 0;
}

int job_move_within(struct store *s, int64_t job, enum store_job_state state, int attempt, const char *error,
                    struct err *e) {
    bool final = store_job_state_final(state);
    int r = db_run(s->meta,
                   "UPDATE jobs SET state = ?2, attempt = ?3, error = ?4, finished_at = ?5, cancel_requested = 0,"
                   " lease_owner = NULL, lease_expires = 0, heartbeat_at = 0, revision = revision + 1 WHERE id = ?1",
                   BIND(value_int(job), value_int(state), value_int(attempt), value_text(error),
                        value_int(final ? store_now(s) : 0)),
                   e);
    if (!r && final) r = checkpoint_trim_within(s, job, state == STORE_JOB_SUCCEEDED ? 0 : 1, e);
    return r ? r : state_events(s, job, state, attempt, e);
}

/* ---- creating ---- */

static int check_new(const struct store_job_new *job, struct err *e) {
    size_t n = strlen(job->method);
    if (n == 0 || n >= sizeof((struct store_job *)0)->method)
        return err_set(e, E_INVALID, "the method has no fitting name");
    if (job->n_inputs > STORE_JOB_INPUTS_MAX)
        return err_set(e, E_TOO_LARGE, "a job reads at most %d models and data sets", STORE_JOB_INPUTS_MAX);
    const char *key = job->idempotency_key;
    if (key && (!*key || strlen(key) > STORE_IDEMPOTENCY_KEY_MAX))
        return err_set(e, E_INVALID, "Idempotency-Key must be 1 to %d bytes long", STORE_IDEMPOTENCY_KEY_MAX);
    int r = text_limit(job->trace, 64, "the trace id", e);
    return r ? r : text_limit(job->spec, STORE_JOB_SPEC_MAX, "the specification", e);
}

static const char *principal_of(const struct store_job_new *job) {
    return job->principal ? job->principal : "";
}

/* The job that this key made, or 0. */
static int find_replay(int64_t *out, struct store *s, const struct store_job_new *job, struct err *e) {
    struct statement *st;
    struct digest before;
    *out = 0;
    int r =
        db_query(&st, s->meta,
                 "SELECT job_id, fingerprint FROM idempotency WHERE principal = ?1 AND key = ?2 AND expires_at > ?3",
                 BIND(value_text(principal_of(job)), value_text(job->idempotency_key), value_int(store_now(s))), e);
    if (!r) r = statement_step(st, e);
    if (r <= 0) return r;
    *out = column_int(st, 0);
    column_digest(&before, st, 1);
    statement_reset(st);
    if (digest_equal(&before, &job->fingerprint)) return 0;
    return err_set(e, E_INVALID,
                   "this Idempotency-Key was used for another request, which made job %lld; take a new key",
                   (long long)*out);
}

static int check_queue(struct store *s, const struct store_job_new *job, struct err *e) {
    int64_t queued;
    if (job->max_queued <= 0) return 0;
    int r = db_integer(&queued, s->meta, "SELECT COUNT(*) FROM jobs WHERE state = 0", BIND_NOTHING, e);
    if (!r && queued >= job->max_queued)
        r = err_set(e, E_BUSY, "%lld jobs are queued, which is the limit; try again later", (long long)queued);
    return r;
}

static int add_inputs(struct store *s, int64_t id, const struct store_job_new *job, struct err *e) {
    for (size_t i = 0; i < job->n_inputs; i++) {
        struct store_version version;
        int r = version_get_within(&version, s, job->inputs[i], e);
        if (!r)
            r = db_run(s->meta, "INSERT INTO job_inputs (job_id, position, version_id) VALUES (?1, ?2, ?3)",
                       BIND(value_int(id), value_int((int64_t)i), value_int(job->inputs[i])), e);
        if (r) return r;
    }
    return 0;
}

static int remember_key(struct store *s, int64_t id, const struct store_job_new *job, struct err *e) {
    if (!job->idempotency_key) return 0;
    return db_run(
        s->meta,
        "INSERT INTO idempotency (principal, key, fingerprint, job_id, expires_at) VALUES (?1, ?2, ?3, ?4, ?5)"
        " ON CONFLICT (principal, key) DO UPDATE SET fingerprint = excluded.fingerprint,"
        " job_id = excluded.job_id, expires_at = excluded.expires_at",
        BIND(value_text(principal_of(job)), value_text(job->idempotency_key), value_digest(&job->fingerprint),
             value_int(id), value_int(store_now(s) + STORE_IDEMPOTENCY_MS)),
        e);
}

static int create_within(int64_t *out, bool *replayed, struct store *s, const struct store_job_new *job,
                         struct err *e) {
    int r = job->idempotency_key ? find_replay(out, s, job, e) : 0;
    *replayed = !r && *out != 0;
    if (r || *replayed) return r;
    r = check_queue(s, job, e);
    if (!r)
        r = db_run(
            s->meta,
            "INSERT INTO jobs (method, state, spec, trace, max_attempts, created_at) VALUES (?1, 0, ?2, ?3, ?4, ?5)",
            BIND(value_text(job->method), value_text(job->spec), value_text(job->trace),
                 value_int(job->max_attempts > 0 ? job->max_attempts : STORE_JOB_ATTEMPTS), value_int(store_now(s))),
            e);
    if (r) return r;
    *out = db_last_id(s->meta);
    r = add_inputs(s, *out, job, e);
    if (!r) r = remember_key(s, *out, job, e);
    return r ? r : state_events(s, *out, STORE_JOB_QUEUED, 0, e);
}

int store_job_create(int64_t *out, bool *replayed, struct store *s, const struct store_job_new *job, struct err *e) {
    bool again = false;
    *out = 0;
    int r = check_new(job, e);
    if (!r) r = db_begin(s->meta, DB_DURABLE, e);
    if (!r) r = db_end(s->meta, create_within(out, &again, s, job, e), e);
    if (r) *out = 0;
    if (replayed) *replayed = !r && again;
    return r;
}

/* ---- reading ---- */

#define JOB_COLUMNS \
    "id, method, state, cancel_requested, step, steps, eta_s, metrics, error, trace, output_name, output_number," \
    " output_digest, attempt, max_attempts, created_at, started_at, finished_at, lease_owner, heartbeat_at," \
    " lease_expires, revision"
#define JOB_COLUMN_COUNT 22

static int row_job(struct store_job *out, struct statement *st, struct err *e) {
    int c = 0;
    out->id = column_int(st, c++);
    column_word(out->method, sizeof out->method, st, c++);
    out->state = (enum store_job_state)column_int(st, c++);
    out->cancel_requested = column_int(st, c++) != 0;
    out->progress.step = column_int(st, c++);
    out->progress.steps = column_int(st, c++);
    out->progress.eta_s = column_real(st, c++);
    int r = column_string(&out->metrics, st, c++, e);
    if (!r) r = column_string(&out->error, st, c, e);
    c++;
    if (!r) r = column_string(&out->trace, st, c, e);
    c++;
    column_word(out->output_name, sizeof out->output_name, st, c++);
    out->output_number = column_int(st, c++);
    column_digest(&out->output_digest, st, c++);
    out->attempt = (int)column_int(st, c++);
    out->max_attempts = (int)column_int(st, c++);
    out->created_at = column_int(st, c++);
    out->started_at = column_int(st, c++);
    out->finished_at = column_int(st, c++);
    column_word(out->owner, sizeof out->owner, st, c++);
    out->heartbeat_at = column_int(st, c++);
    out->lease_expires = column_int(st, c++);
    out->revision = column_int(st, c);
    return r;
}

int store_job_get(struct store_job *out, struct store *s, int64_t job, struct err *e) {
    struct statement *st;
    *out = (struct store_job){0};
    int r =
        db_query(&st, s->meta, "SELECT " JOB_COLUMNS ", spec, result FROM jobs WHERE id = ?1", BIND(value_int(job)), e);
    if (!r) r = statement_step(st, e);
    if (r < 0) return r;
    if (r == 0) return err_set(e, E_NOT_FOUND, "there is no job %lld", (long long)job);
    r = row_job(out, st, e);
    if (!r) r = column_string(&out->spec, st, JOB_COLUMN_COUNT, e);
    if (!r) r = column_string(&out->result, st, JOB_COLUMN_COUNT + 1, e);
    statement_reset(st);
    if (r) store_job_fini(out);
    return r;
}

void store_job_fini(struct store_job *job) {
    mem_free(job->spec);
    mem_free(job->metrics);
    mem_free(job->result);
    mem_free(job->error);
    mem_free(job->trace);
    *job = (struct store_job){0};
}

int store_job_peek(enum store_job_state *state, int64_t *last_event, struct store *s, int64_t job, struct err *e) {
    struct statement *st;
    int r =
        db_query(&st, s->meta,
                 "SELECT state, (SELECT COALESCE(MAX(seq), 0) FROM events WHERE job_id = ?1) FROM jobs WHERE id = ?1",
                 BIND(value_int(job)), e);
    if (!r) r = statement_step(st, e);
    if (r < 0) return r;
    if (r == 0) return err_set(e, E_NOT_FOUND, "there is no job %lld", (long long)job);
    *state = (enum store_job_state)column_int(st, 0);
    *last_event = column_int(st, 1);
    statement_reset(st);
    return 0;
}

/* Each filter has a statement of its own, so that each has its index. */
static int list_query(struct statement **st, struct store *s, const struct store_job_query *q, struct err *e) {
#define JOB_LIST(where) "SELECT " JOB_COLUMNS " FROM jobs WHERE " where " id < ?1 ORDER BY id DESC LIMIT ?2"
    struct value after = value_int(q->after > 0 ? q->after : INT64_MAX), limit = value_int(q->limit + 1);
    struct value state = value_int(q->state), method = value_text(q->method);
    if (q->state >= 0 && q->method)
        return db_query(st, s->meta, JOB_LIST("state = ?3 AND method = ?4 AND"), BIND(after, limit, state, method), e);
    if (q->state >= 0) return db_query(st, s->meta, JOB_LIST("state = ?3 AND"), BIND(after, limit, state), e);
    if (q->method) return db_query(st, s->meta, JOB_LIST("method = ?3 AND"), BIND(after, limit, method), e);
    return db_query(st, s->meta, JOB_LIST(""), BIND(after, limit), e);
}

int store_job_list(struct store_job_page *out, struct store *s, const struct store_job_query *query, struct err *e) {
    struct statement *st;
    void *rows;
    *out = (struct store_job_page){0};
    int r = page_room(&rows, sizeof *out->items, query->limit, STORE_PAGE_MAX, e);
    if (r) return r;
    out->items = rows;
    r = list_query(&st, s, query, e);
    while (!r && (r = statement_step(st, e)) == 1) {
        if (out->n == (size_t)query->limit) {
            out->next = out->items[out->n - 1].id;
            r = 0;
            break;
        }
        r = row_job(&out->items[out->n++], st, e);
    }
    statement_reset(st);
    if (r) store_job_page_fini(out);
    return r;
}

void store_job_page_fini(struct store_job_page *page) {
    for (size_t i = 0; i < page->n; i++) store_job_fini(&page->items[i]);
    mem_free(page->items);
    *page = (struct store_job_page){0};
}

int store_job_inputs(int64_t *out, size_t *n, struct store *s, int64_t job, struct err *e) {
    struct statement *st;
    *n = 0;
    int r = db_query(&st, s->meta, "SELECT version_id FROM job_inputs WHERE job_id = ?1 ORDER BY position LIMIT ?2",
                     BIND(value_int(job), value_int(STORE_JOB_INPUTS_MAX)), e);
    while (!r && (r = statement_step(st, e)) == 1) {
        out[(*n)++] = column_int(st, 0);
        r = 0;
    }
    return r;
}

/* ---- changing ---- */

static int cancel_within(enum store_job_state *state, struct store *s, int64_t job, struct err *e) {
    struct job_brief brief;
    int r = job_brief_within(&brief, s, job, e);
    if (r) return r;
    *state = brief.state;
    if (brief.state == STORE_JOB_CANCELLED) return 0;
    if (brief.state == STORE_JOB_RUNNING)
        return db_run(s->meta, "UPDATE jobs SET cancel_requested = 1, revision = revision + 1 WHERE id = ?1",
                      BIND(value_int(job)), e);
    if (brief.state != STORE_JOB_QUEUED)
        return err_set(e, E_CONFLICT, "job %lld has %s already", (long long)job, state_words[brief.state]);
    *state = STORE_JOB_CANCELLED;
    return job_move_within(s, job, STORE_JOB_CANCELLED, brief.attempt, NULL, e);
}

int store_job_cancel(enum store_job_state *state, struct store *s, int64_t job, struct err *e) {
    enum store_job_state after = STORE_JOB_QUEUED;
    int r = db_begin(s->meta, DB_DURABLE, e);
    if (!r) r = db_end(s->meta, cancel_within(&after, s, job, e), e);
    if (!r && state) *state = after;
    return r;
}

static int retry_within(struct store *s, int64_t job, struct err *e) {
    struct job_brief brief;
    int64_t missing;
    int r = job_brief_within(&brief, s, job, e);
    if (r) return r;
    if (brief.state != STORE_JOB_FAILED && brief.state != STORE_JOB_CANCELLED)
        return err_set(e, E_CONFLICT, "job %lld is %s; only failed and cancelled jobs can be tried again",
                       (long long)job, state_words[brief.state]);
    r = db_integer(&missing, s->meta,
                   "SELECT COUNT(*) FROM job_inputs i WHERE i.job_id = ?1"
                   " AND NOT EXISTS (SELECT 1 FROM versions v WHERE v.id = i.version_id)",
                   BIND(value_int(job)), e);
    if (!r && missing > 0)
        r = err_set(e, E_CONFLICT, "a model or data set that job %lld reads was deleted", (long long)job);
    if (!r) r = db_run(s->meta, "UPDATE jobs SET started_at = 0 WHERE id = ?1", BIND(value_int(job)), e);
    return r ? r : job_move_within(s, job, STORE_JOB_QUEUED, 0, NULL, e);
}

int store_job_retry(struct store *s, int64_t job, struct err *e) {
    int r = db_begin(s->meta, DB_DURABLE, e);
    return r ? r : db_end(s->meta, retry_within(s, job, e), e);
}

/* ---- jobs whose worker is gone ---- */

#define EXPIRED "FROM jobs WHERE state = 1 AND lease_expires < ?1"

static int requeue_one(struct store *s, int64_t job, struct err *e) {
    struct job_brief brief;
    char error[256];
    int r = job_brief_within(&brief, s, job, e);
    if (r) return r;
    if (brief.cancel_requested) return job_move_within(s, job, STORE_JOB_CANCELLED, brief.attempt, NULL, e);
    if (brief.attempt < brief.max_attempts) return job_move_within(s, job, STORE_JOB_QUEUED, brief.attempt, NULL, e);
    text_print(
        error, sizeof error,
        "{\"type\":\"worker-lost\",\"title\":\"The worker was lost\",\"status\":500,"
        "\"detail\":\"its worker died or stalled in each of %d attempts; see the server's log, then retry the job\"}",
        brief.attempt);
    return job_move_within(s, job, STORE_JOB_FAILED, brief.attempt, error, e);
}

static int requeue_within(int64_t *n, struct store *s, struct err *e) {
    int64_t job, now = store_now(s);
    int r;
    while ((r = db_integer(&job, s->meta, "SELECT id " EXPIRED " ORDER BY id LIMIT 1", BIND(value_int(now)), e)) == 0) {
        r = requeue_one(s, job, e);
        if (r) return r;
        ++*n;
    }
    return r == E_NOT_FOUND ? 0 : r;
}

int store_job_requeue(int64_t *n, struct store *s, struct err *e) {
    int64_t any;
    *n = 0;
    int r = db_integer(&any, s->meta, "SELECT EXISTS (SELECT 1 " EXPIRED ")", BIND(value_int(store_now(s))), e);
    if (r || !any) return r; /* no lock for nothing */
    r = db_begin(s->meta, DB_DURABLE, e);
    if (!r) r = db_end(s->meta, requeue_within(n, s, e), e);
    if (r) *n = 0;
    return r;
}
