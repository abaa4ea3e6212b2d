/* gc.c - collecting garbage: evict, mark, remove, shrink; see store.h, and internal.h for why a named
 * blob is safe. Every step is a short transaction, and each can be the last one of a killed process. */
#include <limits.h>

#include "store/internal.h"
#include "store/leases.h"

#define BATCH 64

struct sweep {
    struct store *s;
    const struct store_gc_options *options;
    struct store_gc_report *report;
    int64_t now, until;
};

static bool time_is_up(const struct sweep *g) {
    return store_now(g->s) >= g->until;
}

/* ---- what gives its blobs free ---- */

/* Drops the least recently used entries until the others fit. */
static int evict_within(struct sweep *g, struct err *e) {
    struct database *db = g->s->meta;
    int64_t bytes, dropped;
    if (g->options->cache_max_bytes < 0) return 0;
    int r = db_integer(&bytes, db, "SELECT COALESCE(SUM(bytes), 0) FROM cache", BIND_NOTHING, e);
    for (; !r && bytes > g->options->cache_max_bytes; bytes -= dropped) {
        r = db_integer(
            &dropped, db,
            "DELETE FROM cache WHERE key = (SELECT key FROM cache ORDER BY used_at, key LIMIT 1) RETURNING bytes",
            BIND_NOTHING, e);
        if (!r) g->report->evicted++;
    }
    return r == E_NOT_FOUND ? 0 : r;
}

static int forget_within(struct sweep *g, struct err *e) {
    struct database *db = g->s->meta;
    int r = db_run(db,
                   "DELETE FROM checkpoints WHERE job_id IN"
                   " (SELECT id FROM jobs WHERE state IN (2, 3, 4) AND finished_at < ?1)",
                   BIND(value_int(g->now - STORE_CHECKPOINT_MS)), e);
    if (!r) r = db_run(db, "DELETE FROM idempotency WHERE expires_at < ?1", BIND(value_int(g->now)), e);
    return r ? r : evict_within(g, e);
}

static int forget(struct sweep *g, struct err *e) {
    int r = db_begin(g->s->meta, DB_DURABLE, e);
    return r ? r : db_end(g->s->meta, forget_within(g, e), e);
}

/* ---- marking ---- */

struct candidates {
    int64_t id[BATCH], size[BATCH];
    int n;
    int64_t after; /* the last one looked at */
    bool end;
};

static int is_named(bool *out, struct store *s, int64_t blob, struct err *e) {
    int64_t named;
    int r = db_integer(&named, s->meta, "SELECT EXISTS (SELECT 1 FROM blob_references WHERE blob = ?1)",
                       BIND(value_int(blob)), e);
    *out = !r && named;
    return r;
}

/* The next finished blobs without a name; those that are held are counted only. */
static int look(struct candidates *c, struct sweep *g, struct err *e) {
    struct statement *st;
    c->n = 0;
    c->end = true;
    int r = db_query(&st, g->s->blobs,
                     "SELECT id, size, held_until FROM blobs WHERE state = 1 AND id > ?1 ORDER BY id LIMIT 1000",
                     BIND(value_int(c->after)), e);
    while (!r && c->n < BATCH && (r = statement_step(st, e)) == 1) {
        bool named;
        int64_t id = column_int(st, 0), size = column_int(st, 1);
        r = is_named(&named, g->s, id, e);
        c->after = id;
        c->end = false;
        if (r || named) continue;
        if (column_int(st, 2) >= g->now) {
            g->report->held++;
            g->report->held_bytes += size;
            continue;
        }
        c->id[c->n] = id;
        c->size[c->n++] = size;
    }
    statement_reset(st);
    return r;
}

static int mark_one(struct sweep *g, int64_t blob, int64_t size, struct err *e) {
    bool named = false;
    int r = is_named(&named, g->s, blob, e);
    if (r || named) return r;
    r = db_run(g->s->blobs, "UPDATE blobs SET state = 2 WHERE id = ?1 AND state = 1 AND held_until < ?2",
               BIND(value_int(blob), value_int(g->now)), e);
    if (!r && db_changes(g->s->blobs) > 0) {
        g->report->blobs++;
        g->report->bytes += size;
    }
    return r;
}

/* Under both locks, and asked once more: nobody can name one of them in between. */
static int mark(const struct candidates *c, struct sweep *g, struct err *e) {
    const struct store_gc_report before = *g->report;
    int r = db_begin(g->s->meta, DB_RELAXED, e);
    if (r) return r;
    r = db_begin(g->s->blobs, DB_RELAXED, e);
    if (!r) {
        for (int i = 0; !r && i < c->n; i++) r = mark_one(g, c->id[i], c->size[i], e);
        r = db_end(g->s->blobs, r, e);
    }
    if (r) *g->report = before;
    return db_end(g->s->meta, r, e);
}

static int mark_unnamed(struct sweep *g, struct err *e) {
    struct candidates c = {0};
    int r = 0;
    while (!r && !c.end && !time_is_up(g)) {
        r = look(&c, g, e);
        if (r || c.n == 0) continue;
        if (!g->options->dry_run) {
            r = mark(&c, g, e);
            continue;
        }
        for (int i = 0; i < c.n; i++) g->report->bytes += c.size[i];
        g->report->blobs += c.n;
    }
    if (!c.end) g->report->more = true;
    return r;
}

/* Unfinished uploads whose last sign of life is older than this. */
static int64_t unfinished_before(const struct sweep *g) {
    return g->options->unfinished ? INT64_MAX : g->now;
}

static int mark_unfinished(struct sweep *g, struct err *e) {
    struct database *db = g->s->blobs;
    int r = db_begin(db, DB_RELAXED, e);
    if (r) return r;
    r = db_run(db, "UPDATE blobs SET state = 2 WHERE state = 0 AND held_until < ?1",
               BIND(value_int(unfinished_before(g))), e);
    int64_t n = db_changes(db);
    r = db_end(db, r, e);
    if (!r) g->report->uploads = n;
    return r;
}

/* ---- removing and shrinking ---- */

static int remove_dropped(struct sweep *g, struct err *e) {
    for (;;) {
        int64_t blob;
        bool done = false;
        int r =
            db_integer(&blob, g->s->blobs, "SELECT id FROM blobs WHERE state = 2 ORDER BY id LIMIT 1", BIND_NOTHING, e);
        if (r) return r == E_NOT_FOUND ? 0 : r;
        r = blob_remove(&done, g->s, blob, g->until, e);
        if (r) return r;
        if (!done) {
            g->report->more = true;
            return 0;
        }
    }
}

static int free_pages(int64_t *out, struct sweep *g, struct err *e) {
    return db_integer(out, g->s->blobs, "PRAGMA freelist_count", BIND_NOTHING, e);
}

/* Gives free pages back, some at a time so that writers get in between. A reader in the way of the
 * last checkpoint is no error: the file shrinks with the next one. */
static int shrink(struct sweep *g, struct err *e) {
    int64_t pages = 0, left = 0, page_size = 0;
    int r = free_pages(&pages, g, e);
    if (!r) r = db_integer(&page_size, g->s->blobs, "PRAGMA page_size", BIND_NOTHING, e);
    if (r || pages == 0) return r;
    for (left = pages; !r && left > 0 && !time_is_up(g);) {
        int64_t before = left;
        r = db_script(g->s->blobs, "PRAGMA incremental_vacuum(256)", e);
        if (!r) r = free_pages(&left, g, e);
        if (left >= before) break;
        db_give_way();
    }
    if (!r) r = db_script(g->s->blobs, "PRAGMA wal_checkpoint(TRUNCATE)", e);
    g->report->freed_bytes = (pages - left) * page_size;
    if (left > 0 && time_is_up(g)) g->report->more = true;
    return r == E_BUSY ? 0 : r;
}

/* Does as if, and takes it back: so what an eviction gives free is counted too. */
static int rehearse(struct sweep *g, struct err *e) {
    int r = db_begin(g->s->meta, DB_RELAXED, e);
    if (r) return r;
    r = forget_within(g, e);
    if (!r)
        r = db_integer(&g->report->uploads, g->s->blobs,
                       "SELECT COUNT(*) FROM blobs WHERE state = 0 AND held_until < ?1",
                       BIND(value_int(unfinished_before(g))), e);
    if (!r) r = mark_unnamed(g, e);
    db_end(g->s->meta, E_CANCELLED, NULL);
    return r;
}

static int collect(struct sweep *g, struct err *e) {
    int r = forget(g, e);
    if (!r) r = mark_unfinished(g, e);
    if (!r) r = mark_unnamed(g, e);
    if (!r) r = remove_dropped(g, e);
    return r ? r : shrink(g, e);
}

int store_gc(struct store_gc_report *out, struct store *s, const struct store_gc_options *options, struct err *e) {
    *out = (struct store_gc_report){0};
    int64_t now = store_now(s);
    struct sweep g = {.s = s,
                      .options = options,
                      .report = out,
                      .now = now,
                      .until = options->budget_ms > 0 ? now + options->budget_ms : INT64_MAX};
    return options->dry_run ? rehearse(&g, e) : collect(&g, e);
}
