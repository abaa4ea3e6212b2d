/* stores.c - thread-local stores. */
#include "server/stores.h"

#include <pthread.h>

#include "base/log.h"
#include "store/store.h"

static const char *folder;
static pthread_key_t key;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void close_store(void *store) {
    store_close(store);
}

static void make_key(void) {
    pthread_key_create(&key, close_store);
}

void stores_folder(const char *path) {
    folder = path;
}

struct store *stores_mine(void) {
    pthread_once(&once, make_key);
    struct store *mine = pthread_getspecific(key);
    if (mine) return mine;
    struct err e = {0};
    if (store_open(&mine, &(struct store_options){.folder = folder}, &e)) {
        log_error("cannot open the data folder: %s", e.text);
        return NULL;
    }
    pthread_setspecific(key, mine);
    return mine;
}

void stores_close_mine(void) {
    pthread_once(&once, make_key);
    store_close(pthread_getspecific(key));
    pthread_setspecific(key, NULL);
}
