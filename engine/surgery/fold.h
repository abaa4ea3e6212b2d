/* fold.h - the ways of folding, each in a file of its own. Private to fold*.c.
 *
 * Folding goes in passes. During one, the graph is edited in place, nodes are only marked to be dropped, and what a fold
 * has touched is busy: nothing else in the same pass may touch it. So the uses that were counted before the pass are
 * good for all that is not busy. */
#ifndef ENGINE_SURGERY_FOLD_H
#define ENGINE_SURGERY_FOLD_H

#include <stdbool.h>

#include "engine/surgery/edit.h"
#include "engine/surgery/linear.h"
#include "engine/surgery/morph.h"

struct folding {
    struct morphing *m;
    const struct uses *uses;
    bool *busy, *drop; /* per node */
    bool thrifty;      /* nothing that makes the network larger or slower */
    struct json_writer *w;
    int n;      /* folds so far */
    bool norms; /* a normalisation was among them */
};

/* One way. `node` is the one that disappears. */
struct fold_way {
    const char *mode;
    /* 0, or E_UNSUPPORTED with the reason. */
    int (*can)(struct folding *f, int node, struct err *e);
    /* Does what `can` allowed, unless something is busy: then nothing happens. */
    int (*apply)(struct folding *f, int node, struct err *e);
};

extern const struct fold_way fold_norm, fold_chain, fold_branches, fold_nothing;

/* linear_check_own of a node that is not busy: one that is may have constants younger than the uses. */
int fold_check_layer(const struct folding *f, int node, struct err *e);

/* Takes a node out of the graph. */
void fold_drop(struct folding *f, int node);

/* From now on `node` makes the value instead of its own. */
void fold_make(struct folding *f, int node, int value);

/* A line of the report, and the nodes are busy. */
void fold_done(struct folding *f, int node, int into, const char *how);

/* ---- two layers ---- */

/* How two layers make one; axes are height and width. */
struct fold_meeting {
    bool sum; /* else a chain, the second after the first */
    int64_t groups;
    int64_t step[2][2], start[2][2]; /* by layer and axis: taps of the new one from tap to tap, and before the first */
};

/* Puts the merged layer into the node of the first, a; the second, b, is still there. What is kept of the training of
 * both goes on with it. `b` is NULL when what the first is added to is no layer, and never changes. */
int fold_write(struct graph *g, const struct linear *merged, const struct edit_window *window, const struct linear *a,
               const struct linear *b, const struct fold_meeting *how, struct err *e);

/* ---- units ---- */

/* Units, which are channels and not nodes: those that a layer makes and the network can do without. `can` says whether
 * there are any; apply takes them from all groups of the given layers. *n: how many. */
int fold_units_can(struct morphing *m, int node, struct err *e);
int fold_units(int *n, struct morphing *m, const int *nodes, int n_nodes, struct json_writer *w, struct err *e);

#endif
