/* library.c - SQLite's settings for the whole process: memory from base, so that tests can make any of
 * its allocations fail, and one thread per connection, so that it needs no locks of its own. */
#include "store/library.h"

#include <limits.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stddef.h>

#include "base/memory.h"

/* SQLite asks for the size of its blocks: it stands in front of each. 16 bytes keep the alignment. */
#define FRONT 16

static void *library_malloc(int size) {
    char *block = size > 0 ? mem_alloc((size_t)size + FRONT) : NULL;
    if (!block) return NULL;
    *(int *)(void *)block = size;
    return block + FRONT;
}

static void library_free(void *p) {
    if (p) mem_free((char *)p - FRONT);
}

static int library_size(void *p) {
    return p ? *(int *)(void *)((char *)p - FRONT) : 0;
}

static void *library_realloc(void *p, int size) {
    if (size <= 0) return NULL;
    char *block = mem_resize((char *)p - FRONT, (size_t)size + FRONT, 1);
    if (!block) return NULL;
    *(int *)(void *)block = size;
    return block + FRONT;
}

static int library_roundup(int size) {
    return size > INT_MAX - 7 ? size : (size + 7) & ~7;
}

static int library_init(void *unused) {
    (void)unused;
    return SQLITE_OK;
}

static void library_shutdown(void *unused) {
    (void)unused;
}

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static bool configured, started;

/* A failed start (out of memory) may be tried again, a configuration may not. */
static int start(void) {
    static const sqlite3_mem_methods memory = {.xMalloc = library_malloc,
                                               .xFree = library_free,
                                               .xRealloc = library_realloc,
                                               .xSize = library_size,
                                               .xRoundup = library_roundup,
                                               .xInit = library_init,
                                               .xShutdown = library_shutdown};
    int rc = SQLITE_OK;
    if (!configured) {
        rc = sqlite3_config(SQLITE_CONFIG_MALLOC, &memory);
        if (rc == SQLITE_OK) rc = sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
        if (rc == SQLITE_OK) rc = sqlite3_config(SQLITE_CONFIG_MULTITHREAD);
        configured = rc == SQLITE_OK;
    }
    if (rc == SQLITE_OK && !started) rc = sqlite3_initialize();
    started = rc == SQLITE_OK;
    return rc;
}

int library_start(struct err *e) {
    pthread_mutex_lock(&lock);
    int rc = start();
    pthread_mutex_unlock(&lock);
    if (rc == SQLITE_OK) return 0;
    return err_set(e, rc == SQLITE_NOMEM ? E_NOMEM : E_INTERNAL, "SQLite does not start: %s", sqlite3_errstr(rc));
}
