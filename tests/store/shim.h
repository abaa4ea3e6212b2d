/* shim.h - a layer under SQLite that counts calls to the file system, makes the nth one fail, and says when a
 * file is synced. It forwards the shared memory too, so what runs above it is the write-ahead log as always. */
#ifndef TESTS_STORE_SHIM_H
#define TESTS_STORE_SHIM_H

#include <sqlite3.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

enum shim_fault { SHIM_IO_ERROR, SHIM_DISK_FULL };

static struct {
    long calls;    /* that could fail, since the last reset */
    long fail_at;  /* 0 = never */
    bool for_good; /* and all later ones */
    enum shim_fault fault;
    bool no_sync;     /* pretend to sync: quick */
    bool failed_sync; /* the call that failed first was a sync */
    void (*before_sync)(const char *path);
    void (*after_sync)(const char *path);
} shim;

struct shim_file {
    sqlite3_file base;
    const char *path;
    sqlite3_file *real;
};

static sqlite3_vfs *shim_below;
static sqlite3_vfs shim_vfs;

static bool shim_fails(void) {
    long call = ++shim.calls;
    return shim.fail_at && (call == shim.fail_at || (call > shim.fail_at && shim.for_good));
}

/* The failure of a call that takes space, or of one that does not. */
static bool shim_writes_fail(int *rc, int error) {
    if (!shim_fails()) return false;
    *rc = shim.fault == SHIM_DISK_FULL ? SQLITE_FULL : error;
    return true;
}

static bool shim_others_fail(void) {
    return shim.fault == SHIM_IO_ERROR && shim_fails();
}

#define SHIM_REAL(f) (((struct shim_file *)(f))->real)
#define SHIM_CALL(f, method, ...) SHIM_REAL(f)->pMethods->method(SHIM_REAL(f), __VA_ARGS__)

static int shim_close(sqlite3_file *f) {
    return SHIM_REAL(f)->pMethods->xClose(SHIM_REAL(f));
}

static int shim_read(sqlite3_file *f, void *to, int size, sqlite3_int64 at) {
    return shim_others_fail() ? SQLITE_IOERR_READ : SHIM_CALL(f, xRead, to, size, at);
}

static int shim_write(sqlite3_file *f, const void *from, int size, sqlite3_int64 at) {
    int rc;
    return shim_writes_fail(&rc, SQLITE_IOERR_WRITE) ? rc : SHIM_CALL(f, xWrite, from, size, at);
}

static int shim_truncate(sqlite3_file *f, sqlite3_int64 size) {
    return shim_others_fail() ? SQLITE_IOERR_TRUNCATE : SHIM_CALL(f, xTruncate, size);
}

static int shim_sync(sqlite3_file *f, int flags) {
    const char *path = ((struct shim_file *)f)->path;
    if (shim_others_fail()) {
        shim.failed_sync |= shim.calls == shim.fail_at;
        return SQLITE_IOERR_FSYNC;
    }
    if (shim.before_sync) shim.before_sync(path);
    int rc = shim.no_sync ? SQLITE_OK : SHIM_CALL(f, xSync, flags);
    if (rc == SQLITE_OK && shim.after_sync) shim.after_sync(path);
    return rc;
}

static int shim_size(sqlite3_file *f, sqlite3_int64 *size) {
    return shim_others_fail() ? SQLITE_IOERR_FSTAT : SHIM_CALL(f, xFileSize, size);
}

static int shim_lock(sqlite3_file *f, int level) {
    return SHIM_CALL(f, xLock, level);
}

static int shim_unlock(sqlite3_file *f, int level) {
    return SHIM_CALL(f, xUnlock, level);
}

static int shim_reserved(sqlite3_file *f, int *out) {
    return SHIM_CALL(f, xCheckReservedLock, out);
}

static int shim_control(sqlite3_file *f, int op, void *arg) {
    return SHIM_CALL(f, xFileControl, op, arg);
}

static int shim_sector(sqlite3_file *f) {
    return SHIM_REAL(f)->pMethods->xSectorSize(SHIM_REAL(f));
}

static int shim_traits(sqlite3_file *f) {
    return SHIM_REAL(f)->pMethods->xDeviceCharacteristics(SHIM_REAL(f));
}

static int shim_shm_map(sqlite3_file *f, int region, int size, int extend, void volatile **out) {
    int rc;
    *out = NULL;
    return shim_writes_fail(&rc, SQLITE_IOERR_SHMMAP) ? rc : SHIM_CALL(f, xShmMap, region, size, extend, out);
}

static int shim_shm_lock(sqlite3_file *f, int offset, int n, int flags) {
    return SHIM_CALL(f, xShmLock, offset, n, flags);
}

static void shim_shm_barrier(sqlite3_file *f) {
    SHIM_REAL(f)->pMethods->xShmBarrier(SHIM_REAL(f));
}

static int shim_shm_unmap(sqlite3_file *f, int remove) {
    return SHIM_CALL(f, xShmUnmap, remove);
}

static const sqlite3_io_methods shim_methods = {.iVersion = 2,
                                                .xClose = shim_close,
                                                .xRead = shim_read,
                                                .xWrite = shim_write,
                                                .xTruncate = shim_truncate,
                                                .xSync = shim_sync,
                                                .xFileSize = shim_size,
                                                .xLock = shim_lock,
                                                .xUnlock = shim_unlock,
                                                .xCheckReservedLock = shim_reserved,
                                                .xFileControl = shim_control,
                                                .xSectorSize = shim_sector,
                                                .xDeviceCharacteristics = shim_traits,
                                                .xShmMap = shim_shm_map,
                                                .xShmLock = shim_shm_lock,
                                                .xShmBarrier = shim_shm_barrier,
                                                .xShmUnmap = shim_shm_unmap};

static int shim_open(sqlite3_vfs *vfs, const char *path, sqlite3_file *f, int flags, int *out) {
    struct shim_file *file = (struct shim_file *)(void *)f;
    (void)vfs;
    f->pMethods = NULL;
    if (shim_others_fail()) return SQLITE_CANTOPEN;
    file->path = path;
    file->real = (sqlite3_file *)(void *)(file + 1);
    int rc = shim_below->xOpen(shim_below, path, file->real, flags, out);
    if (file->real->pMethods) f->pMethods = &shim_methods;
    return rc;
}

static int shim_delete(sqlite3_vfs *vfs, const char *path, int sync_folder) {
    (void)vfs;
    return shim_others_fail() ? SQLITE_IOERR_DELETE : shim_below->xDelete(shim_below, path, sync_folder);
}

/* Puts the layer under every database that is opened from now on. SQLite must have been started, which the
 * first store_open does. */
static inline bool shim_install(void) {
    shim_below = sqlite3_vfs_find(NULL);
    if (!shim_below) return false;
    shim_vfs = *shim_below;
    shim_vfs.zName = "shim";
    shim_vfs.szOsFile = (int)sizeof(struct shim_file) + shim_below->szOsFile;
    shim_vfs.xOpen = shim_open;
    shim_vfs.xDelete = shim_delete;
    return sqlite3_vfs_register(&shim_vfs, 1) == SQLITE_OK;
}

static inline void shim_fail(long at, bool for_good, enum shim_fault fault) {
    shim.calls = 0;
    shim.failed_sync = false;
    shim.fail_at = at;
    shim.for_good = for_good;
    shim.fault = fault;
}

#endif
