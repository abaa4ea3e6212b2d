/* lrn.c - LRN, local response normalization (Krizhevsky et al. 2012): y = x / s^beta with
 * s = bias + alpha / size * sum of x^2 over `size` channels around. Channels last. */
#include <string.h>

#include "engine/ops/common.h"

struct lrn_state {
    size_t channels, before, after; /* neighbours on either side */
    real alpha, beta, bias;         /* alpha: per neighbour */
};

static int lrn_infer(struct inference *i, struct err *e) {
    int64_t size = node_int(i->node, "size", 0);
    if (i->in[0]->shape.rank < 2 || size < 1 || size > 1 << 20)
        return err_set(e, E_INVALID, "a size of %lld", (long long)size);
    return infer_same(i, e);
}

static size_t first_neighbour(const struct lrn_state *s, size_t k) {
    return k > s->before ? k - s->before : 0;
}
static size_t last_neighbour(const struct lrn_state *s, size_t k) {
    return k + s->after < s->channels ? k + s->after : s->channels - 1;
}

/* scale[k] = s of channel k */
static void pixel_scales(const struct lrn_state *s, const real *x, real *scale) {
    for (size_t k = 0; k < s->channels; k++) {
        real sum = 0;
        for (size_t j = first_neighbour(s, k); j <= last_neighbour(s, k); j++) sum += x[j] * x[j];
        scale[k] = s->bias + s->alpha * sum;
    }
}

static void lrn_forward(const struct call *c, const struct part *p) {
    const struct lrn_state *s = c->state;
    const real *x = tensor_at(c->in[0], p);
    real *y = tensor_at(c->out[0], p), *scale = p->scratch;
    size_t pixels = tensor_count(c->in[0], p) / s->channels;
    for (size_t i = 0; i < pixels; i++, x += s->channels, y += s->channels) {
        pixel_scales(s, x, scale);
        for (size_t k = 0; k < s->channels; k++) y[k] = x[k] * real_pow(scale[k], -s->beta);
    }
}

/* dx[j] = dy[j] s[j]^-beta - 2 alpha beta x[j] sum of dy[k] x[k] s[k]^(-beta - 1) over those k that j is around */
static void lrn_backward(const struct call *c, const struct part *p) {
    const struct lrn_state *s = c->state;
    const real *x = tensor_at(c->in[0], p), *dy = tensor_at(c->d_out[0], p);
    real *dx = tensor_at(c->d_in[0], p), *scale = p->scratch, *direct = scale + s->channels,
         *made = direct + s->channels;
    size_t pixels = tensor_count(c->in[0], p) / s->channels;
    for (size_t i = 0; i < pixels; i++, x += s->channels, dy += s->channels, dx += s->channels) {
        pixel_scales(s, x, scale);
        for (size_t k = 0; k < s->channels; k++) made[k] = direct[k] = dy[k] * real_pow(scale[k], -s->beta);
        for (size_t k = 0; k < s->channels; k++) {
            real share = 2 * s->alpha * s->beta * direct[k] * x[k] / scale[k];
            for (size_t j = first_neighbour(s, k); j <= last_neighbour(s, k); j++) made[j] -= share * x[j];
        }
        for (size_t k = 0; k < s->channels; k++) dx[k] = made[k] + (c->add[0] ? dx[k] : 0);
    }
}

static int lrn_plan(struct call *c, struct plan *p, struct err *e) {
    struct lrn_state *s = c->state;
    int64_t size = node_int(c->node, "size", 1);
    s->channels = (size_t)c->in[0]->shape.dim[1];
    s->before = (size_t)(size - 1) / 2;
    s->after = (size_t)size / 2;
    s->alpha = (real)(node_real(c->node, "alpha", 1e-4) / (double)size);
    s->beta = (real)node_real(c->node, "beta", 0.75);
    s->bias = (real)node_real(c->node, "bias", 1);
    plan_scratch(p, 3 * s->channels);
    if (s->channels == 0) return 0;
    int status = plan_lanes(p, PHASE_FORWARD, lrn_forward, false, e);
    return status || !c->d_in[0] ? status : plan_lanes(p, PHASE_BACKWARD, lrn_backward, false, e);
}

static const struct op_sample samples[] = {{"2x7x3x2", "size=3 alpha=0.5", "images"},
                                           {"2x6x4", "size=4 alpha=0.9 beta=0.5 bias=2.0", "an even size"},
                                           {NULL, NULL, NULL}};

const struct op op_LRN = {
    .name = "LRN",
    .help = "y = x / (bias + alpha / size * sum of x^2 over near channels)^beta",
    .min_inputs = 1,
    .max_inputs = 1,
    .min_outputs = 1,
    .max_outputs = 1,
    .attributes = "alpha beta bias size",
    .layout = WISH_LAST,
    .keeps = KEEP_INPUT(0),
    .state_size = sizeof(struct lrn_state),
    .infer = lrn_infer,
    .plan = lrn_plan,
    .samples = samples,
};
