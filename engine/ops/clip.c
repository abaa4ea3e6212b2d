/* clip.c - Clip: bounds are attributes before opset 11, inputs from then on. */
#include <float.h>

#include "engine/ops/fold.h"
#include "engine/ops/unary.h"

/* Bounds the wrong way round give the upper one, as in numpy. */
UNARY_LOOPS(clip, (x < alpha ? alpha : x) > beta ? beta : (x < alpha ? alpha : x), x >= alpha && x <= beta ? 1 : 0)

#define WIDEST ((double)_Generic((real)0, float : FLT_MAX, double : DBL_MAX))

static int clip_infer(struct inference *i, struct err *e) {
    double bound[2] = {node_real(i->node, "min", -WIDEST), node_real(i->node, "max", WIDEST)};
    for (int k = 1; k < i->n_in; k++) {
        if (!i->in[k]) continue;
        const struct array *a = i->in[k]->constant;
        if (!a) return err_set(e, E_UNSUPPORTED, "a bound depends on data; retort takes it from constants only");
        if (a->count != 1) return err_set(e, E_INVALID, "a bound of %zu elements; it must be one number", a->count);
        bound[k - 1] = fold_get(a, 0);
    }
    struct unary_state s = {&loops_clip, (real)bound[0], (real)bound[1]};
    return unary_infer(i, &s, e);
}

static real bound_of(const struct call *c, int k, const char *attribute, double standard) {
    if (k < c->n_in && c->in[k]) return c->in[k]->base[0];
    return (real)node_real(c->node, attribute, standard);
}

static int clip_plan(struct call *c, struct plan *p, struct err *e) {
    *(struct unary_state *)c->state =
        (struct unary_state){&loops_clip, bound_of(c, 1, "min", -WIDEST), bound_of(c, 2, "max", WIDEST)};
    return unary_plan(c, p, e);
}

static const struct op_sample samples[] = {
    {"2x3x4 :-0.5 :0.7", "", "bounds as inputs"},
    {"2x3x4", "", "no bounds"},
    {"2x3x4 _ :0.3", "", "above only"},
    {NULL, NULL, NULL},
};

const struct op op_Clip = {
    .name = "Clip",
    .help = "y = max(min, min(max, x))",
    .min_inputs = 1,
    .max_inputs = 3,
    .min_outputs = 1,
    .max_outputs = 1,
    .attributes = "min max",
    .layout = WISH_ANY,
    .keeps = KEEP_INPUT(0),
    .state_size = sizeof(struct unary_state),
    .infer = clip_infer,
    .plan = clip_plan,
    .samples = samples,
};
