/* folder.h - what the tests of the store share: a data folder that goes away, a clock that is set by hand,
 * and bytes that can be made again. */
#ifndef TESTS_STORE_FOLDER_H
#define TESTS_STORE_FOLDER_H

#include <ftw.h>
#include <inttypes.h>
#include <sys/stat.h>

#include "base/digest.h"
#include "base/memory.h"
#include "base/text.h"
#include "store/blobs.h"
#include "store/cache.h"
#include "store/catalog.h"
#include "store/datasets.h"
#include "store/events.h"
#include "store/jobs.h"
#include "store/leases.h"
#include "store/models.h"
#include "store/store.h"
#include "tests/test.h"

static char folder[64];
static int64_t clock_now = 1700000000000, clock_step; /* it goes on by a step whenever it is read */

static int64_t clock_read(void) {
    return clock_now += clock_step;
}

static int remove_entry(const char *path, const struct stat *st, int kind, struct FTW *where) {
    (void)st, (void)kind, (void)where;
    return remove(path);
}

static pid_t folder_owner;

static void folder_remove(void) {
    if (folder[0] && getpid() == folder_owner) nftw(folder, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

/* A new, empty folder; it is removed when this process exits. */
static inline void folder_make(void) {
    const char *where = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%.30s/store-XXXXXX", where ? where : "/tmp");
    if (!mkdtemp(folder)) folder[0] = '\0';
    folder_owner = getpid();
    atexit(folder_remove);
}

/* Opens the folder, which is made first if need be; the test ends here when that fails. */
static inline struct store *folder_open(void) {
    struct store *s;
    struct err e = {0};
    if (!folder[0]) folder_make();
    const struct store_options options = {.folder = folder, .now_ms = clock_read};
    if (!ok(store_open(&s, &options, &e) == 0, "store_open: %s", e.text)) exit(1);
    return s;
}

static inline int64_t file_size(const char *name) {
    char path[128];
    struct stat st;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return stat(path, &st) == 0 ? (int64_t)st.st_size : 0;
}

/* Byte i of the pattern of a seed. */
static inline unsigned char pattern(uint64_t seed, uint64_t i) {
    uint64_t x = (i / 8 + seed * 0x9e3779b97f4a7c15u) * 0xbf58476d1ce4e5b9u;
    return (unsigned char)((x ^ x >> 29) >> (i % 8 * 8));
}

static inline void pattern_fill(void *to, size_t size, uint64_t seed, uint64_t from) {
    unsigned char *bytes = to;
    for (size_t i = 0; i < size; i++) bytes[i] = pattern(seed, from + i);
}

static inline bool pattern_is(const void *bytes, size_t size, uint64_t seed, uint64_t from) {
    const unsigned char *at = bytes;
    for (size_t i = 0; i < size; i++)
        if (at[i] != pattern(seed, from + i)) return false;
    return true;
}

/* A small blob that is different for each seed. */
static inline struct store_blob small_blob(struct store *s, uint64_t seed) {
    struct store_blob blob;
    struct err e = {0};
    char bytes[100];
    pattern_fill(bytes, sizeof bytes, seed, 0);
    ok(store_blob_put(&blob, s, bytes, sizeof bytes, &e) == 0, "blob: %s", e.text);
    return blob;
}

/* A version of a model with such a blob. */
static inline struct store_version small_model(struct store *s, const char *name, uint64_t seed) {
    struct store_version version;
    struct err e = {0};
    struct store_model_new m = {.name = name, .blob = small_blob(s, seed), .parameters = 7};
    ok(store_model_put(&version, NULL, s, &m, &e) == 0, "model: %s", e.text);
    return version;
}

static inline int64_t small_job(struct store *s) {
    int64_t id;
    struct err e = {0};
    const struct store_job_new job = {.method = "distill", .spec = "{}"};
    ok(store_job_create(&id, NULL, s, &job, &e) == 0, "job: %s", e.text);
    return id;
}

static inline struct store_lease claim(struct store *s, const char *owner) {
    struct store_lease lease;
    struct err e = {0};
    bool found;
    ok(store_lease_claim(&lease, &found, s, owner, 10000, &e) == 0, "claim: %s", e.text);
    return lease;
}

#endif
