/* internal.h - what the files of store/ share. Private to store/.
 *
 * Functions ending in `_within` run inside a transaction of retort.db that the caller has begun.
 *
 * Why a named blob is always there: whoever names one holds the write lock of retort.db and looks
 * whether the blob is finished (blob_check); garbage collection holds that lock too while it marks
 * blobs that nothing names as dropped. Whoever needs both locks takes that of retort.db first. And
 * what removes a name is durable before the drop of its blob can be, because it is DB_DURABLE. */
#ifndef STORE_INTERNAL_H
#define STORE_INTERNAL_H

#include "store/catalog.h"
#include "store/leases.h"
#include "store/statement.h"

struct store {
    struct database *meta, *blobs;
    int64_t (*now_ms)(void);
    char *folder;
};

static inline int64_t store_now(const struct store *s) {
    return s->now_ms();
}

/* A text that is too long is E_TOO_LARGE; NULL is fine. */
int text_limit(const char *text, size_t max, const char *what, struct err *e);

/* Zeroed room for the rows of a page. E_INVALID unless 1 <= limit <= max. */
int page_room(void **out, size_t row_size, int limit, int max, struct err *e);

/* ---- blobs ---- */

enum blob_state { BLOB_WRITING, BLOB_FINISHED, BLOB_DROPPED };

/* The finished blob, from blobs.db; E_NOT_FOUND. */
int blob_check(struct store_blob *out, struct store *s, int64_t blob, struct err *e);

/* Removes the rows of a dropped blob in short transactions, for as long as the clock is before `until`. */
int blob_remove(bool *done, struct store *s, int64_t blob, int64_t until, struct err *e);

/* ---- catalog ---- */

/* Columns of a version, for row_version: FROM versions v JOIN names n ON n.id = v.name_id. */
#define VERSION_COLUMNS "v.id, n.kind, n.name, v.number, v.digest, v.bytes, v.job, v.created_at"
#define VERSION_COLUMN_COUNT 8
void row_version(struct store_version *out, struct statement *st, int column);

int resolve_within(struct store_version *out, struct store *s, enum store_kind kind, const struct store_reference *ref,
                   struct err *e);

/* Id of a name; E_NOT_FOUND when it has no version. */
int name_find_within(int64_t *out, struct store *s, enum store_kind kind, const char *name, struct err *e);

/* Makes the next version of a name, and the name; out->id names it. When the latest has the digest,
 * it is that one and *existed is true. */
int version_put_within(struct store_version *out, bool *existed, struct store *s, const struct store_version *v,
                       struct err *e);
int version_get_within(struct store_version *out, struct store *s, int64_t version, struct err *e);

/* Counts a change under a name. */
int name_touch_within(struct store *s, int64_t name_id, struct err *e);

int model_put_within(struct store_version *out, bool *existed, struct store *s, const struct store_model_new *m,
                     struct err *e);

/* ---- jobs ---- */

/* Appends one event and returns its number in *seq (may be NULL). */
int event_add_within(int64_t *seq, struct store *s, int64_t job, const char *type, const char *data, struct err *e);

/* Moves a job to another state with what belongs to that: times, lease, checkpoints, events. `attempt` is
 * the one it has then; `error` (JSON or NULL) is recorded. The row must exist. */
int job_move_within(struct store *s, int64_t job, enum store_job_state state, int attempt, const char *error,
                    struct err *e);

struct job_brief {
    enum store_job_state state;
    int attempt, max_attempts;
    bool cancel_requested;
    int64_t token;
};
/* E_NOT_FOUND. */
int job_brief_within(struct job_brief *out, struct store *s, int64_t job, struct err *e);

/* Forgets the checkpoints of a job but the newest `kept`. */
int checkpoint_trim_within(struct store *s, int64_t job, int kept, struct err *e);

/* The job of a lease (out may be NULL); E_LOST when it is not running under its token. */
int lease_check_within(struct job_brief *out, struct store *s, const struct store_lease *lease, struct err *e);

#endif
