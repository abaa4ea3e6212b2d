/* walk.h - nested loops over the elements of several operands, each with steps of its own: what
 * broadcasting, transposing and cutting have in common. Adjacent axes become one where the steps
 * allow, so that the innermost loop, which the operator provides, is as long as possible. */
#ifndef ENGINE_OPS_WALK_H
#define ENGINE_OPS_WALK_H

#include "engine/nn/op.h"

#define WALK_OPERANDS 4

struct walk {
    int rank, operands;
    size_t size[SHAPE_MAX_RANK];                   /* outermost first */
    ptrdiff_t step[SHAPE_MAX_RANK][WALK_OPERANDS]; /* elements from one index to the next */
    int axis[SHAPE_MAX_RANK];                      /* dimension in ONNX order, until walk_close */
};

/* n elements: operand k is at[k], at[k] + step[k], ... */
typedef void walk_row(real *const *at, const ptrdiff_t *step, size_t n, const void *context);

/* Steps in memory along each dimension (ONNX order) of a tensor of that shape and layout. */
void walk_steps(ptrdiff_t *step, const struct shape *s, enum layout layout);

/* Loops over `shape`, in the order of `layout`. */
void walk_start(struct walk *w, const struct shape *shape, enum layout layout);
/* Adds an operand with a step per dimension of the shape. */
void walk_add(struct walk *w, const ptrdiff_t *step);
/* Adds a tensor that is broadcast over the shape. */
void walk_add_tensor(struct walk *w, const struct shape *s, enum layout layout);
/* Merges axes. Dimension 0 stays outermost: of it, a part of the batch does its share. */
void walk_close(struct walk *w);

/* Calls `row` for all elements of the part (all of them when p is NULL). at[k]: where operand k starts. */
void walk_run(const struct walk *w, const struct part *p, int batch, real *const *at, walk_row *row,
              const void *context);

#endif
