/* blobs.h - immutable bytes of any size, found by id or by sha256; identical bytes are stored once.
 *
 * A blob is written first and named later (by a model version, an array, a checkpoint, the cache).
 * Between the two, and while it is being sent, a hold keeps it: a time until which garbage
 * collection leaves it alone. Finishing a writer holds the blob for STORE_HOLD_MS. Naming a blob
 * that was collected nevertheless fails with E_NOT_FOUND and changes nothing. */
#ifndef STORE_BLOBS_H
#define STORE_BLOBS_H

#include "base/digest.h"
#include "base/origin.h"
#include "store/store.h"

#define STORE_CHUNK_SIZE (1 << 20)                       /* bytes per row */
#define STORE_BLOB_MAX ((int64_t)STORE_CHUNK_SIZE << 16) /* 64 GiB */
#define STORE_HOLD_MS (10 * 60 * 1000)
#define STORE_UPLOAD_MS (24 * 60 * 60 * 1000) /* life of an unfinished writer */

struct store_blob {
    int64_t id;
    int64_t size;
    struct digest digest;
};

/* ---- writing: constant memory (one chunk), no transaction is open between calls ---- */

struct store_writer;

/* Starts a blob of at most max_size bytes (<= STORE_BLOB_MAX). End it with finish or abandon. */
int store_writer_open(struct store_writer **out, struct store *s, int64_t max_size, struct err *e);

/* Appends bytes of any number. E_TOO_LARGE beyond the maximum; E_LOST when the upload was collected
 * because it took longer than STORE_UPLOAD_MS. After an error only abandon is left. */
int store_writer_add(struct store_writer *w, const void *bytes, size_t size, struct err *e);

/* Bytes taken so far. */
int64_t store_writer_size(const struct store_writer *w);

/* Makes the blob durable and fills *out; the writer is gone, whatever the result. When `expected` is
 * not NULL and the bytes hash to something else: E_DIGEST, and nothing is kept. *existed (may be
 * NULL) says that the same bytes were there before; *out is then that blob. */
int store_writer_finish(struct store_blob *out, bool *existed, struct store_writer *w, const struct digest *expected,
                        struct err *e);

/* Drops what was written; NULL is fine. If the disk refuses, garbage collection does it later. */
void store_writer_abandon(struct store_writer *w);

/* All of it in one call. */
int store_blob_put(struct store_blob *out, struct store *s, const void *bytes, size_t size, struct err *e);

/* ---- reading ---- */

/* E_NOT_FOUND when there is no such (finished) blob. */
int store_blob_get(struct store_blob *out, struct store *s, int64_t blob, struct err *e);
int store_blob_find(struct store_blob *out, struct store *s, const struct digest *digest, struct err *e);

/* Copies bytes [offset, offset + size) of a blob out. Each chunk row touched is one short read
 * transaction; only the slice is read. E_NOT_FOUND when any of the bytes is not there (beyond the
 * end, or collected): `to` is then undefined. */
int store_blob_read(void *to, size_t size, struct store *s, int64_t blob, int64_t offset, struct err *e);

/* A blob as an origin. *place must live as long as it. */
struct store_blob_place {
    struct store *store;
    int64_t blob;
};
struct byte_origin store_blob_origin(struct store_blob_place *place, struct store *s, int64_t blob, int64_t size);

/* Keeps garbage collection away from the blob for at least `ms` from now; writes only when the
 * present hold ends before half of that, so call it as often as you like while sending. E_NOT_FOUND. */
int store_blob_hold(struct store *s, int64_t blob, int64_t ms, struct err *e);

/* Reads the whole blob and compares its digest: E_CORRUPT when it differs, E_NOT_FOUND. */
int store_blob_verify(struct store *s, int64_t blob, struct err *e);

#endif
