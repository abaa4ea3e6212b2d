/* cache.c - derived blobs by key; see cache.h. */
#include "store/cache.h"

#include "store/internal.h"

#define TOUCH_MS (60 * 1000) /* used_at is no finer: a hit should cost no write */

static int touch(struct store *s, const char *key, struct err *e) {
    int r = db_begin(s->meta, DB_RELAXED, e);
    if (r) return r;
    r = db_run(s->meta, "UPDATE cache SET used_at = ?2 WHERE key = ?1", BIND(value_text(key), value_int(store_now(s))),
               e);
    return db_end(s->meta, r, e);
}

int store_cache_get(struct store_blob *out, struct store *s, const char *key, struct err *e) {
    struct statement *st;
    *out = (struct store_blob){0};
    int r = db_query(&st, s->meta, "SELECT blob, used_at FROM cache WHERE key = ?1", BIND(value_text(key)), e);
    if (!r) r = statement_step(st, e);
    if (r < 0) return r;
    if (r == 0) return err_set(e, E_NOT_FOUND, "nothing is cached under that key");
    int64_t blob = column_int(st, 0), used_at = column_int(st, 1);
    statement_reset(st);
    /* Evicted and collected since: the hold says so, and it is a miss. */
    r = store_blob_hold(s, blob, STORE_HOLD_MS, e);
    if (!r && used_at < store_now(s) - TOUCH_MS) r = touch(s, key, e);
    return r ? r : store_blob_get(out, s, blob, e);
}

static int put_within(struct store *s, const char *key, const struct store_blob *blob, struct err *e) {
    struct store_blob there;
    int r = blob_check(&there, s, blob->id, e);
    if (r) return r;
    return db_run(
        s->meta,
        "INSERT INTO cache (key, blob, bytes, used_at) VALUES (?1, ?2, ?3, ?4)"
        " ON CONFLICT (key) DO UPDATE SET blob = excluded.blob, bytes = excluded.bytes, used_at = excluded.used_at",
        BIND(value_text(key), value_int(there.id), value_int(there.size), value_int(store_now(s))), e);
}

int store_cache_put(struct store *s, const char *key, const struct store_blob *blob, struct err *e) {
    size_t size = strlen(key);
    if (size == 0 || size > STORE_CACHE_KEY_MAX)
        return err_set(e, E_INVALID, "a cache key is 1 to %d bytes long, not %zu", STORE_CACHE_KEY_MAX, size);
    int r = db_begin(s->meta, DB_DURABLE, e);
    return r ? r : db_end(s->meta, put_within(s, key, blob, e), e);
}

int store_cache_delete(struct store *s, const char *key, struct err *e) {
    int r = db_begin(s->meta, DB_DURABLE, e);
    if (r) return r;
    r = db_run(s->meta, "DELETE FROM cache WHERE key = ?1", BIND(value_text(key)), e);
    return db_end(s->meta, r, e);
}
