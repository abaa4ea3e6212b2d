/* common.h - what many operators need: shapes that stay, axes, and where a gradient goes. */
#ifndef ENGINE_OPS_COMMON_H
#define ENGINE_OPS_COMMON_H

#include "engine/nn/op.h"

/* out[0] is like in[0]. */
int infer_same(struct inference *i, struct err *e);

/* An axis of a value of that rank, negative ones counted from the end. */
int axis_check(int *out, int64_t axis, int rank, struct err *e);

/* Product of dimensions [from, to). */
size_t shape_span(const struct shape *s, int from, int to);

/* Broadcasts b into *out as numpy does; E_INVALID shows both. */
int shape_broadcast(struct shape *out, const struct shape *b, struct err *e);

/* Zeroed memory for tables, as long-lived as the network. */
int plan_table(void **out, struct plan *p, size_t bytes, struct err *e);

/* Input k of the node is there. */
static inline bool has_input(const struct inference *i, int k) {
    return k < i->n_in && i->in[k];
}

/* Indices along dimension 0 in this part. */
static inline size_t tensor_rows(const struct tensor *t, const struct part *p) {
    if (t->shape.rank == 0) return 1;
    size_t rows = (size_t)t->shape.dim[0];
    return t->per_sample ? rows * (size_t)p->count / t->samples : rows;
}

/* At planning, what has its address already is a parameter or another constant. */
static inline bool is_constant(const struct call *c, int k) {
    return c->in[k]->base != NULL;
}

/* Elements of a lane of the tensor. */
static inline size_t lane_room(const struct call *c, const struct tensor *t) {
    return t->per_sample ? t->row * (size_t)c->lane_size : t->row;
}

/* The gradient by one input of a call. Lanes may write an activation's gradient where it stands;
 * that of a parameter, which all lanes share, is gathered and summed at the end. */
struct target {
    struct gathering gathering; /* of a parameter */
    bool gathers;
};

/* For input k; nothing to do when nobody wants its gradient. */
int target_plan(struct target *t, const struct call *c, int k, struct plan *p, struct err *e);

/* Where to write in this part. `*add` says whether to add; a step that does not write every element
 * exactly once passes whole = false and always adds (to zeros at first). */
real *target_open(const struct target *t, const struct call *c, int k, const struct part *p, bool whole, bool *add);

/* In PHASE_FINISH. */
void target_finish(const struct target *t, const struct call *c, int k);

#endif
