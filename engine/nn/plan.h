/* plan.h - the inside of a network, private to what plans and runs it.
 *
 * Planning goes through these stages:
 *   1. shapes at the batch size (infer.c); which values are per sample;
 *   2. calls: nodes in order, views and merged nodes left out, layout conversions put in;
 *   3. gradients: which values want one, who writes it first, who adds;
 *   4. every operator opens its call and registers steps;
 *   5. segments: runs of lane steps without a join, one step of units, or the preparing and finishing of
 *      several calls (segments.c);
 *   6. memory: what lives inside one segment goes to the arena of a thread, so that it stays in
 *      its cache; the rest is placed by liveness over segments (place.c). */
#ifndef ENGINE_NN_PLAN_H
#define ENGINE_NN_PLAN_H

#include "engine/nn/infer.h"
#include "engine/nn/net.h"
#include "engine/nn/op.h"

struct step {
    step_run *run;
    int call;    /* index */
    int n_units; /* 0: once per lane */
    bool join;
};

struct steps {
    struct step *list;
    int n, room;
};

/* Where a tensor is in the plan: what place.c needs beside the public struct. */
struct storage {
    struct tensor tensor;
    int root;        /* index of the storage whose memory this one shares; itself if none */
    bool ready;      /* an input of the graph, or some planned call makes it */
    bool used;       /* some call or the caller touches it */
    bool fixed;      /* base is set already: parameters, constants */
    bool lasting;    /* inputs, outputs: valid between runs */
    int first, last; /* steps that touch it, over forward and backward numbered together */
};

/* Work between two meetings of the crew. */
struct segment {
    enum phase phase;
    int first, n; /* steps of that phase */
};

/* Memory that a call needs for a while: lanes' gradients, or packed parameters. */
struct transient {
    real **where;
    size_t count; /* reals */
    int call;
    enum phase maker, reader; /* from the first step of the one to the last of the other */
};

struct plan {
    const struct graph *graph;
    struct crew *crew;
    const struct plan *host; /* NULL, or the one whose parameters and memory this one uses */
    struct net_options options;
    int lanes, lane_size, threads;
    size_t gather_room; /* reals; see plan_shares */
    struct inferred *known;

    /* storages: [0, n) values, [n, 2n) their gradients; n = graph values + converted copies. */
    struct storage *values, *gradients;
    int n_values, values_room;
    int *converted; /* per graph value: its copy in the other layout, or -1 */
    int *standing;  /* per graph output: the value it is read from (itself, or its plain copy) */
    int *readers;   /* per value: calls that read it */
    bool *wants;    /* per value: wants a gradient */

    struct call *calls;
    struct planned_call {
        int *in, *out; /* value indices, VALUE_NONE where left out */
        int residual;
        const struct op *op;
        int first_step[PHASES], n_steps[PHASES];
    } * planned;
    int n_calls, calls_room;
    int opening;            /* the call whose plan runs */
    bool shares_parameters; /* some parameter gets its gradient from several calls */

    struct steps steps[PHASES];
    struct segment *segments[2]; /* of forward and backward */
    int n_segments[2];
    struct transient *transients;
    int n_transients, transients_room;
    bool packs_late; /* PREPARE and REPACK are segments, so that packed parameters come and go; else one runs
                      * before forward, the other before backward, when parameters have changed */

    struct net_parameter *parameters;
    int n_parameters, parameters_room;
    size_t n_trainable, n_all;
    real *parameter_values, *parameter_gradients;

    void **blocks; /* all memory the plan took */
    int n_blocks, blocks_room;
    size_t taken; /* bytes */
    struct net_memory memory;
    real *block;       /* of what lives longer than a segment */
    size_t block_size; /* reals */
    size_t scratch;    /* reals per thread */
    size_t arena;      /* reals per thread */
    real **thread_arena, **thread_scratch;
};

/* Zeroed memory that belongs to the plan, counted against its budget. */
int plan_block(void **out, struct plan *p, size_t n, size_t size, struct err *e);

/* The storage of a value of that shape, by itself so far. */
struct storage plan_storage(const struct plan *p, int index, const struct shape *shape, enum layout layout);

/* How many nodes read each value of the graph - one that the graph gives out has two readers more - and the last one
 * that does (tables over values). */
struct readership {
    int *reads;
    int *reader;
};
int plan_find_readers(struct readership *r, struct plan *p, struct err *e);

/* Merges into the call of `node` what follows it and nobody else reads: a BatchNormalization with
 * fixed statistics, the Add of a residual connection, a Relu. The call makes the last one's output.
 * Marks the nodes in `merged`. */
int plan_merge_followers(struct plan *p, const struct readership *r, bool *merged, int call, const struct node *node,
                         enum layout layout, struct err *e);

/* Stage 3. `given` is a table over values, all false. */
void plan_wire(struct plan *p, bool *given);

/* Stages 1 to 4; stages 5 and 6. */
int plan_build(struct plan *p, struct err *e);
int plan_place(struct plan *p, struct err *e);

/* Stage 5, a part of plan_place. Calls are prepared and finished in groups that hold up to `limit` reals
 * (SIZE_MAX: all at once). Called again it begins anew. */
int plan_segments_room(struct plan *p, struct err *e);
int plan_segments(struct plan *p, size_t limit, struct err *e);
void plan_fini(struct plan *p);

/* The operator behind layout conversions and gradients of views (layout.c). */
extern const struct op op_relayout;

#endif
