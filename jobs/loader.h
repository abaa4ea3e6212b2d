/* loader.h - networks and arrays out of the store, as the methods want them. */
#ifndef JOBS_LOADER_H
#define JOBS_LOADER_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "engine/transfer/method.h"
#include "jobs/references.h"
#include "jobs/scratch.h"
#include "store/store.h"

#define LOADER_MAX_ARRAYS 64

struct loader_options {
    const char
        *folder;   /* where scratch files lie, from which large arrays are mapped; NULL = only small ones are read */
    size_t small;  /* bytes that arrays may take in memory: with a folder all together, else each */
    size_t memory; /* largest network file that is read, in bytes; 0 = no limit */
    /* Called between pieces of large arrays; an error ends the loading. May be NULL. */
    int (*tick)(void *context, struct err *e);
    void *context;
};

/* One array that is in memory until the loader ends. */
struct loaded_array {
    int64_t version;
    char name[65];
    struct data_array array;
    struct source source;
};

struct loader {
    struct store *store;
    const struct references *references; /* which may be loaded, and what they mean */
    struct loader_options options;
    struct loaded_array *arrays;
    size_t n_arrays;
    struct scratch scratch; /* their data, and what else is as large */
};

/* Borrows store and references. */
void loader_init(struct loader *l, struct store *s, const struct references *references,
                 const struct loader_options *options);
void loader_fini(struct loader *l);

/* As load_graph, load_memory and load_array of struct host. Without a folder, arrays that are not small have no
 * data: enough to check shapes. */
int loader_graph(struct graph **out, struct source *source, struct loader *l, const char *reference, struct err *e);
int loader_memory(struct graph *g, struct loader *l, const char *reference, struct err *e);
int loader_array(struct data_array *out, struct source *source, struct loader *l, const char *reference,
                 const char *name, struct err *e);

#endif
