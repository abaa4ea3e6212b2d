/* globalpool.c - GlobalAveragePool, GlobalMaxPool and GlobalLpPool: one number per channel, whatever
 * the rank. Channels last: every loop runs along the channels. */
#include <string.h>

#include "engine/ops/common.h"

struct global_state {
    const struct pooling *pooling;
    size_t channels, pixels;
    int p; /* of the p-norm */
};

/* One sample: x[pixels][channels] to y[channels], and back. */
struct pooling {
    void (*forward)(const struct global_state *s, const real *x, real *y);
    void (*backward)(const struct global_state *s, const real *x, const real *y, const real *dy, real *dx, bool add);
};

/* ---- mean ---- */

VECTORISED static void mean_forward(const struct global_state *s, const real *x, real *y) {
    real share = 1 / (real)s->pixels;
    memset(y, 0, s->channels * sizeof(real));
    for (size_t i = 0; i < s->pixels; i++, x += s->channels)
        for (size_t k = 0; k < s->channels; k++) y[k] += x[k];
    for (size_t k = 0; k < s->channels; k++) y[k] *= share;
}

VECTORISED static void mean_backward(const struct global_state *s, const real *x, const real *y, const real *dy,
                                     real *dx, bool add) {
    real share = 1 / (real)s->pixels;
    (void)x, (void)y;
    for (size_t i = 0; i < s->pixels; i++, dx += s->channels)
        for (size_t k = 0; k < s->channels; k++) dx[k] = dy[k] * share + (add ? dx[k] : 0);
}

/* ---- maximum; where several are equal, each gets the gradient ---- */

VECTORISED static void max_forward(const struct global_state *s, const real *x, real *y) {
    memcpy(y, x, s->channels * sizeof(real));
    for (size_t i = 1; i < s->pixels; i++)
        for (size_t k = 0; k < s->channels; k++) {
            real here = x[i * s->channels + k];
            y[k] = here > y[k] ? here : y[k];
        }
}

VECTORISED static void max_backward(const struct global_state *s, const real *x, const real *y, const real *dy,
                                    real *dx, bool add) {
    for (size_t i = 0; i < s->pixels; i++, dx += s->channels, x += s->channels)
        for (size_t k = 0; k < s->channels; k++) dx[k] = (x[k] == y[k] ? dy[k] : 0) + (add ? dx[k] : 0);
}

/* ---- p-norm ---- */

static void norm_forward(const struct global_state *s, const real *x, real *y) {
    memset(y, 0, s->channels * sizeof(real));
    for (size_t i = 0; i < s->pixels; i++, x += s->channels)
        for (size_t k = 0; k < s->channels; k++) y[k] += real_pow(real_abs(x[k]), (real)s->p);
    for (size_t k = 0; k < s->channels; k++) y[k] = real_pow(y[k], 1 / (real)s->p);
}

/* dy/dx = sign(x) (|x| / y)^(p - 1) */
static void norm_backward(const struct global_state *s, const real *x, const real *y, const real *dy, real *dx,
                          bool add) {
    for (size_t i = 0; i < s->pixels; i++, dx += s->channels, x += s->channels)
        for (size_t k = 0; k < s->channels; k++) {
            real slope = y[k] > 0 ? real_pow(real_abs(x[k]) / y[k], (real)(s->p - 1)) : 0;
            dx[k] = (x[k] < 0 ? -slope : slope) * dy[k] + (add ? dx[k] : 0);
        }
}

/* ---- steps ---- */

static void global_forward(const struct call *c, const struct part *p) {
    const struct global_state *s = c->state;
    const real *x = tensor_at(c->in[0], p);
    real *y = tensor_at(c->out[0], p);
    size_t samples = tensor_rows(c->in[0], p);
    for (size_t n = 0; n < samples; n++) s->pooling->forward(s, x + n * s->pixels * s->channels, y + n * s->channels);
}

static void global_backward(const struct call *c, const struct part *p) {
    const struct global_state *s = c->state;
    const real *x = tensor_at(c->in[0], p), *y = tensor_at(c->out[0], p), *dy = tensor_at(c->d_out[0], p);
    real *dx = tensor_at(c->d_in[0], p);
    size_t samples = tensor_rows(c->in[0], p), each = s->pixels * s->channels;
    for (size_t n = 0; n < samples; n++)
        s->pooling->backward(s, x + n * each, y + n * s->channels, dy + n * s->channels, dx + n * each, c->add[0]);
}

static int global_infer(struct inference *i, struct err *e) {
    struct shape *y = &i->out[0].shape;
    *y = i->in[0]->shape;
    if (y->rank < 3) return err_set(e, E_INVALID, "data of rank %d has no spatial axis", y->rank);
    if (shape_span(y, 2, y->rank) == 0) return err_set(e, E_INVALID, "the data has no pixels");
    for (int d = 2; d < y->rank; d++) y->dim[d] = 1;
    return 0;
}

static int plan_pooling(struct call *c, struct plan *p, const struct pooling *pooling, struct err *e) {
    struct global_state *s = c->state;
    s->pooling = pooling;
    s->p = (int)node_int(c->node, "p", 2);
    s->channels = (size_t)c->in[0]->shape.dim[1];
    s->pixels = shape_span(&c->in[0]->shape, 2, c->in[0]->shape.rank);
    int status = plan_lanes(p, PHASE_FORWARD, global_forward, false, e);
    return status || !c->d_in[0] ? status : plan_lanes(p, PHASE_BACKWARD, global_backward, false, e);
}

static const struct op_sample samples[] = {{"2x3x4x5", "", "images"}, {"2x3x7", "", "signals"}, {NULL, NULL, NULL}};

#define GLOBAL(name_, help_, attributes_, keeps_, forward_, backward_) \
    static int plan_##name_(struct call *c, struct plan *p, struct err *e) { \
        static const struct pooling pooling = {forward_, backward_}; \
        return plan_pooling(c, p, &pooling, e); \
    } \
    const struct op op_##name_ = { \
        .name = #name_, \
        .help = help_, \
        .min_inputs = 1, \
        .max_inputs = 1, \
        .min_outputs = 1, \
        .max_outputs = 1, \
        .attributes = attributes_, \
        .layout = WISH_LAST, \
        .keeps = keeps_, \
        .state_size = sizeof(struct global_state), \
        .infer = global_infer, \
        .plan = plan_##name_, \
        .samples = samples, \
    };

GLOBAL(GlobalAveragePool, "y = mean per channel", NULL, 0, mean_forward, mean_backward)
GLOBAL(GlobalMaxPool, "y = maximum per channel", NULL, KEEP_INPUT(0) | KEEP_OUTPUT(0), max_forward, max_backward)
GLOBAL(GlobalLpPool, "y = (sum |x|^p)^(1/p) per channel", "p", KEEP_INPUT(0) | KEEP_OUTPUT(0), norm_forward,
       norm_backward)
