/* trilu.c - Trilu: the upper or lower triangle of matrices; the rest is 0. Makes masks of attention. */
#include "engine/ops/common.h"
#include "engine/ops/fold.h"

struct trilu_state {
    size_t rows, columns;
    int64_t k; /* the diagonal that belongs to the triangle still */
    bool upper;
};

static struct trilu_state state_of(const struct node *n, const struct shape *s, const struct array *k) {
    return (struct trilu_state){(size_t)s->dim[s->rank - 2], (size_t)s->dim[s->rank - 1], k ? array_int(k, 0) : 0,
                                node_int(n, "upper", 1) != 0};
}

static bool stays(const struct trilu_state *s, size_t at) {
    int64_t row = (int64_t)(at / s->columns % s->rows), column = (int64_t)(at % s->columns);
    return s->upper ? column - row >= s->k : column - row <= s->k;
}

static int trilu_infer(struct inference *i, struct err *e) {
    const struct shape *x = &i->in[0]->shape;
    const struct array *k = has_input(i, 1) ? i->in[1]->constant : NULL;
    struct array *y;
    if (x->rank < 2) return err_set(e, E_INVALID, "data of rank %d is no matrix", x->rank);
    if (has_input(i, 1) && (!k || k->count != 1))
        return err_set(e, E_UNSUPPORTED, "the diagonal is not one number known beforehand");
    i->mixes = x->rank == 2;
    int status = infer_same(i, e);
    if (status || !folds(i)) return status;
    struct trilu_state s = state_of(i->node, x, k);
    status = fold_copy(i, e);
    if (status) return status;
    y = i->folded[0];
    for (size_t at = 0; at < y->count; at++)
        if (!stays(&s, at)) fold_put(y, at, 0);
    return 0;
}

static void trilu_forward(const struct call *c, const struct part *p) {
    const real *x = tensor_at(c->in[0], p);
    real *y = tensor_at(c->out[0], p);
    for (size_t at = 0, n = tensor_count(c->out[0], p); at < n; at++) y[at] = stays(c->state, at) ? x[at] : 0;
}

static void trilu_backward(const struct call *c, const struct part *p) {
    const real *dy = tensor_at(c->d_out[0], p);
    real *dx = tensor_at(c->d_in[0], p);
    for (size_t at = 0, n = tensor_count(c->d_in[0], p); at < n; at++)
        dx[at] = (stays(c->state, at) ? dy[at] : 0) + (c->add[0] ? dx[at] : 0);
}

static int trilu_plan(struct call *c, struct plan *p, struct err *e) {
    *(struct trilu_state *)c->state = state_of(c->node, &c->in[0]->shape, c->n_in > 1 ? c->constants[1] : NULL);
    int status = plan_lanes(p, PHASE_FORWARD, trilu_forward, false, e);
    return status || !c->d_in[0] ? status : plan_lanes(p, PHASE_BACKWARD, trilu_backward, false, e);
}

static const struct op_sample samples[] = {{"2x3x4", "", "upper"},
                                           {"2x4x3 =-1", "upper=0", "lower, below the diagonal"},
                                           {"3x4", "", "a matrix"},
                                           {NULL, NULL, NULL}};

const struct op op_Trilu = {
    .name = "Trilu",
    .help = "y = a triangle of x",
    .min_inputs = 1,
    .max_inputs = 2,
    .min_outputs = 1,
    .max_outputs = 1,
    .attributes = "upper",
    .layout = WISH_PLAIN,
    .state_size = sizeof(struct trilu_state),
    .infer = trilu_infer,
    .plan = trilu_plan,
    .samples = samples,
};
