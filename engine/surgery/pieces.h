/* pieces.h - several convolutions in the place of one: what the depth morph, subnets and modules have in common.
 *
 * The filters come from factor.h and module.h. Here they become nodes: an edge of a module is a convolution (or a dense
 * layer), edges that meet are added, and behind every vertex but source and sink stands a P-activation, (1 - a) f(x) +
 * a x at a = 1: a PRelu of slope 1 where the layer is followed by a Relu, a leaky one or by nothing, and otherwise
 * x + b (f(x) - x) with b = 1 - a = 0 per channel. None of them has a bias but the sink, which has the layer's: zeros
 * that pad a map with a bias are wrong at the border. */
#ifndef ENGINE_SURGERY_PIECES_H
#define ENGINE_SURGERY_PIECES_H

#include "engine/surgery/edit.h"
#include "engine/surgery/factor.h"
#include "engine/surgery/module.h"

enum { PIECES_PART = 2 * MORPH_WORD_SIZE + 16 };

struct pieces {
    struct graph *graph;
    int node; /* the layer, which becomes one of the edges; -1: the place is a shortcut */
    char stem[GRAPH_MAX_NAME + 1];
    int source, sink;           /* values; the sink's producer may only be the layer */
    int axes;                   /* spatial ones */
    bool product;               /* MatMul instead of Gemm */
    bool transposed;            /* dense weights are [out, in] */
    int bias;                   /* value, added in the sink; VALUE_NONE */
    int group;                  /* parts of a grouped convolution */
    int kernel[2];              /* of the layer */
    int like;                   /* the node whose activation is used inside; -1: a PRelu */
    char (*parts)[PIECES_PART]; /* names of the module's edges and, after them, of its vertices */
};

/* What stands in the way of putting pieces in the place of a layer, which was found with edit_own_layer. */
int pieces_check(const struct graph *g, const struct edit_layer *l, struct err *e);

void pieces_of_layer(struct pieces *p, struct graph *g, const struct edit_layer *l, int activation);

/* The weights of one group of a layer. */
int pieces_filter(struct filter *out, const struct graph *g, const struct edit_layer *l, int group, struct err *e);

struct filter_window pieces_window(const struct edit_window *w);

/* Adds the nodes. The channels of the module, and the filters [group], are those of one group. Weights that are all
 * float32 numbers are stored as such, others as float64. */
int pieces_put(const struct pieces *p, const struct module *m, const struct module_filters *filters,
               const struct filter_window *windows, struct err *e);

/* A P-activation at the identity, from value to value. */
int pieces_activation(struct graph *g, const char *stem, const char *part, int from, int to, int64_t channels, int axes,
                      int like, struct err *e);

/* ---- the depth morph ---- */

struct split {
    int64_t inner;     /* channels between, of all groups */
    int64_t second[2]; /* taps of the second layer; the first keeps its own */
    const char *part;  /* of the new layer's name */
    int64_t chain;     /* splits that follow one another: what one multiplies, the next multiplies again; 0: one */
    bool sketch;       /* see struct morphing */
    size_t memory;     /* likewise */
};

/* Whether a split is always possible. */
int pieces_can_split(const struct edit_layer *l, const struct split *s, struct err *e);

/* What both layers weigh. */
double pieces_weights(const struct edit_layer *l, const struct split *s);

/* The layer as two, itself the first, with a P-activation in between. *second: the new node. Adds the members "layer",
 * "way", "residual", "gain", "rank", "equations", "unknowns", "sweeps" to an object of its own. */
int pieces_split(int *second, struct graph *g, const struct edit_layer *l, const struct split *s, int activation,
                 struct random *r, struct json_writer *w, struct err *e);

#endif
