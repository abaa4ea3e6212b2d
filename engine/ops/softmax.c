/* softmax.c - Softmax and LogSoftmax along an axis (from opset 13), or over everything from the axis
 * on (before). The largest number is subtracted first, so that nothing overflows. */
#include <string.h>

#include "engine/ops/common.h"
#include "engine/ops/vectormath.h"

struct softmax_state {
    size_t n, inner; /* numbers that add up to 1; distance between them */
};

static int softmax_axis(int *axis, int opset, const struct node *n, int rank, struct err *e) {
    return axis_check(axis, node_int(n, "axis", opset < 13 ? 1 : -1), rank, e);
}

static int softmax_infer(struct inference *i, struct err *e) {
    int axis, status = infer_same(i, e);
    if (!status) status = softmax_axis(&axis, i->opset, i->node, i->in[0]->shape.rank, e);
    if (!status) i->mixes = axis == 0;
    return status;
}

/* ---- one row of contiguous numbers ---- */

VECTORISED static real largest(const real *x, size_t n) {
    real most = x[0], columns[16];
    if (n >= 16) {
        memcpy(columns, x, sizeof columns);
        for (size_t i = 16; i + 16 <= n; i += 16)
            for (size_t k = 0; k < 16; k++) columns[k] = x[i + k] > columns[k] ? x[i + k] : columns[k];
        for (size_t k = 0; k < 16; k++) most = columns[k] > most ? columns[k] : most;
    }
    for (size_t i = n / 16 * 16; i < n; i++) most = x[i] > most ? x[i] : most;
    return most;
}

VECTORISED static void row_exp(const real *x, real *y, real most, size_t n) {
    for (size_t i = 0; i < n; i++) y[i] = vector_exp(x[i] - most);
}

VECTORISED static real row_sum(const real *x, const real *factor, size_t n) {
    real sums[16] = {0}, sum = 0;
    size_t i = 0;
    for (; i + 16 <= n; i += 16)
        for (size_t k = 0; k < 16; k++) sums[k] += x[i + k] * (factor ? factor[i + k] : 1);
    for (; i < n; i++) sum += x[i] * (factor ? factor[i] : 1);
    for (size_t k = 0; k < 16; k++) sum += sums[k];
    return sum;
}

VECTORISED static void row_scale(real *y, real scale, size_t n) {
    for (size_t i = 0; i < n; i++) y[i] *= scale;
}

VECTORISED static void row_shift(const real *x, real *y, real shift, size_t n) {
    for (size_t i = 0; i < n; i++) y[i] = x[i] - shift;
}

static void softmax_row(const real *x, real *y, size_t n) {
    row_exp(x, y, largest(x, n), n);
    row_scale(y, 1 / row_sum(y, NULL, n), n);
}

static void log_softmax_row(const real *x, real *y, size_t n) {
    real most = largest(x, n);
    row_exp(x, y, most, n);
    row_shift(x, y, most + real_log(row_sum(y, NULL, n)), n);
}

/* dx = y (dy - sum of dy y) */
VECTORISED static void softmax_row_back(const real *y, const real *dy, real *dx, size_t n, bool add) {
    real sum = row_sum(dy, y, n);
    for (size_t i = 0; i < n; i++) dx[i] = y[i] * (dy[i] - sum) + (add ? dx[i] : 0);
}

/* dx = dy - exp(y) sum of dy */
VECTORISED static void log_softmax_row_back(const real *y, const real *dy, real *dx, size_t n, bool add) {
    real sum = row_sum(dy, NULL, n);
    for (size_t i = 0; i < n; i++) dx[i] = dy[i] - vector_exp(y[i]) * sum + (add ? dx[i] : 0);
}

/* ---- rows anywhere: those that are not contiguous go through scratch ---- */

typedef void row_forward(const real *x, real *y, size_t n);
typedef void row_backward(const real *y, const real *dy, real *dx, size_t n, bool add);

static void collect(real *to, const real *from, size_t n, size_t step) {
    for (size_t i = 0; i < n; i++) to[i] = from[i * step];
}

static void distribute(real *to, const real *from, size_t n, size_t step, bool add) {
    for (size_t i = 0; i < n; i++) to[i * step] = from[i] + (add ? to[i * step] : 0);
}

static void forward(const struct call *c, const struct part *p, row_forward *row) {
    const struct softmax_state *s = c->state;
    const real *x = tensor_at(c->in[0], p);
    real *y = tensor_at(c->out[0], p);
    size_t count = tensor_count(c->out[0], p);
    for (size_t at = 0; at < count; at += s->n * s->inner)
        for (size_t k = 0; k < s->inner; k++) {
            if (s->inner == 1) {
                row(x + at, y + at, s->n);
                continue;
            }
            collect(p->scratch, x + at + k, s->n, s->inner);
            row(p->scratch, p->scratch + s->n, s->n);
            distribute(y + at + k, p->scratch + s->n, s->n, s->inner, false);
        }
}

static void backward(const struct call *c, const struct part *p, row_backward *row) {
    const struct softmax_state *s = c->state;
    const real *y = tensor_at(c->out[0], p), *dy = tensor_at(c->d_out[0], p);
    real *dx = tensor_at(c->d_in[0], p), *made = p->scratch + 2 * s->n;
    size_t count = tensor_count(c->out[0], p);
    for (size_t at = 0; at < count; at += s->n * s->inner)
        for (size_t k = 0; k < s->inner; k++) {
            if (s->inner == 1) {
                row(y + at, dy + at, dx + at, s->n, c->add[0]);
                continue;
            }
            collect(p->scratch, y + at + k, s->n, s->inner);
            collect(p->scratch + s->n, dy + at + k, s->n, s->inner);
            row(p->scratch, p->scratch + s->n, made, s->n, false);
            distribute(dx + at + k, made, s->n, s->inner, c->add[0]);
        }
}

static void softmax_forward(const struct call *c, const struct part *p) {
    forward(c, p, softmax_row);
}
static void softmax_backward(const struct call *c, const struct part *p) {
    backward(c, p, softmax_row_back);
}
static void log_softmax_forward(const struct call *c, const struct part *p) {
    forward(c, p, log_softmax_row);
}
static void log_softmax_backward(const struct call *c, const struct part *p) {
    backward(c, p, log_softmax_row_back);
}

/* ---- planning ---- */

static int plan_steps(struct call *c, struct plan *p, step_run *run, step_run *back, struct err *e) {
    struct softmax_state *s = c->state;
    const struct shape *x = &c->in[0]->shape;
    int axis, opset = c->graph->opset;
    int status = softmax_axis(&axis, opset, c->node, x->rank, e);
    if (status) return status;
    s->n = opset < 13 ? shape_span(x, axis, x->rank) : (size_t)x->dim[axis];
    s->inner = opset < 13 ? 1 : shape_span(x, axis + 1, x->rank);
    if (s->inner > 1) plan_scratch(p, 3 * s->n);
    if (s->n == 0 || s->inner == 0) return 0;
    status = plan_lanes(p, PHASE_FORWARD, run, false, e);
    return status || !c->d_in[0] ? status : plan_lanes(p, PHASE_BACKWARD, back, false, e);
}

static int softmax_plan(struct call *c, struct plan *p, struct err *e) {
    return plan_steps(c, p, softmax_forward, softmax_backward, e);
}

static int log_softmax_plan(struct call *c, struct plan *p, struct err *e) {
    return plan_steps(c, p, log_softmax_forward, log_softmax_backward, e);
}

static const struct op_sample samples[] = {
    {"3x5", "", "rows"},
    {"2x3x4", "axis=1", "an axis in the middle"},
    {"2x3x4", "axis=1 opset=11", "before opset 13: all that follows"},
    {"2x37", "axis=-1", "long rows"},
    {"2x3", "axis=0", "across samples"},
    {NULL, NULL, NULL},
};

#define SOFTMAX(name_, help_, plan_) \
    const struct op op_##name_ = { \
        .name = #name_, \
        .help = help_, \
        .min_inputs = 1, \
        .max_inputs = 1, \
        .min_outputs = 1, \
        .max_outputs = 1, \
        .attributes = "axis", \
        .layout = WISH_PLAIN, \
        .keeps = KEEP_OUTPUT(0), \
        .state_size = sizeof(struct softmax_state), \
        .infer = softmax_infer, \
        .plan = plan_, \
        .samples = samples, \
    };

SOFTMAX(Softmax, "y = exp(x) / sum of exp(x)", softmax_plan)
SOFTMAX(LogSoftmax, "y = x - log(sum of exp(x))", log_softmax_plan)
