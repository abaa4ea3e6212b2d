/* relu.c - Relu: y = max(0, x). Mostly merged into the node before it. */
#include "engine/kernels/loops.h"
#include "engine/nn/op.h"

static int relu_infer(struct inference *i, struct err *e) {
    (void)e;
    i->out[0].shape = i->in[0]->shape;
    return 0;
}

VECTORISED static void forward_loop(const real *x, real *y, size_t n) {
    for (size_t i = 0; i < n; i++) y[i] = x[i] > 0 ? x[i] : 0;
}

VECTORISED static void backward_loop(const real *y, const real *dy, real *dx, size_t n, bool add) {
    for (size_t i = 0; i < n; i++) dx[i] = (y[i] > 0 ? dy[i] : 0) + (add ? dx[i] : 0);
}

static void relu_forward(const struct call *c, const struct part *p) {
    forward_loop(tensor_at(c->in[0], p), tensor_at(c->out[0], p), tensor_count(c->out[0], p));
}

static void relu_backward(const struct call *c, const struct part *p) {
    backward_loop(tensor_at(c->out[0], p), tensor_at(c->d_out[0], p), tensor_at(c->d_in[0], p),
                  tensor_count(c->out[0], p), c->add[0]);
}

static int relu_plan(struct call *c, struct plan *p, struct err *e) {
    int status = plan_lanes(p, PHASE_FORWARD, relu_forward, false, e);
    return status || !c->d_in[0] ? status : plan_lanes(p, PHASE_BACKWARD, relu_backward, false, e);
}

static const struct op_sample relu_samples[] = {{"2x3x4", "", ""}, {NULL, NULL, NULL}};

const struct op op_Relu = {
    .name = "Relu",
    .help = "y = max(0, x)",
    .min_inputs = 1,
    .max_inputs = 1,
    .min_outputs = 1,
    .max_outputs = 1,
    .layout = WISH_ANY,
    .keeps = KEEP_OUTPUT(0),
    .infer = relu_infer,
    .plan = relu_plan,
    .samples = relu_samples,
};
