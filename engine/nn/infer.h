/* infer.h - shapes of all values of a graph, and what can be computed before any input is seen. */
#ifndef ENGINE_NN_INFER_H
#define ENGINE_NN_INFER_H

#include "base/error.h"
#include "engine/nn/graph.h"
#include "engine/nn/op.h"

struct inferred {
    struct known *values;  /* [graph->n_values]; type and shape always known, but see graph_infer_partly */
    struct array **folded; /* [n_values]: constants computed on the way, owned */
    int n_values;
    size_t folded_bytes;
    size_t work_left; /* bytes of constants that folding may still read */
    bool mixes;       /* some node lets samples meet although the shapes do not tell */
};

/* Walks the nodes with DIM_BATCH taken as `batch` (>= 1). Errors name the node and its operator, or a free axis. */
int graph_infer(struct inferred **out, const struct graph *g, int64_t batch, struct err *e);

/* The same for a graph that may have free axes: what depends on them stays unknown, rank -1. */
int graph_infer_partly(struct inferred **out, const struct graph *g, int64_t batch, struct err *e);
void inferred_free(struct inferred *i);

#endif
