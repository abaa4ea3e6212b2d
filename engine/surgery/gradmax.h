/* gradmax.h - new channels that the loss wants most: GradMax (Evci et al. 2022, arXiv:2201.05125).
 *
 * A new channel reads with zeros, so it is f(0) = 0 and nothing changes, whatever reads it. What reads it is chosen so
 * that the gradient of the zeros is as large as weights of that norm can make it: with A[(j,v)][(i,u)] the sum over samples
 * and pixels of (gradient of output j) times (input i, as taps u and v see it), these are A's first left singular
 * vectors. Needs f(0) = 0 and a slope at 0 that is not 0. */
#ifndef ENGINE_SURGERY_GRADMAX_H
#define ENGINE_SURGERY_GRADMAX_H

#include "engine/surgery/channels.h"
#include "engine/surgery/edit.h"

/* Norm of a new channel's outgoing weights, in units of the mean norm of the old ones'. */
#define GRADMAX_SCALE 0.5

/* Whether a layer can get that many new channels so; E_UNSUPPORTED says what stands in the way. */
int gradmax_can(struct morphing *m, int node, int64_t fresh, struct err *e);

/* The outgoing weights: rows [fresh][out][kernel height][kernel width] of the reading layer `reader`. */
struct gradmax {
    int reader; /* node */
    int64_t fresh, out, taps;
    double *rows;   /* owned */
    double largest; /* singular value of the first, and */
    double least;   /* of the last */
};
/* E_UNSUPPORTED when the data has too few directions. Free with gradmax_fini; after a failure there is nothing to free. */
int gradmax_solve(struct gradmax *out, struct morphing *m, int node, int64_t fresh, struct err *e);
void gradmax_fini(struct gradmax *x);

/* Puts the rows into the weights of the wider graph, in which the layer's channels from `old` on are the new ones. */
void gradmax_write(struct graph *wider, const struct graph *g, const struct gradmax *x, int64_t old);

#endif
