/* moves.h - operators that only put elements elsewhere: Concat, Slice, Transpose and the like. Each
 * describes its moves once; from that come the values folded at inference, the forward pass, and the
 * backward pass, in which the elements' gradients go back the way they came. */
#ifndef ENGINE_OPS_MOVES_H
#define ENGINE_OPS_MOVES_H

#include "engine/nn/op.h"

/* What a description talks to. */
struct moving {
    const struct inference *i; /* shapes and constants of the node */
    bool fills;                /* to be set when no move reaches some elements of output 0: they get `fill` */
    double fill;
    bool repeats; /* to be set when moves may read an element twice */
    /* private */
    const struct call *call; /* NULL while folding */
    struct move *list;       /* NULL: they are counted only */
    int n;
};

typedef int describe_moves(struct moving *m, struct err *e);

/* Elements from one index to the next, along each dimension of an input or output. */
void moving_in_steps(const struct moving *m, int k, ptrdiff_t *step);
void moving_out_steps(const struct moving *m, int k, ptrdiff_t *step);

/* out[to + steps] = in[from + steps] for all indices of the shape `over`. */
struct path {
    int in, out;
    struct shape over;
    ptrdiff_t from, to;
    ptrdiff_t from_step[SHAPE_MAX_RANK], to_step[SHAPE_MAX_RANK];
};
void moving_add(struct moving *m, const struct path *path);

/* To be called at the end of infer, when the shapes of the outputs are set. */
int moves_fold(struct inference *i, describe_moves *describe, struct err *e);

/* Registers the steps. */
int moves_plan(struct call *c, struct plan *p, describe_moves *describe, struct err *e);

struct moves_state {
    struct move *list;
    struct origin *origins; /* per input */
    int n;
    real fill;
    bool fills;
};

#endif
