/* cache.h - derived blobs by key: what can be worked out again, but not for nothing (a teacher's
 * outputs over a data set). Entries go when the cache outgrows its limit (store_gc). */
#ifndef STORE_CACHE_H
#define STORE_CACHE_H

#include "store/blobs.h"

#define STORE_CACHE_KEY_MAX 255

/* The blob under a key, held for STORE_HOLD_MS, and marked as used; E_NOT_FOUND. */
int store_cache_get(struct store_blob *out, struct store *s, const char *key, struct err *e);

/* Puts or replaces the blob of a key. E_NOT_FOUND: the blob is gone; E_INVALID: empty or too long a key. */
int store_cache_put(struct store *s, const char *key, const struct store_blob *blob, struct err *e);

/* Forgets a key; not having it is fine. */
int store_cache_delete(struct store *s, const char *key, struct err *e);

#endif
