/* writer.c - writing blobs; see blobs.h. A blob below one chunk is written whole by its finish. */
#include "base/memory.h"
#include "store/blobs.h"
#include "store/internal.h"

#define CHUNKS_PER_COMMIT 16

struct store_writer {
    struct store *s;
    struct hasher hash;
    int64_t blob;   /* 0 = no row yet */
    int64_t chunks; /* rows written */
    int64_t size, max_size;
    int failed;    /* the first error */
    size_t filled; /* of the chunk that is being collected */
    char chunk[STORE_CHUNK_SIZE];
};

int store_writer_open(struct store_writer **out, struct store *s, int64_t max_size, struct err *e) {
    struct store_writer *w = mem_alloc(sizeof *w); /* not zeroed: small blobs touch little of it */
    *out = w;
    if (!w) return err_memory(e, sizeof *w);
    memset(w, 0, offsetof(struct store_writer, chunk));
    w->s = s;
    w->max_size = max_size < STORE_BLOB_MAX ? max_size : STORE_BLOB_MAX;
    hasher_init(&w->hash);
    return 0;
}

int64_t store_writer_size(const struct store_writer *w) {
    return w->size;
}

/* The row of an unfinished blob, with a new end of its life. */
static int ensure_row(struct store_writer *w, struct err *e) {
    struct database *db = w->s->blobs;
    int64_t now = store_now(w->s);
    if (w->blob) {
        int r = db_run(db, "UPDATE blobs SET held_until = ?2 WHERE id = ?1 AND state = 0",
                       BIND(value_int(w->blob), value_int(now + STORE_UPLOAD_MS)), e);
        if (!r && db_changes(db) == 0)
            r = err_set(e, E_LOST, "the upload took too long and was collected; send it again");
        return r;
    }
    int r = db_run(db, "INSERT INTO blobs (state, size, held_until, created_at) VALUES (0, 0, ?1, ?2)",
                   BIND(value_int(now + STORE_UPLOAD_MS), value_int(now)), e);
    if (!r) w->blob = db_last_id(db);
    return r;
}

static int write_chunk(struct store_writer *w, const void *bytes, size_t size, struct err *e) {
    int r = db_run(w->s->blobs, "INSERT INTO chunks (id, data) VALUES (?1, ?2)",
                   BIND(value_int(w->blob * 65536 + w->chunks), value_bytes(bytes, size)), e);
    if (!r) w->chunks++;
    return r;
}

/* One transaction: the collected chunk if it is full, and full chunks of `bytes`; says how many bytes it took. */
static int write_group(struct store_writer *w, const char *bytes, size_t size, size_t *taken, struct err *e) {
    struct database *db = w->s->blobs;
    int64_t before = w->blob;
    *taken = 0;
    int r = db_begin(db, DB_RELAXED, e);
    if (r) return r;
    r = ensure_row(w, e);
    int n = 0;
    if (!r && w->filled == STORE_CHUNK_SIZE) {
        r = write_chunk(w, w->chunk, STORE_CHUNK_SIZE, e);
        w->filled = 0;
        n++;
    }
    for (; !r && n < CHUNKS_PER_COMMIT && size - *taken >= STORE_CHUNK_SIZE; n++) {
        r = write_chunk(w, bytes + *taken, STORE_CHUNK_SIZE, e);
        *taken += STORE_CHUNK_SIZE;
    }
    r = db_end(db, r, e);
    if (r) w->blob = before; /* an id that was rolled back may be somebody else's next */
    return r;
}

/* Moves bytes into the collected chunk; says how many. */
static size_t collect(struct store_writer *w, const char *bytes, size_t size) {
    size_t n = STORE_CHUNK_SIZE - w->filled < size ? STORE_CHUNK_SIZE - w->filled : size;
    memcpy(w->chunk + w->filled, bytes, n);
    w->filled += n;
    return n;
}

int store_writer_add(struct store_writer *w, const void *bytes, size_t size, struct err *e) {
    if (w->failed) return err_set(e, w->failed, "the upload failed before");
    if (size == 0) return 0;
    if (size > (uint64_t)(w->max_size - w->size)) {
        w->failed = E_TOO_LARGE;
        return err_set(e, E_TOO_LARGE, "more than the %lld bytes that are taken", (long long)w->max_size);
    }
    hasher_add(&w->hash, bytes, size);
    w->size += (int64_t)size;
    for (const char *at = bytes; size > 0;) {
        size_t n = w->filled || size < STORE_CHUNK_SIZE ? collect(w, at, size) : 0;
        at += n;
        size -= n;
        if (w->filled < STORE_CHUNK_SIZE && size < STORE_CHUNK_SIZE) continue;
        w->failed = write_group(w, at, size, &n, e);
        if (w->failed) return w->failed;
        at += n;
        size -= n;
        if (size >= STORE_CHUNK_SIZE) db_give_way();
    }
    return 0;
}

/* ---- the end ---- */

/* The digest is there already: keep that blob a while, drop this one. */
static int join_existing(struct store_writer *w, int64_t existing, struct err *e) {
    struct database *db = w->s->blobs;
    int r = db_run(db, "UPDATE blobs SET held_until = ?2 WHERE id = ?1 AND held_until < ?2",
                   BIND(value_int(existing), value_int(store_now(w->s) + STORE_HOLD_MS)), e);
    if (!r && w->blob) r = db_run(db, "UPDATE blobs SET state = 2 WHERE id = ?1", BIND(value_int(w->blob)), e);
    return r;
}

static int finish_new(struct store_writer *w, const struct digest *digest, struct err *e) {
    struct database *db = w->s->blobs;
    int r = ensure_row(w, e);
    if (!r && w->filled) r = write_chunk(w, w->chunk, w->filled, e);
    if (!r)
        r = db_run(db, "UPDATE blobs SET state = 1, size = ?2, digest = ?3, held_until = ?4 WHERE id = ?1",
                   BIND(value_int(w->blob), value_int(w->size), value_digest(digest),
                        value_int(store_now(w->s) + STORE_HOLD_MS)),
                   e);
    return r;
}

static int finish_within(struct store_blob *out, bool *existed, struct store_writer *w, struct err *e) {
    int64_t existing = 0;
    int r = db_integer(&existing, w->s->blobs, "SELECT id FROM blobs WHERE digest = ?1 AND state = 1",
                       BIND(value_digest(&out->digest)), e);
    *existed = r == 0;
    if (r == 0)
        r = join_existing(w, existing, e);
    else if (r == E_NOT_FOUND)
        r = finish_new(w, &out->digest, e);
    out->id = *existed ? existing : w->blob;
    return r;
}

static int check_digest(const struct digest *got, const struct digest *expected, struct err *e) {
    if (!expected || digest_equal(got, expected)) return 0;
    char a[DIGEST_HEX_SIZE], b[DIGEST_HEX_SIZE];
    digest_to_hex(a, got);
    digest_to_hex(b, expected);
    return err_set(e, E_DIGEST, "the bytes received hash to sha256:%s, announced was sha256:%s; send them again", a, b);
}

int store_writer_finish(struct store_blob *out, bool *existed, struct store_writer *w, const struct digest *expected,
                        struct err *e) {
    bool known = false;
    int64_t before = w->blob;
    int r = w->failed ? err_set(e, w->failed, "the upload failed before") : 0;
    *out = (struct store_blob){.size = w->size, .digest = hasher_finish(&w->hash)};
    if (!r) r = check_digest(&out->digest, expected, e);
    if (!r) r = db_begin(w->s->blobs, DB_DURABLE, e);
    if (!r) r = db_end(w->s->blobs, finish_within(out, &known, w, e), e);
    if (r) *out = (struct store_blob){0};
    if (existed) *existed = !r && known;
    w->blob = r || known ? before : 0; /* what is left to abandon */
    store_writer_abandon(w);
    return r;
}

/* Marked first, so that whoever comes next goes on when the rest fails here. */
static void drop_unfinished(struct store *s, int64_t blob) {
    bool done;
    int r = db_begin(s->blobs, DB_RELAXED, NULL);
    if (r) return;
    r = db_run(s->blobs, "UPDATE blobs SET state = 2 WHERE id = ?1 AND state = 0", BIND(value_int(blob)), NULL);
    if (db_end(s->blobs, r, NULL) == 0) blob_remove(&done, s, blob, store_now(s) + STORE_BUSY_MS, NULL);
}

void store_writer_abandon(struct store_writer *w) {
    if (!w) return;
    if (w->blob) drop_unfinished(w->s, w->blob);
    mem_free(w);
}

int store_blob_put(struct store_blob *out, struct store *s, const void *bytes, size_t size, struct err *e) {
    struct store_writer *w;
    *out = (struct store_blob){0};
    int r = store_writer_open(&w, s, STORE_BLOB_MAX, e);
    if (r) return r;
    r = store_writer_add(w, bytes, size, e);
    if (!r) return store_writer_finish(out, NULL, w, NULL, e);
    store_writer_abandon(w);
    return r;
}
