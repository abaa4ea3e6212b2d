/* store.h - the data folder of a server: retort.db (metadata) and blobs.db (bytes), one connection to each.
 *
 * One `struct store` belongs to one thread, and to the process that opened it: open after a fork,
 * never carry one across. Any number of threads and processes may have the same folder open.
 *
 * Rules that hold for every function of this room:
 *   - ids are > 0 and never used again; times are milliseconds since 1970; sizes are bytes;
 *   - strings handed in are borrowed for the call; structs handed out are filled completely or, on
 *     error, left zeroed; those that own memory have a `_fini` that may be called on zeroed ones;
 *   - a call is one transaction: it happened or it did not. What creates, publishes, moves or deletes
 *     something is on the disk when the call returns; events, metrics, progress and heartbeats survive
 *     a killed process, but the last of them may be lost with the power;
 *   - no call keeps a transaction open after it returned;
 *   - any call may return E_NOMEM, E_IO (disk full, I/O error), E_BUSY (another process kept the lock
 *     for STORE_BUSY_MS) and E_CORRUPT; the declarations name the rest. */
#ifndef STORE_STORE_H
#define STORE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#define STORE_BUSY_MS 5000       /* how long a writer waits for another process */
#define STORE_PAGE_MAX 1000      /* most rows of one page of a list */
#define STORE_JSON_MAX (4 << 20) /* longest JSON text of a column that names no limit of its own */

struct store;

struct store_options {
    const char *folder;      /* created (mode 0700) when it is missing; its parent must exist */
    int64_t (*now_ms)(void); /* the clock of leases and time stamps; NULL = clock_wall_ms */
};

/* Opens the folder: creates and migrates what is missing. E_UNSUPPORTED when a newer retort has
 * written it, E_IO when it cannot be used. Close it with store_close. */
int store_open(struct store **out, const struct store_options *options, struct err *e);

/* NULL is fine. Unfinished writers of this store must be gone before. */
void store_close(struct store *s);

/* Whether both files can be written now and the disk has room: 0, E_IO, E_BUSY... Changes nothing. */
int store_ready(struct store *s, struct err *e);

/* A number that differs from the last one whenever ANOTHER connection (thread or process) has
 * changed retort.db since; costs microseconds. For waiting on jobs and events without reading them. */
int store_changes(int64_t *out, struct store *s, struct err *e);

struct store_stats {
    int64_t jobs[5]; /* by enum store_job_state */
    int64_t models, datasets, versions;
    int64_t blobs, blob_bytes; /* finished ones */
    int64_t file_bytes;        /* both databases with their logs, on the disk */
};

int store_stats_read(struct store_stats *out, struct store *s, struct err *e);

/* ---- collecting garbage ----
 * A blob that nothing names, and that nobody holds (store/blobs.h), is dropped. */

struct store_gc_options {
    bool dry_run;            /* only count */
    bool unfinished;         /* drop unfinished uploads at once: for the start of the server, when nobody
                              * writes. Otherwise only those older than STORE_UPLOAD_MS */
    int64_t cache_max_bytes; /* evict the least recently used derived blobs beyond it; < 0 = keep all */
    int64_t budget_ms;       /* stop after about so long; 0 = go to the end */
};

struct store_gc_report {
    int64_t blobs, bytes;     /* dropped (or would be) */
    int64_t uploads;          /* unfinished ones dropped */
    int64_t evicted;          /* cache entries dropped */
    int64_t held, held_bytes; /* unnamed, but kept because somebody holds them */
    int64_t freed_bytes;      /* given back to the file system */
    bool more;                /* the budget ended it: call again */
};

/* Works in short transactions, so that writers get in between. What is half done is finished by the
 * next call, in whatever process. */
int store_gc(struct store_gc_report *out, struct store *s, const struct store_gc_options *options, struct err *e);

/* Checks both files (quick_check, which reads them once) and that every blob that is named is there:
 * E_CORRUPT with the first fault. Digests are compared by store_blob_verify. */
int store_verify(struct store *s, struct err *e);

#endif
