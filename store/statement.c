/* statement.c - see statement.h. The only file, with library.c, that calls SQLite. */
#include "store/statement.h"

#include <assert.h>
#include <limits.h>
#include <sqlite3.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/text.h"
#include "store/library.h"
#include "store/store.h"

#define BUCKETS 64
#define POLL_MS 2

struct statement {
    sqlite3_stmt *handle;
    struct database *db;
    const char *sql;
    struct statement *next;
};

struct database {
    sqlite3 *handle;
    const char *label;
    bool durable; /* what `synchronous` is set to */
    int64_t waiting_since;
    bool stuck; /* in a transaction that could not be rolled back, for want of memory */
    struct statement *buckets[BUCKETS];
};

static const char begin_read[] = "BEGIN", begin_write[] = "BEGIN IMMEDIATE", commit[] = "COMMIT",
                  rollback[] = "ROLLBACK";

/* ---- errors ---- */

static int code_of(int rc) {
    switch (rc & 0xff) {
        case SQLITE_NOMEM: return E_NOMEM;
        case SQLITE_BUSY:
        case SQLITE_LOCKED:
        case SQLITE_PROTOCOL: return E_BUSY;
        case SQLITE_IOERR: return rc == SQLITE_IOERR_NOMEM ? E_NOMEM : E_IO;
        case SQLITE_FULL:
        case SQLITE_READONLY:
        case SQLITE_CANTOPEN:
        case SQLITE_PERM:
        case SQLITE_AUTH: return E_IO;
        case SQLITE_CORRUPT:
        case SQLITE_NOTADB: return E_CORRUPT;
        case SQLITE_TOOBIG: return E_TOO_LARGE;
        case SQLITE_CONSTRAINT: return E_CONFLICT;
        default: return E_INTERNAL;
    }
}

static int fail(struct database *db, int rc, struct err *e) {
    const char *text = db->handle ? sqlite3_errmsg(db->handle) : sqlite3_errstr(rc);
    if ((rc & 0xff) == SQLITE_FULL) text = "the disk is full";
    if ((rc & 0xff) == SQLITE_BUSY) text = "another process kept it locked; try again";
    return err_set(e, code_of(rc), "%s: %s (SQLite error %d)", db->label, text, rc);
}

/* ---- statements ---- */

static struct statement **bucket_of(struct database *db, const char *sql) {
    return &db->buckets[((uintptr_t)sql >> 3) % BUCKETS];
}

static int prepare(struct statement **out, struct database *db, const char *sql, struct err *e) {
    struct statement **bucket = bucket_of(db, sql);
    for (struct statement *st = *bucket; st; st = st->next)
        if (st->sql == sql) {
            *out = st;
            return 0;
        }
    struct statement *st = mem_calloc(1, sizeof *st);
    if (!st) return err_memory(e, sizeof *st);
    int rc = sqlite3_prepare_v3(db->handle, sql, -1, SQLITE_PREPARE_PERSISTENT, &st->handle, NULL);
    if (rc != SQLITE_OK) {
        mem_free(st);
        return fail(db, rc, e);
    }
    st->db = db;
    st->sql = sql;
    st->next = *bucket;
    *bucket = *out = st;
    return 0;
}

static int bind(sqlite3_stmt *handle, int index, const struct value *v) {
    switch (v->type) {
        case VALUE_END:
        case VALUE_NULL: return sqlite3_bind_null(handle, index);
        case VALUE_INT: return sqlite3_bind_int64(handle, index, v->integer);
        case VALUE_REAL: return sqlite3_bind_double(handle, index, v->real);
        case VALUE_TEXT: return sqlite3_bind_text64(handle, index, v->bytes, v->size, SQLITE_STATIC, SQLITE_UTF8);
        case VALUE_BYTES:
            /* A NULL pointer would bind NULL instead of no bytes. */
            return sqlite3_bind_blob64(handle, index, v->size ? v->bytes : "", v->size, SQLITE_STATIC);
    }
    return SQLITE_MISUSE;
}

int db_query(struct statement **out, struct database *db, const char *sql, const struct value *values, struct err *e) {
    *out = NULL;
    struct statement *st;
    int r = prepare(&st, db, sql, e);
    if (r) return r;
    assert(!sqlite3_stmt_busy(st->handle));
    int n = 0;
    for (; values[n].type != VALUE_END; n++) {
        int rc = bind(st->handle, n + 1, &values[n]);
        if (rc != SQLITE_OK) {
            statement_reset(st);
            return fail(db, rc, e);
        }
    }
    assert(n == sqlite3_bind_parameter_count(st->handle));
    *out = st;
    return 0;
}

int statement_step(struct statement *st, struct err *e) {
    int rc = sqlite3_step(st->handle);
    if (rc == SQLITE_ROW) return 1;
    int r = rc == SQLITE_DONE ? 0 : fail(st->db, rc, e);
    statement_reset(st);
    return r;
}

void statement_reset(struct statement *st) {
    if (!st) return;
    sqlite3_reset(st->handle);
    sqlite3_clear_bindings(st->handle); /* they point into the caller's memory */
}

int db_run(struct database *db, const char *sql, const struct value *values, struct err *e) {
    struct statement *st;
    int r = db_query(&st, db, sql, values, e);
    while (!r && (r = statement_step(st, e)) == 1) r = 0;
    return r;
}

int db_integer(int64_t *out, struct database *db, const char *sql, const struct value *values, struct err *e) {
    struct statement *st;
    int r = db_query(&st, db, sql, values, e);
    if (r) return r;
    r = statement_step(st, e);
    if (r < 0) return r;
    if (r == 0) return E_NOT_FOUND;
    *out = column_int(st, 0);
    statement_reset(st);
    return 0;
}

int db_script(struct database *db, const char *sql, struct err *e) {
    int rc = sqlite3_exec(db->handle, sql, NULL, NULL, NULL);
    return rc == SQLITE_OK ? 0 : fail(db, rc, e);
}

int64_t db_changes(struct database *db) {
    return sqlite3_changes64(db->handle);
}

int64_t db_last_id(struct database *db) {
    return sqlite3_last_insert_rowid(db->handle);
}

/* ---- columns ---- */

bool column_is_null(struct statement *st, int column) {
    return sqlite3_column_type(st->handle, column) == SQLITE_NULL;
}

int64_t column_int(struct statement *st, int column) {
    return sqlite3_column_int64(st->handle, column);
}

double column_real(struct statement *st, int column) {
    return column_is_null(st, column) ? (double)NAN : sqlite3_column_double(st->handle, column);
}

/* Texts are read as blobs: that needs no terminating NUL, so no memory, so it cannot fail. */
void column_word(char *out, size_t room, struct statement *st, int column) {
    const char *from = sqlite3_column_blob(st->handle, column);
    size_t size = (size_t)sqlite3_column_bytes(st->handle, column);
    if (size > room - 1) size = room - 1;
    if (size) memcpy(out, from, size);
    out[size] = '\0';
}

void column_digest(struct digest *out, struct statement *st, int column) {
    const void *from = sqlite3_column_blob(st->handle, column);
    memset(out, 0, sizeof *out);
    if (from && sqlite3_column_bytes(st->handle, column) == DIGEST_SIZE) memcpy(out->bytes, from, DIGEST_SIZE);
}

int column_string(char **out, struct statement *st, int column, struct err *e) {
    *out = NULL;
    if (column_is_null(st, column)) return 0;
    const char *from = sqlite3_column_blob(st->handle, column);
    size_t size = (size_t)sqlite3_column_bytes(st->handle, column);
    char *copy = mem_alloc(size + 1);
    if (!copy) return err_memory(e, size + 1);
    if (size) memcpy(copy, from, size);
    copy[size] = '\0';
    *out = copy;
    return 0;
}

int db_read_slice(void *to, size_t size, struct database *db, const char *table, const char *column, int64_t row,
                  size_t offset, struct err *e) {
    if (size > INT_MAX || offset > INT_MAX) return E_NOT_FOUND;
    sqlite3_blob *blob = NULL;
    int rc = sqlite3_blob_open(db->handle, "main", table, column, row, 0, &blob);
    if (rc == SQLITE_OK) rc = sqlite3_blob_read(blob, to, (int)size, (int)offset);
    int r = 0;
    if (rc == SQLITE_ERROR)
        r = E_NOT_FOUND; /* no such row, or not so many bytes */
    else if (rc != SQLITE_OK)
        r = fail(db, rc, e);
    sqlite3_blob_close(blob);
    return r;
}

/* The check reports pages that it could not read as faults; those are errors of another kind. */
static int code_of_fault(const char *fault) {
    int64_t rc;
    const char *code = strstr(fault, "error code=");
    if (code && text_to_int(&rc, code + strlen("error code="), 1, INT_MAX)) return code_of((int)rc);
    if (strstr(fault, "failed to get page") || strstr(fault, "Failed to read")) return E_IO;
    return strstr(fault, "out of memory") ? E_NOMEM : E_CORRUPT;
}

int db_check(struct database *db, struct err *e) {
    struct statement *st;
    char fault[400] = "";
    int r = db_query(&st, db, "PRAGMA quick_check(1)", BIND_NOTHING, e);
    if (!r) r = statement_step(st, e);
    if (r < 0) return r;
    column_word(fault, sizeof fault, st, 0);
    statement_reset(st);
    return strcmp(fault, "ok") == 0 ? 0 : err_set(e, code_of_fault(fault), "%s: %s", db->label, fault);
}

/* ---- transactions ---- */

/* `synchronous` cannot be changed inside a transaction, and takes effect when the pragma is compiled. */
static int set_durable(struct database *db, bool durable, struct err *e) {
    if (db->durable == durable) return 0;
    int r = db_script(db, durable ? "PRAGMA synchronous=FULL" : "PRAGMA synchronous=NORMAL", e);
    if (!r) db->durable = durable;
    return r;
}

static void roll_back(struct database *db) {
    if (!sqlite3_get_autocommit(db->handle)) db_run(db, rollback, BIND_NOTHING, NULL);
    db->stuck = !sqlite3_get_autocommit(db->handle);
}

int db_begin(struct database *db, enum db_mode mode, struct err *e) {
    if (db->stuck) roll_back(db);
    if (mode == DB_READ) return db_run(db, begin_read, BIND_NOTHING, e);
    int r = set_durable(db, mode == DB_DURABLE, e);
    return r ? r : db_run(db, begin_write, BIND_NOTHING, e);
}

int db_end(struct database *db, int result, struct err *e) {
    if (!result) result = db_run(db, commit, BIND_NOTHING, e);
    if (result) roll_back(db);
    return result;
}

void db_give_way(void) {
    clock_sleep_ms(2 * POLL_MS);
}

/* ---- opening ---- */

/* SQLite's own handler sleeps ever longer, and then misses the short pauses of a busy writer. */
static int wait_for_lock(void *context, int count) {
    struct database *db = context;
    int64_t now = clock_monotonic_ns();
    if (count == 0) db->waiting_since = now;
    if (now - db->waiting_since > (int64_t)STORE_BUSY_MS * 1000000) return 0;
    clock_sleep_ms(POLL_MS);
    return 1;
}

static int configure(struct database *db, struct err *e) {
    sqlite3 *h = db->handle;
    sqlite3_extended_result_codes(h, 1);
    sqlite3_busy_handler(h, wait_for_lock, db);
    sqlite3_db_config(h, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    sqlite3_db_config(h, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    sqlite3_limit(h, SQLITE_LIMIT_LENGTH, 64 << 20);
    sqlite3_limit(h, SQLITE_LIMIT_SQL_LENGTH, 64 << 10);
    sqlite3_limit(h, SQLITE_LIMIT_VARIABLE_NUMBER, 64);
    sqlite3_limit(h, SQLITE_LIMIT_ATTACHED, 0);
    /* What ends transactions has to be there when memory is not. */
    struct statement *st;
    const char *const needed[] = {begin_read, begin_write, commit, rollback};
    for (size_t i = 0; i < sizeof needed / sizeof *needed; i++) {
        int r = prepare(&st, db, needed[i], e);
        if (r) return r;
    }
    return 0;
}

static int use_wal(struct database *db, struct err *e) {
    struct statement *st;
    int r = db_query(&st, db, "PRAGMA journal_mode=WAL", BIND_NOTHING, e);
    if (r) return r;
    r = statement_step(st, e);
    if (r < 0) return r;
    char mode[16] = "";
    if (r == 1) column_word(mode, sizeof mode, st, 0);
    statement_reset(st);
    if (strcmp(mode, "wal") != 0)
        return err_set(e, E_IO, "%s: no write-ahead log on this file system (journal mode %s)", db->label, mode);
    return 0;
}

static int migrate_within(struct database *db, const struct database_setup *setup, struct err *e) {
    int64_t version;
    int r = db_script(
        db,
        "CREATE TABLE IF NOT EXISTS schema_version (version BIGINT NOT NULL PRIMARY KEY, applied_at BIGINT NOT NULL)",
        e);
    if (!r) r = db_integer(&version, db, "SELECT COALESCE(MAX(version), 0) FROM schema_version", BIND_NOTHING, e);
    if (r) return r;
    if (version > setup->n_migrations)
        return err_set(e, E_UNSUPPORTED, "%s is of version %lld, this retort knows up to %d: use a newer retort",
                       db->label, (long long)version, setup->n_migrations);
    for (int64_t i = version; !r && i < setup->n_migrations; i++) {
        r = db_script(db, setup->migrations[i], e);
        if (!r)
            r = db_run(db, "INSERT INTO schema_version (version, applied_at) VALUES (?1, ?2)",
                       BIND(value_int(i + 1), value_int(setup->now_ms)), e);
    }
    return r;
}

static int open_within(struct database *db, const char *path, const struct database_setup *setup, struct err *e) {
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE;
    int rc = sqlite3_open_v2(path, &db->handle, flags, NULL);
    if (rc != SQLITE_OK) return fail(db, rc, e);
    int r = configure(db, e);
    if (!r) r = db_script(db, setup->pragmas, e);
    if (!r) r = use_wal(db, e);
    db->durable = false;
    if (!r) r = db_script(db, "PRAGMA synchronous=NORMAL", e);
    if (!r) r = db_begin(db, DB_DURABLE, e);
    if (r) return r;
    return db_end(db, migrate_within(db, setup, e), e);
}

int db_open(struct database **out, const char *path, const struct database_setup *setup, struct err *e) {
    *out = NULL;
    int r = library_start(e);
    if (r) return r;
    struct database *db = mem_calloc(1, sizeof *db);
    if (!db) return err_memory(e, sizeof *db);
    db->label = setup->label;
    r = open_within(db, path, setup, e);
    if (r)
        db_close(db);
    else
        *out = db;
    return r;
}

void db_close(struct database *db) {
    if (!db) return;
    for (int i = 0; i < BUCKETS; i++)
        for (struct statement *st = db->buckets[i], *next; st; st = next) {
            next = st->next;
            sqlite3_finalize(st->handle);
            mem_free(st);
        }
    sqlite3_close(db->handle);
    mem_free(db);
}
