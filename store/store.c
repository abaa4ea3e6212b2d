/* store.c - see store.h. */
#include "store/store.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/text.h"
#include "store/internal.h"
#include "store/schema.h"

#define PATH_SIZE 4096
#define READY_FREE_BYTES ((uint64_t)64 << 20) /* less room than this is as good as none */

int text_limit(const char *text, size_t max, const char *what, struct err *e) {
    size_t size = text ? strlen(text) : 0;
    if (size <= max) return 0;
    return err_set(e, E_TOO_LARGE, "%s is %zu bytes long, at most %zu are taken", what, size, max);
}

int page_room(void **out, size_t row_size, int limit, int max, struct err *e) {
    *out = NULL;
    if (limit < 1 || limit > max) return err_set(e, E_INVALID, "limit is %d, but must be 1 to %d", limit, max);
    *out = mem_calloc((size_t)limit, row_size);
    return *out ? 0 : err_memory(e, (unsigned long long)limit * row_size);
}

static int path_of(char out[PATH_SIZE], const struct store *s, const char *file, struct err *e) {
    if (text_print(out, PATH_SIZE, "%s/%s", s->folder, file)) return 0;
    return err_set(e, E_INVALID, "the path of the data folder is too long");
}

/* ---- open and close ---- */

static int open_meta(struct store *s, struct err *e) {
    char path[PATH_SIZE];
    const struct database_setup setup = {.label = "retort.db",
                                         .pragmas = schema_meta_pragmas,
                                         .migrations = schema_meta,
                                         .n_migrations = schema_meta_count,
                                         .now_ms = store_now(s)};
    int r = path_of(path, s, "retort.db", e);
    return r ? r : db_open(&s->meta, path, &setup, e);
}

static int open_blobs(struct store *s, struct err *e) {
    char path[PATH_SIZE];
    const struct database_setup setup = {.label = "blobs.db",
                                         .pragmas = schema_blobs_pragmas,
                                         .migrations = schema_blobs,
                                         .n_migrations = schema_blobs_count,
                                         .now_ms = store_now(s)};
    int r = path_of(path, s, "blobs.db", e);
    return r ? r : db_open(&s->blobs, path, &setup, e);
}

/* Opening is one at a time: the first one creates the files, and page size and vacuum mode must be
 * settled before anybody else looks. The lock goes with the descriptor. */
static int folder_lock(int *fd, const char *folder, struct err *e) {
    if (mkdir(folder, 0700) != 0 && errno != EEXIST)
        return err_set(e, E_IO, "the data folder %s cannot be created: %s", folder, strerror(errno));
    *fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (*fd < 0) return err_set(e, E_IO, "the data folder %s cannot be opened: %s", folder, strerror(errno));
    for (int waited = 0; flock(*fd, LOCK_EX | LOCK_NB) != 0; waited += 10) {
        if (errno == EWOULDBLOCK && waited < STORE_BUSY_MS) {
            clock_sleep_ms(10);
            continue;
        }
        close(*fd);
        return err_set(e, errno == EWOULDBLOCK ? E_BUSY : E_IO, "the data folder %s is being opened by another process",
                       folder);
    }
    return 0;
}

int store_open(struct store **out, const struct store_options *options, struct err *e) {
    *out = NULL;
    int fd = -1;
    int r = folder_lock(&fd, options->folder, e);
    if (r) return r;
    struct store *s = mem_calloc(1, sizeof *s);
    if (s) {
        s->now_ms = options->now_ms ? options->now_ms : clock_wall_ms;
        s->folder = mem_string(options->folder);
    }
    if (!s || !s->folder) r = err_memory(e, sizeof *s);
    if (!r) r = open_meta(s, e);
    if (!r) r = open_blobs(s, e);
    close(fd);
    if (r)
        store_close(s);
    else
        *out = s;
    return r;
}

void store_close(struct store *s) {
    if (!s) return;
    db_close(s->meta);
    db_close(s->blobs);
    mem_free(s->folder);
    mem_free(s);
}

/* ---- questions about the whole ---- */

static int writable(struct database *db, struct err *e) {
    int r = db_begin(db, DB_RELAXED, e);
    if (r) return r;
    r = db_run(db, "UPDATE schema_version SET applied_at = applied_at WHERE version = 1", BIND_NOTHING, e);
    db_end(db, E_CANCELLED, NULL); /* take it back */
    return r;
}

int store_ready(struct store *s, struct err *e) {
    struct statvfs fs;
    if (statvfs(s->folder, &fs) != 0) return err_set(e, E_IO, "the data folder is gone: %s", strerror(errno));
    uint64_t free_bytes = (uint64_t)fs.f_bavail * fs.f_frsize;
    if (free_bytes < READY_FREE_BYTES)
        return err_set(e, E_IO, "only %llu bytes are free on the disk of the data folder",
                       (unsigned long long)free_bytes);
    int r = writable(s->meta, e);
    return r ? r : writable(s->blobs, e);
}

int store_changes(int64_t *out, struct store *s, struct err *e) {
    return db_integer(out, s->meta, "PRAGMA data_version", BIND_NOTHING, e);
}

static int64_t file_bytes(const struct store *s) {
    static const char *const files[] = {"retort.db", "retort.db-wal", "blobs.db", "blobs.db-wal"};
    int64_t sum = 0;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char path[PATH_SIZE];
        struct stat st;
        if (path_of(path, s, files[i], NULL) == 0 && stat(path, &st) == 0) sum += st.st_size;
    }
    return sum;
}

static int stats_jobs(struct store_stats *out, struct store *s, struct err *e) {
    struct statement *st;
    int r = db_query(&st, s->meta, "SELECT state, COUNT(*) FROM jobs GROUP BY state", BIND_NOTHING, e);
    while (!r && (r = statement_step(st, e)) == 1) {
        int64_t state = column_int(st, 0);
        if (state >= 0 && state < STORE_JOB_STATE_COUNT) out->jobs[state] = column_int(st, 1);
        r = 0;
    }
    return r;
}

static int stats_names(struct store_stats *out, struct store *s, struct err *e) {
    struct statement *st;
    int r = db_query(&st, s->meta, "SELECT kind, COUNT(*), SUM(versions) FROM names WHERE latest > 0 GROUP BY kind",
                     BIND_NOTHING, e);
    while (!r && (r = statement_step(st, e)) == 1) {
        *(column_int(st, 0) == STORE_MODEL ? &out->models : &out->datasets) = column_int(st, 1);
        out->versions += column_int(st, 2);
        r = 0;
    }
    return r;
}

static int stats_blobs(struct store_stats *out, struct store *s, struct err *e) {
    struct statement *st;
    int r =
        db_query(&st, s->blobs, "SELECT COUNT(*), COALESCE(SUM(size), 0) FROM blobs WHERE state = 1", BIND_NOTHING, e);
    while (!r && (r = statement_step(st, e)) == 1) {
        out->blobs = column_int(st, 0);
        out->blob_bytes = column_int(st, 1);
        r = 0;
    }
    return r;
}

int store_stats_read(struct store_stats *out, struct store *s, struct err *e) {
    *out = (struct store_stats){.file_bytes = file_bytes(s)};
    int r = stats_jobs(out, s, e);
    if (!r) r = stats_names(out, s, e);
    if (!r) r = stats_blobs(out, s, e);
    if (r) *out = (struct store_stats){0};
    return r;
}

static int check_references(struct store *s, struct err *e) {
    struct statement *st;
    int r = db_query(&st, s->meta, "SELECT DISTINCT blob FROM blob_references", BIND_NOTHING, e);
    while (!r && (r = statement_step(st, e)) == 1) {
        struct store_blob blob;
        int64_t id = column_int(st, 0);
        r = blob_check(&blob, s, id, NULL);
        if (r == E_NOT_FOUND)
            r = err_set(e, E_CORRUPT, "blob %lld is named, but not there", (long long)id);
        else if (r)
            err_set(e, r, "blob %lld cannot be looked up", (long long)id);
    }
    statement_reset(st);
    return r;
}

int store_verify(struct store *s, struct err *e) {
    int r = db_check(s->meta, e);
    if (!r) r = db_check(s->blobs, e);
    /* Under the lock that collecting garbage needs: what is named now stays so. */
    if (!r) r = db_begin(s->meta, DB_RELAXED, e);
    return r ? r : db_end(s->meta, check_references(s, e), e);
}
