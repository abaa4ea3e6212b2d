/* infer.h - shapes of all values of a graph, and what can be computed before any input is seen. */
#ifndef ENGINE_NN_INFER_H
#define ENGINE_NN_INFER_H

#include "base/error.h"
#include "engine/nn/graph.h"
#include "engine/nn/op.h"

struct inferred {
    struct known *values;  /* [graph->n_values]; type and shape always known */
    struct array **folded; /* [n_values]: constants computed on the way, owned */
    int n_values;
    size_t folded_bytes;
    size_t work_left; /* bytes of constants that folding may still read */
    bool mixes;       /* some node lets samples meet although the shapes do not tell */
};

/* Walks the nodes with DIM_BATCH taken as `batch` (>= 1). Errors name the node and its operator. */
int graph_infer(struct inferred **out, const struct graph *g, int64_t batch, struct err *e);
void inferred_free(struct inferred *i);

#endif
