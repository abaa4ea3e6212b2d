/* argmax.c - ArgMax and ArgMin: where along an axis the largest or smallest number is. */
#include "engine/ops/common.h"

struct argmax_state {
    size_t n, inner;
    real sign; /* -1: the smallest */
    bool last; /* of equals */
};

static int argmax_infer(struct inference *i, struct err *e) {
    const struct shape *x = &i->in[0]->shape;
    struct shape *y = &i->out[0].shape;
    int axis, status = axis_check(&axis, node_int(i->node, "axis", 0), x->rank, e);
    if (status) return status;
    if (x->dim[axis] == 0) return err_set(e, E_INVALID, "an axis of size 0 has no largest element");
    bool keep = node_int(i->node, "keepdims", 1) != 0;
    y->rank = 0;
    for (int d = 0; d < x->rank; d++)
        if (keep || d != axis) y->dim[y->rank++] = d == axis ? 1 : x->dim[d];
    i->out[0].type = DT_INT64;
    i->mixes = axis == 0;
    return 0;
}

static void argmax_forward(const struct call *c, const struct part *p) {
    const struct argmax_state *s = c->state;
    const real *x = tensor_at(c->in[0], p);
    real *y = tensor_at(c->out[0], p);
    size_t outer = tensor_count(c->in[0], p) / (s->n * s->inner);
    for (size_t o = 0; o < outer; o++, x += s->n * s->inner)
        for (size_t k = 0; k < s->inner; k++) {
            size_t best = 0;
            for (size_t j = 1; j < s->n; j++) {
                real more = s->sign * (x[j * s->inner + k] - x[best * s->inner + k]);
                if (more > 0 || (s->last && more >= 0)) best = j;
            }
            *y++ = (real)best;
        }
}

static int plan_sign(struct call *c, struct plan *p, real sign, struct err *e) {
    struct argmax_state *s = c->state;
    const struct shape *x = &c->in[0]->shape;
    int axis, status = axis_check(&axis, node_int(c->node, "axis", 0), x->rank, e);
    if (status) return status;
    *s = (struct argmax_state){(size_t)x->dim[axis], shape_span(x, axis + 1, x->rank), sign,
                               node_int(c->node, "select_last_index", 0) != 0};
    return s->inner ? plan_lanes(p, PHASE_FORWARD, argmax_forward, false, e) : 0;
}

static int argmax_plan(struct call *c, struct plan *p, struct err *e) {
    return plan_sign(c, p, 1, e);
}
static int argmin_plan(struct call *c, struct plan *p, struct err *e) {
    return plan_sign(c, p, -1, e);
}

static const struct op_sample samples[] = {
    {"2x3x4", "axis=1", ""}, {"3x5", "axis=-1 keepdims=0", ""}, {NULL, NULL, NULL}};

#define ARG(name_, help_, plan_) \
    const struct op op_##name_ = { \
        .name = #name_, \
        .help = help_, \
        .min_inputs = 1, \
        .max_inputs = 1, \
        .min_outputs = 1, \
        .max_outputs = 1, \
        .attributes = "axis keepdims select_last_index", \
        .layout = WISH_PLAIN, \
        .traits = OP_FLAT, \
        .state_size = sizeof(struct argmax_state), \
        .infer = argmax_infer, \
        .plan = plan_, \
        .samples = samples, \
    };

ARG(ArgMax, "y = index of the largest number along an axis", argmax_plan)
ARG(ArgMin, "y = index of the smallest number along an axis", argmin_plan)
