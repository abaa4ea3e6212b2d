/* catalog.c - names and versions: resolving, listing, making, deleting; see catalog.h. */
#include "store/catalog.h"

#include "base/memory.h"
#include "base/text.h"
#include "store/internal.h"

static const char *kind_word(enum store_kind kind) {
    return kind == STORE_MODEL ? "model" : "data set";
}

void row_version(struct store_version *out, struct statement *st, int column) {
    out->id = column_int(st, column);
    out->kind = (enum store_kind)column_int(st, column + 1);
    column_word(out->name, sizeof out->name, st, column + 2);
    out->number = column_int(st, column + 3);
    column_digest(&out->digest, st, column + 4);
    out->bytes = column_int(st, column + 5);
    out->job = column_int(st, column + 6);
    out->created_at = column_int(st, column + 7);
}

/* ---- one version ---- */

/* E_NOT_FOUND, without a text, when there is no row. */
static int one_version(struct store_version *out, struct store *s, const char *sql, const struct value *values,
                       struct err *e) {
    struct statement *st;
    *out = (struct store_version){0};
    int r = db_query(&st, s->meta, sql, values, e);
    if (!r) r = statement_step(st, e);
    if (r < 0) return r;
    if (r == 0) return E_NOT_FOUND;
    row_version(out, st, 0);
    statement_reset(st);
    return 0;
}

int version_get_within(struct store_version *out, struct store *s, int64_t version, struct err *e) {
    int r = one_version(out, s,
                        "SELECT " VERSION_COLUMNS " FROM versions v JOIN names n ON n.id = v.name_id WHERE v.id = ?1",
                        BIND(value_int(version)), e);
    return r == E_NOT_FOUND ? err_set(e, r, "version with id %lld is not there any more", (long long)version) : r;
}

int store_version_get(struct store_version *out, struct store *s, int64_t version, struct err *e) {
    return version_get_within(out, s, version, e);
}

int name_find_within(int64_t *out, struct store *s, enum store_kind kind, const char *name, struct err *e) {
    int r = db_integer(out, s->meta, "SELECT id FROM names WHERE kind = ?1 AND name = ?2 AND latest > 0",
                       BIND(value_int(kind), value_text(name)), e);
    return r == E_NOT_FOUND ? err_set(e, r, "there is no %s \"%.100s\"", kind_word(kind), name) : r;
}

static int find_referred(struct store_version *out, struct store *s, int64_t name_id, const struct store_reference *ref,
                         struct err *e) {
#define FROM_VERSIONS "SELECT " VERSION_COLUMNS " FROM names n JOIN versions v ON v.name_id = n.id "
    switch (ref->kind) {
        case STORE_REF_LATEST:
            return one_version(out, s, FROM_VERSIONS "AND v.id = n.latest WHERE n.id = ?1", BIND(value_int(name_id)),
                               e);
        case STORE_REF_NUMBER:
            return one_version(out, s, FROM_VERSIONS "WHERE n.id = ?1 AND v.number = ?2",
                               BIND(value_int(name_id), value_int(ref->number)), e);
        case STORE_REF_ALIAS:
            return one_version(out, s,
                               FROM_VERSIONS "JOIN aliases a ON a.version_id = v.id AND a.name_id = n.id"
                                             " WHERE n.id = ?1 AND a.alias = ?2",
                               BIND(value_int(name_id), value_text(ref->alias)), e);
        case STORE_REF_DIGEST:
            return one_version(out, s, FROM_VERSIONS "WHERE n.id = ?1 AND v.digest = ?2 ORDER BY v.number DESC LIMIT 1",
                               BIND(value_int(name_id), value_digest(&ref->digest)), e);
    }
    return E_NOT_FOUND;
}

static int version_missing(const struct store_reference *ref, enum store_kind kind, struct err *e) {
    const char *word = kind_word(kind);
    if (ref->kind == STORE_REF_NUMBER)
        return err_set(e, E_NOT_FOUND, "%s \"%s\" has no version %lld", word, ref->name, (long long)ref->number);
    if (ref->kind == STORE_REF_ALIAS)
        return err_set(e, E_NOT_FOUND, "%s \"%s\" has no alias \"%s\"", word, ref->name, ref->alias);
    return err_set(e, E_NOT_FOUND, "%s \"%s\" has no version with that digest", word, ref->name);
}

int resolve_within(struct store_version *out, struct store *s, enum store_kind kind, const struct store_reference *ref,
                   struct err *e) {
    int64_t name_id;
    *out = (struct store_version){0};
    int r = name_find_within(&name_id, s, kind, ref->name, e);
    if (r) return r;
    r = find_referred(out, s, name_id, ref, e);
    return r == E_NOT_FOUND ? version_missing(ref, kind, e) : r;
}

int store_resolve(struct store_version *out, struct store *s, enum store_kind kind, const char *reference,
                  struct err *e) {
    struct store_reference ref;
    *out = (struct store_version){0};
    int r = store_reference_parse(&ref, reference, e);
    if (!r) r = db_begin(s->meta, DB_READ, e);
    return r ? r : db_end(s->meta, resolve_within(out, s, kind, &ref, e), e);
}

/* ---- making one ---- */

int name_touch_within(struct store *s, int64_t name_id, struct err *e) {
    return db_run(s->meta, "UPDATE names SET revision = revision + 1, changed_at = ?2 WHERE id = ?1",
                  BIND(value_int(name_id), value_int(store_now(s))), e);
}

/* Id, next number and latest version of a name, which is made if need be. */
static int name_for_put(int64_t out[3], struct store *s, enum store_kind kind, const char *name, struct err *e) {
    struct statement *st;
    int64_t now = store_now(s);
    int r = db_run(s->meta,
                   "INSERT INTO names (kind, name, created_at, changed_at) VALUES (?1, ?2, ?3, ?3)"
                   " ON CONFLICT (kind, name) DO NOTHING",
                   BIND(value_int(kind), value_text(name), value_int(now)), e);
    if (!r)
        r = db_query(&st, s->meta, "SELECT id, next_number, latest FROM names WHERE kind = ?1 AND name = ?2",
                     BIND(value_int(kind), value_text(name)), e);
    if (!r) r = statement_step(st, e);
    if (r < 0) return r;
    for (int i = 0; i < 3; i++) out[i] = column_int(st, i);
    statement_reset(st);
    return 0;
}

static int version_add(struct store *s, int64_t name_id, const struct store_version *v, struct err *e) {
    int r =
        db_run(s->meta,
               "INSERT INTO versions (name_id, number, digest, bytes, job, created_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
               BIND(value_int(name_id), value_int(v->number), value_digest(&v->digest), value_int(v->bytes),
                    value_int(v->job), value_int(v->created_at)),
               e);
    if (r) return r;
    return db_run(
        s->meta,
        "UPDATE names SET next_number = ?2, latest = ?3, versions = versions + 1,"
        " revision = revision + 1, changed_at = ?4"
        " WHERE id = ?1",
        BIND(value_int(name_id), value_int(v->number + 1), value_int(db_last_id(s->meta)), value_int(v->created_at)),
        e);
}

int version_put_within(struct store_version *out, bool *existed, struct store *s, const struct store_version *v,
                       struct err *e) {
    int64_t name[3];
    *existed = false;
    int r = store_name_check(v->name, e);
    if (!r) r = name_for_put(name, s, v->kind, v->name, e);
    if (!r && name[2]) r = version_get_within(out, s, name[2], e);
    if (r) return r;
    if (name[2] && digest_equal(&out->digest, &v->digest)) {
        *existed = true;
        return 0;
    }
    *out = *v;
    out->number = name[1];
    out->created_at = store_now(s);
    r = version_add(s, name[0], out, e);
    if (r) return r;
    return db_integer(&out->id, s->meta, "SELECT latest FROM names WHERE id = ?1", BIND(value_int(name[0])), e);
}

/* ---- lists ---- */

#define NAME_SELECT \
    "SELECT " VERSION_COLUMNS \
    ", COALESCE(m.parameters, 0), COALESCE(m.macs, 0), n.versions, n.revision, n.created_at, n.changed_at" \
    " FROM names n JOIN versions v ON v.id = n.latest LEFT JOIN model_versions m ON m.version_id = v.id "

static void row_name(struct store_name *out, struct statement *st) {
    row_version(&out->latest, st, 0);
    memcpy(out->name, out->latest.name, sizeof out->name);
    int column = VERSION_COLUMN_COUNT;
    out->parameters = column_int(st, column++);
    out->macs = column_int(st, column++);
    out->versions = column_int(st, column++);
    out->revision = column_int(st, column++);
    out->created_at = column_int(st, column++);
    out->changed_at = column_int(st, column);
}

/* LIKE pattern for "contains q": names have no wildcards but '_', and a '%' matches nothing anyway. */
static int contains_pattern(char *out, size_t room, const char *q, struct err *e) {
    size_t n = 0;
    out[n++] = '%';
    for (; *q; q++) {
        if (n + 4 > room) return err_set(e, E_INVALID, "q is longer than a name can be");
        if (*q == '%' || *q == '_' || *q == '\\') out[n++] = '\\';
        out[n++] = *q;
    }
    out[n++] = '%';
    out[n] = '\0';
    return 0;
}

int store_name_list(struct store_name_page *out, struct store *s, enum store_kind kind,
                    const struct store_name_query *query, struct err *e) {
    char pattern[2 * STORE_NAME_SIZE + 4] = "%";
    void *rows;
    struct statement *st;
    *out = (struct store_name_page){0};
    int r = query->q ? contains_pattern(pattern, sizeof pattern, query->q, e) : 0;
    if (!r) r = page_room(&rows, sizeof *out->items, query->limit, STORE_PAGE_MAX, e);
    if (r) return r;
    out->items = rows;
    int64_t after = query->after > 0 ? query->after : INT64_MAX;
    r = db_query(&st, s->meta,
                 NAME_SELECT "WHERE n.kind = ?1 AND n.latest > 0 AND n.latest < ?2 AND n.name LIKE ?3 ESCAPE '\\'"
                             " AND (?4 = '' OR EXISTS (SELECT 1 FROM tags t WHERE t.name_id = n.id AND t.tag = ?4))"
                             " ORDER BY n.latest DESC LIMIT ?5",
                 BIND(value_int(kind), value_int(after), value_text(pattern), value_text(query->tag ? query->tag : ""),
                      value_int(query->limit + 1)),
                 e);
    while (!r && (r = statement_step(st, e)) == 1) {
        r = 0;
        if (out->n == (size_t)query->limit) {
            out->next = out->items[out->n - 1].latest.id;
            break;
        }
        row_name(&out->items[out->n++], st);
    }
    statement_reset(st);
    if (r) store_name_page_fini(out);
    return r;
}

void store_name_page_fini(struct store_name_page *page) {
    mem_free(page->items);
    *page = (struct store_name_page){0};
}

int store_name_get(struct store_name *out, struct store *s, enum store_kind kind, const char *name, struct err *e) {
    struct statement *st;
    *out = (struct store_name){0};
    int r = db_query(&st, s->meta, NAME_SELECT "WHERE n.kind = ?1 AND n.name = ?2",
                     BIND(value_int(kind), value_text(name)), e);
    if (!r) r = statement_step(st, e);
    if (r < 0) return r;
    if (r == 0) return err_set(e, E_NOT_FOUND, "there is no %s \"%.100s\"", kind_word(kind), name);
    row_name(out, st);
    statement_reset(st);
    return 0;
}

static int version_rows(struct store_version_page *out, struct store *s, int64_t name_id, int64_t after, size_t limit,
                        struct err *e) {
    struct statement *st;
    int r =
        db_query(&st, s->meta, FROM_VERSIONS "WHERE n.id = ?1 AND v.number < ?2 ORDER BY v.number DESC LIMIT ?3",
                 BIND(value_int(name_id), value_int(after > 0 ? after : INT64_MAX), value_int((int64_t)limit + 1)), e);
    while (!r && (r = statement_step(st, e)) == 1) {
        r = 0;
        if (out->n == limit) {
            out->next = out->items[out->n - 1].number;
            break;
        }
        row_version(&out->items[out->n++], st, 0);
    }
    statement_reset(st);
    return r;
}

int store_version_list(struct store_version_page *out, struct store *s, enum store_kind kind, const char *name,
                       int64_t after, int limit, struct err *e) {
    void *rows;
    int64_t name_id;
    *out = (struct store_version_page){0};
    int r = page_room(&rows, sizeof *out->items, limit, STORE_PAGE_MAX, e);
    if (r) return r;
    out->items = rows;
    r = name_find_within(&name_id, s, kind, name, e);
    if (!r) r = version_rows(out, s, name_id, after, (size_t)limit, e);
    if (r) store_version_page_fini(out);
    return r;
}

void store_version_page_fini(struct store_version_page *page) {
    mem_free(page->items);
    *page = (struct store_version_page){0};
}

/* ---- deleting ---- */

/* The versions meant: those of name ?1, all of them (?2 = 0) or one. */
#define THESE "(SELECT id FROM versions WHERE name_id = ?1 AND (?2 = 0 OR id = ?2))"

static int refuse_used(struct store *s, int64_t name_id, int64_t version, struct err *e) {
    int64_t job;
    int r = db_integer(&job, s->meta,
                       "SELECT j.id FROM job_inputs i JOIN jobs j ON j.id = i.job_id"
                       " WHERE j.state IN (0, 1) AND i.version_id IN " THESE " LIMIT 1",
                       BIND(value_int(name_id), value_int(version)), e);
    if (r) return r == E_NOT_FOUND ? 0 : r;
    return err_set(e, E_CONFLICT, "job %lld is using it: wait for its end or cancel it", (long long)job);
}

static int delete_rows(struct store *s, int64_t name_id, int64_t version, struct err *e) {
    static const char *const with_time =
        "INSERT INTO alias_moves (name_id, alias, from_number, to_number, at, who)"
        " SELECT a.name_id, a.alias, v.number, 0, ?3, 'deleted' FROM aliases a JOIN versions v ON v.id = a.version_id"
        " WHERE a.version_id IN " THESE;
    static const char *const deletes[] = {"DELETE FROM aliases WHERE version_id IN " THESE,
                                          "DELETE FROM model_memories WHERE version_id IN " THESE,
                                          "DELETE FROM model_versions WHERE version_id IN " THESE,
                                          "DELETE FROM dataset_arrays WHERE version_id IN " THESE,
                                          "DELETE FROM versions WHERE name_id = ?1 AND (?2 = 0 OR id = ?2)"};
    int r = db_run(s->meta, with_time, BIND(value_int(name_id), value_int(version), value_int(store_now(s))), e);
    for (size_t i = 0; !r && i < sizeof deletes / sizeof *deletes; i++)
        r = db_run(s->meta, deletes[i], BIND(value_int(name_id), value_int(version)), e);
    return r;
}

static int delete_within(int64_t *removed, struct store *s, enum store_kind kind, const struct store_reference *ref,
                         struct err *e) {
    struct store_version v = {0};
    int64_t name_id;
    int r = name_find_within(&name_id, s, kind, ref->name, e);
    if (!r && !ref->bare) r = resolve_within(&v, s, kind, ref, e);
    if (!r) r = refuse_used(s, name_id, v.id, e);
    if (!r) r = delete_rows(s, name_id, v.id, e);
    if (r) return r;
    *removed = db_changes(s->meta); /* of the last: the versions */
    r = db_run(s->meta,
               "UPDATE names SET versions = versions - ?2,"
               " latest = COALESCE((SELECT id FROM versions WHERE name_id = ?1 ORDER BY number DESC LIMIT 1), 0)"
               " WHERE id = ?1",
               BIND(value_int(name_id), value_int(*removed)), e);
    if (!r && ref->bare) r = db_run(s->meta, "DELETE FROM tags WHERE name_id = ?1", BIND(value_int(name_id)), e);
    return r ? r : name_touch_within(s, name_id, e);
}

int store_delete(int64_t *removed, struct store *s, enum store_kind kind, const char *reference, struct err *e) {
    struct store_reference ref;
    int64_t n = 0;
    int r = store_reference_parse(&ref, reference, e);
    if (!r) r = db_begin(s->meta, DB_DURABLE, e);
    if (!r) r = db_end(s->meta, delete_within(&n, s, kind, &ref, e), e);
    if (removed) *removed = r ? 0 : n;
    return r;
}
