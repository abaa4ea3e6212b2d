/* variadic.c - Max, Mean, Min, Sum of any number of values, broadcast. Of equals each gets the gradient. */
#include <string.h>

#include "engine/kernels/loops.h"
#include "engine/ops/common.h"
#include "engine/ops/fold.h"
#include "engine/ops/walk.h"

struct operand {
    struct walk forward, backward; /* y, x; dx, dy, x, y */
    struct target target;
    bool spread;
};

struct variadic_state {
    const struct joining *joining;
    struct operand *operands;
};

/* One more value joins the others, as the first or a later one; what of dy it gets. */
struct joining {
    const char *name;
    walk_row *join, *give;
    bool mean;
};

struct giving {
    real share;
    bool add;
};

#define JOIN(name, formula, slope) \
    VECTORISED static void join_##name(real *const *at, const ptrdiff_t *step, size_t n, const void *context) { \
        bool first = *(const bool *)context; \
        for (ptrdiff_t i = 0; i < (ptrdiff_t)n; i++) { \
            const real x = at[1][i * step[1]], y = at[0][i * step[0]]; \
            at[0][i * step[0]] = first ? x : (formula); \
        } \
    } \
    VECTORISED static void give_##name(real *const *at, const ptrdiff_t *step, size_t n, const void *context) { \
        const struct giving *g = context; \
        for (ptrdiff_t i = 0; i < (ptrdiff_t)n; i++) { \
            const real x = at[2][i * step[2]], y = at[3][i * step[3]]; \
            (void)x, (void)y; \
            real *dx = &at[0][i * step[0]]; \
            *dx = (slope)*at[1][i * step[1]] * g->share + (g->add ? *dx : 0); \
        } \
    }

JOIN(sum, x + y, 1)
JOIN(max, x > y ? x : y, x == y ? 1 : 0)
JOIN(min, x < y ? x : y, x == y ? 1 : 0)

static const struct joining rows[] = {
    {"Max", join_max, give_max, false},
    {"Mean", join_sum, give_sum, true},
    {"Min", join_min, give_min, false},
    {"Sum", join_sum, give_sum, false},
};

static const struct joining *row_of(const struct node *n) {
    const struct joining *row = rows;
    while (strcmp(row->name, n->op->name) != 0) row++;
    return row;
}

/* ---- inference ---- */

static int fold(struct inference *i, struct err *e) {
    const struct joining *row = row_of(i->node);
    struct array *y;
    int status = fold_start(&y, i, e);
    for (size_t k = 0; !status && k < y->count; k++) {
        real result = 0;
        for (int j = 0; j < i->n_in; j++) {
            const struct array *a = i->in[j]->constant;
            real value = (real)fold_get(a, fold_source(&a->shape, &y->shape, k));
            row->join((real *[]){&result, &value}, (ptrdiff_t[]){1, 1}, 1, &(bool){j == 0});
        }
        fold_put(y, k, (double)result / (row->mean ? i->n_in : 1));
    }
    return status;
}

static int variadic_infer(struct inference *i, struct err *e) {
    i->out[0].shape = i->in[0]->shape;
    for (int k = 1; k < i->n_in; k++) {
        if (!i->in[k]) return err_set(e, E_INVALID, "input %d is left out", k);
        int status = shape_broadcast(&i->out[0].shape, &i->in[k]->shape, e);
        if (status) return status;
    }
    return folds(i) ? fold(i, e) : 0;
}

/* ---- steps ---- */

static real share_of(const struct call *c, const struct variadic_state *s) {
    return s->joining->mean ? 1 / (real)c->n_in : 1;
}

static void variadic_forward(const struct call *c, const struct part *p) {
    const struct variadic_state *s = c->state;
    real *y = tensor_at(c->out[0], p);
    for (int k = 0; k < c->n_in; k++)
        walk_run(&s->operands[k].forward, p, c->batch, (real *[]){y, tensor_at(c->in[k], p)}, s->joining->join,
                 &(bool){k == 0});
    size_t n = s->joining->mean ? tensor_count(c->out[0], p) : 0;
    for (size_t i = 0; i < n; i++) y[i] *= share_of(c, s);
}

static void variadic_backward(const struct call *c, const struct part *p) {
    const struct variadic_state *s = c->state;
    struct giving giving = {.share = share_of(c, s)};
    for (int k = 0; k < c->n_in; k++) {
        const struct operand *o = &s->operands[k];
        if (!c->d_in[k]) continue;
        real *dx = target_open(&o->target, c, k, p, !o->spread, &giving.add);
        real *at[] = {dx, tensor_at(c->d_out[0], p), tensor_at(c->in[k], p), tensor_at(c->out[0], p)};
        walk_run(&o->backward, p, c->batch, at, s->joining->give, &giving);
    }
}

static void variadic_finish(const struct call *c, const struct part *p) {
    const struct variadic_state *s = c->state;
    (void)p;
    for (int k = 0; k < c->n_in; k++) target_finish(&s->operands[k].target, c, k);
}

static void plan_walks(struct operand *o, const struct tensor *x, const struct tensor *y) {
    const struct tensor *forward[] = {y, x}, *backward[] = {x, y, x, y};
    walk_start(&o->forward, &y->shape, y->layout);
    for (int k = 0; k < 2; k++) walk_add_tensor(&o->forward, &forward[k]->shape, forward[k]->layout);
    walk_close(&o->forward);
    walk_start(&o->backward, &y->shape, y->layout);
    for (int k = 0; k < 4; k++) walk_add_tensor(&o->backward, &backward[k]->shape, backward[k]->layout);
    walk_close(&o->backward);
    o->spread = shape_span(&x->shape, 0, x->shape.rank) != shape_span(&y->shape, 0, y->shape.rank);
}

static int variadic_plan(struct call *c, struct plan *p, struct err *e) {
    struct variadic_state *s = c->state;
    bool gathers = false, trains = false;
    s->joining = row_of(c->node);
    int status = plan_table((void **)&s->operands, p, (size_t)c->n_in * sizeof *s->operands, e);
    for (int k = 0; k < c->n_in && !status; k++) {
        plan_walks(&s->operands[k], c->in[k], c->out[0]);
        status = target_plan(&s->operands[k].target, c, k, p, e);
        gathers |= s->operands[k].target.gathers;
        trains |= c->d_in[k] != NULL;
    }
    if (!status) status = plan_lanes(p, PHASE_FORWARD, variadic_forward, false, e);
    if (!status && trains) status = plan_lanes(p, PHASE_BACKWARD, variadic_backward, false, e);
    return status || !gathers ? status : plan_units(p, PHASE_FINISH, variadic_finish, 1, e);
}

static const struct op_sample samples[] = {
    {"2x3x4 2x3x4 2x3x4", "", "three"},
    {"2x3x4 2x1x4 *3x1 2x3x4", "", "some spread, one a parameter"},
    {"2x3", "", "one"},
    {NULL, NULL, NULL},
};

#define VARIADIC(name_, help_, keeps_) \
    const struct op op_##name_ = { \
        .name = #name_, \
        .help = help_, \
        .min_inputs = 1, \
        .max_inputs = NODE_MAX_INPUTS, \
        .min_outputs = 1, \
        .max_outputs = 1, \
        .layout = WISH_ANY, \
        .keeps = keeps_, \
        .parameters = ~0u, \
        .state_size = sizeof(struct variadic_state), \
        .infer = variadic_infer, \
        .plan = variadic_plan, \
        .samples = samples, \
    };

VARIADIC(Max, "y = largest of the inputs", 0xff | KEEP_OUTPUT(0))
VARIADIC(Mean, "y = mean of the inputs", 0)
VARIADIC(Min, "y = smallest of the inputs", 0xff | KEEP_OUTPUT(0))
VARIADIC(Sum, "y = sum of the inputs", 0)
