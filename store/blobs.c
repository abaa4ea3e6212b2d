/* blobs.c - reading blobs, holding them, removing what was dropped; see blobs.h. */
#include "store/blobs.h"

#include "base/memory.h"
#include "store/internal.h"

static int64_t first_row(int64_t blob) {
    return blob * 65536; /* the most chunks of a blob */
}

static void row_blob(struct store_blob *out, struct statement *st) {
    out->id = column_int(st, 0);
    out->size = column_int(st, 1);
    column_digest(&out->digest, st, 2);
}

int blob_check(struct store_blob *out, struct store *s, int64_t blob, struct err *e) {
    struct statement *st;
    *out = (struct store_blob){0};
    int r = db_query(&st, s->blobs, "SELECT id, size, digest FROM blobs WHERE id = ?1 AND state = 1",
                     BIND(value_int(blob)), e);
    if (!r) r = statement_step(st, e);
    if (r < 0) return r;
    if (r == 0) return err_set(e, E_NOT_FOUND, "blob %lld is not there", (long long)blob);
    row_blob(out, st);
    statement_reset(st);
    return 0;
}

int store_blob_get(struct store_blob *out, struct store *s, int64_t blob, struct err *e) {
    return blob_check(out, s, blob, e);
}

int store_blob_find(struct store_blob *out, struct store *s, const struct digest *digest, struct err *e) {
    struct statement *st;
    *out = (struct store_blob){0};
    int r = db_query(&st, s->blobs, "SELECT id, size, digest FROM blobs WHERE digest = ?1 AND state = 1",
                     BIND(value_digest(digest)), e);
    if (!r) r = statement_step(st, e);
    if (r < 0) return r;
    if (r == 0) {
        char hex[DIGEST_HEX_SIZE];
        digest_to_hex(hex, digest);
        return err_set(e, E_NOT_FOUND, "no blob has the digest sha256:%s", hex);
    }
    row_blob(out, st);
    statement_reset(st);
    return 0;
}

int store_blob_read(void *to, size_t size, struct store *s, int64_t blob, int64_t offset, struct err *e) {
    if (offset < 0 || offset > STORE_BLOB_MAX || size > (uint64_t)(STORE_BLOB_MAX - offset))
        return err_set(e, E_NOT_FOUND, "blob %lld has no %zu bytes at %lld", (long long)blob, size, (long long)offset);
    for (char *at = to; size > 0;) {
        size_t inside = (size_t)(offset % STORE_CHUNK_SIZE);
        size_t n = STORE_CHUNK_SIZE - inside < size ? STORE_CHUNK_SIZE - inside : size;
        int r =
            db_read_slice(at, n, s->blobs, "chunks", "data", first_row(blob) + offset / STORE_CHUNK_SIZE, inside, e);
        if (r == E_NOT_FOUND)
            return err_set(e, r, "blob %lld has no %zu bytes at %lld", (long long)blob, n, (long long)offset);
        if (r) return r;
        at += n;
        offset += (int64_t)n;
        size -= n;
    }
    return 0;
}

int store_blob_hold(struct store *s, int64_t blob, int64_t ms, struct err *e) {
    int64_t now = store_now(s), until;
    int r = db_integer(&until, s->blobs, "SELECT held_until FROM blobs WHERE id = ?1 AND state = 1",
                       BIND(value_int(blob)), e);
    if (r == E_NOT_FOUND) return err_set(e, r, "blob %lld is not there", (long long)blob);
    if (r || until >= now + ms / 2) return r;
    r = db_begin(s->blobs, DB_RELAXED, e);
    if (r) return r;
    r = db_run(s->blobs, "UPDATE blobs SET held_until = ?2 WHERE id = ?1 AND state = 1 AND held_until < ?2",
               BIND(value_int(blob), value_int(now + ms)), e);
    if (!r) {
        struct store_blob still;
        r = blob_check(&still, s, blob, e); /* collected in between? */
    }
    return db_end(s->blobs, r, e);
}

static int hash_blob(struct digest *out, struct store *s, const struct store_blob *blob, char *buffer, struct err *e) {
    struct hasher hash;
    hasher_init(&hash);
    for (int64_t at = 0; at < blob->size; at += STORE_CHUNK_SIZE) {
        int64_t left = blob->size - at;
        size_t n = left < STORE_CHUNK_SIZE ? (size_t)left : STORE_CHUNK_SIZE;
        int r = store_blob_read(buffer, n, s, blob->id, at, e);
        if (r) return r;
        hasher_add(&hash, buffer, n);
    }
    *out = hasher_finish(&hash);
    return 0;
}

int store_blob_verify(struct store *s, int64_t blob, struct err *e) {
    struct store_blob b;
    struct digest digest;
    int r = store_blob_hold(s, blob, STORE_HOLD_MS, e);
    if (!r) r = blob_check(&b, s, blob, e);
    if (r) return r;
    char *buffer = mem_alloc(STORE_CHUNK_SIZE);
    if (!buffer) return err_memory(e, STORE_CHUNK_SIZE);
    r = hash_blob(&digest, s, &b, buffer, e);
    if (r == E_NOT_FOUND) r = E_CORRUPT; /* a finished blob lacks bytes */
    if (!r && !digest_equal(&digest, &b.digest)) {
        char hex[DIGEST_HEX_SIZE];
        digest_to_hex(hex, &digest);
        r = err_set(e, E_CORRUPT, "the bytes of blob %lld hash to sha256:%s, not to its digest", (long long)blob, hex);
    }
    mem_free(buffer);
    return r;
}

/* ---- removing ---- */

/* Chunks go from the last to the first, some at a time, and the row of the blob after them. */
static int remove_some(bool *done, struct store *s, int64_t blob, struct err *e) {
    int64_t first = first_row(blob), last;
    int r = db_integer(&last, s->blobs, "SELECT COALESCE(MAX(id), -1) FROM chunks WHERE id BETWEEN ?1 AND ?2",
                       BIND(value_int(first), value_int(first + 65535)), e);
    if (r) return r;
    *done = last < first + 16;
    if (last >= first)
        r = db_run(s->blobs, "DELETE FROM chunks WHERE id BETWEEN ?1 AND ?2",
                   BIND(value_int(*done ? first : last - 15), value_int(last)), e);
    if (!r && *done) r = db_run(s->blobs, "DELETE FROM blobs WHERE id = ?1", BIND(value_int(blob)), e);
    return r;
}

int blob_remove(bool *done, struct store *s, int64_t blob, int64_t until, struct err *e) {
    for (*done = false; !*done && store_now(s) < until;) {
        int r = db_begin(s->blobs, DB_RELAXED, e);
        if (!r) r = db_end(s->blobs, remove_some(done, s, blob, e), e);
        if (r) {
            *done = false;
            return r;
        }
        if (!*done) db_give_way();
    }
    return 0;
}

static int read_place(void *to, size_t size, uint64_t offset, void *context, struct err *e) {
    const struct store_blob_place *p = context;
    return store_blob_read(to, size, p->store, p->blob, (int64_t)offset, e);
}

struct byte_origin store_blob_origin(struct store_blob_place *place, struct store *s, int64_t blob, int64_t size) {
    *place = (struct store_blob_place){s, blob};
    return (struct byte_origin){(uint64_t)size, read_place, place};
}
