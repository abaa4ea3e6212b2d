/* method.h - what a transfer method is: one constant record in a file of its own, one row in
 * engine/transfer/methods.def.
 *
 * A method sees networks, data and numbers, and never reads JSON, SQL or HTTP. Its specification is a plain
 * struct described by a parameter table; what it needs from outside (networks by reference, data
 * sets, a cache, a place for checkpoints, somebody to tell about progress) comes through a `host`.
 * The server's host is in jobs/, the tests bring one of their own. */
#ifndef ENGINE_TRANSFER_METHOD_H
#define ENGINE_TRANSFER_METHOD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/digest.h"
#include "base/error.h"
#include "base/param.h"
#include "base/text.h"
#include "engine/nn/checkpoint.h"
#include "engine/nn/dataset.h"
#include "engine/nn/graph.h"

#define REFERENCE_SIZE 192 /* name@version, with the NUL */
#define OUTPUT_SIZE 97     /* a name, with the NUL: of the spec's member "output", what the student is stored as */

/* Where something loaded came from. */
struct source {
    struct digest digest; /* of its stored bytes */
    uint64_t bytes;       /* how many these are */
};

/* What the world does for a running method. Every function may be called from the method's thread
 * only. Pointers handed out stay valid until the run ends, unless said otherwise. */
struct host {
    void *context;

    /* The network of a reference, as stored; *source may be NULL. The graph is the method's to change
     * and to free. */
    int (*load_graph)(struct graph **out, struct source *source, void *context, const char *reference, struct err *e);

    /* What a training left beside the network of a reference, for going on: fills value.memory, value.share and
     * graph.training of that network, loaded before and perhaps with other weights since. E_NOT_FOUND when it left
     * nothing. After an error the graph keeps nothing, but is as good as before. */
    int (*load_memory)(struct graph *g, void *context, const char *reference, struct err *e);

    /* An array of a data set ("inputs", "labels", "targets"), or E_NOT_FOUND with the names it has;
     * *source may be NULL. The bytes are borrowed; large ones are mapped, not read. */
    int (*load_array)(struct data_array *out, struct source *source, void *context, const char *reference,
                      const char *name, struct err *e);

    /* Zeroed memory for something as large as a data set, until the run ends: mapped from a file rather than
     * taken from `memory` when it is large. */
    int (*scratch)(void **out, size_t size, void *context, struct err *e);

    /* Derived data that may be thrown away and made again: a block of exactly `size` bytes under a
     * key. get: E_NOT_FOUND when it is not there. */
    int (*cache_get)(void *out, size_t size, void *context, const struct digest *key, struct err *e);
    int (*cache_put)(const void *bytes, size_t size, void *context, const struct digest *key, struct err *e);

    /* The newest checkpoint of this job, if an earlier attempt left one; it can be read until the first
     * checkpoint_save. And a new one, replacing the last. Methods ask after every step whether one is
     * due: enough time has passed, or the worker is about to stop. */
    int (*checkpoint_find)(struct checkpoint_source *out, void *context, struct err *e);
    bool (*checkpoint_due)(void *context);
    checkpoint_put *checkpoint_save;

    /* Tells how far the run is. E_CANCELLED when somebody wants it to stop, E_LOST when another
     * worker has the job, E_TOO_LARGE when a check has taken too long: the method returns that at once. Cheap: call it
     * after every step. In a check it may be NULL. */
    int (*progress)(void *context, int64_t step, int64_t steps, struct err *e);

    /* One point of a series ("train_loss" at a step), and a line for the reader. */
    void (*metric)(void *context, const char *series, int64_t step, double value);
    void (*log)(void *context, const char *text);

    int threads;   /* for the crew */
    size_t memory; /* bytes the method may take, besides arrays and scratch; 0 = no limit */
};

/* What a run leaves. */
struct outcome {
    struct graph *student;       /* NULL for methods that only measure; owned by the caller. What it keeps of a training
                                  * (graph.training.rule >= 0) is stored beside it */
    struct text metrics;         /* JSON object of the result's numbers: {"accuracy":0.93,...} */
    struct text teacher_metrics; /* the same for the teacher, "" without one */
    struct text report;          /* JSON object: what a reader wants to know beside the numbers */
};

struct method {
    const char *name;    /* "distill" */
    const char *summary; /* one line */
    const struct param *params;
    size_t spec_size;

    /* Checks what the table cannot: how fields fit together, shapes, sizes; loads graphs and looks
     * at arrays through the host, trains nothing. Fills in defaults that depend on other fields; `run`
     * is given such a completed spec. Fills `student` (may be NULL) with the student's size when the
     * method makes one, zeros otherwise. Of the host's functions only `progress` and the first three, which load,
     * are called. */
    int (*check)(void *spec, const struct host *host, struct graph_size *student, struct err *e);

    /* Adds to the method's description what the table cannot say; NULL: nothing. */
    void (*describe)(struct json_writer *w);

    /* Runs to the end. */
    int (*run)(struct outcome *out, const void *spec, const struct host *host, struct err *e);
};

/* The table (engine/transfer/methods.def), ended by NULL. */
extern const struct method *const method_table[];
const struct method *method_find(const char *name);

void outcome_free(struct outcome *o);

#endif
