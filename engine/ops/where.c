/* where.c - Where: y = condition ? a : b, all three broadcast. */
#include <string.h>

#include "engine/ops/common.h"
#include "engine/ops/fold.h"
#include "engine/ops/walk.h"

enum { CONDITION, A, B };

struct where_state {
    struct walk forward, backward[3]; /* operands: y, condition, a, b; d_in, dy, condition */
    struct target target[3];
};

static int fold(struct inference *i, struct err *e) {
    const struct array *in[3] = {i->in[CONDITION]->constant, i->in[A]->constant, i->in[B]->constant};
    struct array *y;
    int status = fold_start(&y, i, e);
    for (size_t k = 0; !status && k < y->count; k++) {
        double condition = fold_get(in[CONDITION], fold_source(&in[CONDITION]->shape, &y->shape, k));
        const struct array *chosen = in[condition < 0 || condition > 0 ? A : B];
        fold_put(y, k, fold_get(chosen, fold_source(&chosen->shape, &y->shape, k)));
    }
    return status;
}

static int where_infer(struct inference *i, struct err *e) {
    i->out[0].type = i->in[A]->type;
    i->out[0].shape = i->in[CONDITION]->shape;
    int status = shape_broadcast(&i->out[0].shape, &i->in[A]->shape, e);
    if (!status) status = shape_broadcast(&i->out[0].shape, &i->in[B]->shape, e);
    return status || !folds(i) ? status : fold(i, e);
}

static void choose(real *const *at, const ptrdiff_t *step, size_t n, const void *context) {
    (void)context;
    for (ptrdiff_t i = 0; i < (ptrdiff_t)n; i++)
        at[0][i * step[0]] = at[1][i * step[1]] != 0 ? at[2][i * step[2]] : at[3][i * step[3]];
}

/* at: d_in, dy, condition */
static void give(real *const *at, const ptrdiff_t *step, size_t n, const void *context) {
    bool wanted = *(const bool *)context;
    for (ptrdiff_t i = 0; i < (ptrdiff_t)n; i++)
        if ((at[2][i * step[2]] != 0) == wanted) at[0][i * step[0]] += at[1][i * step[1]];
}

static void where_forward(const struct call *c, const struct part *p) {
    const struct where_state *s = c->state;
    real *at[] = {tensor_at(c->out[0], p), tensor_at(c->in[CONDITION], p), tensor_at(c->in[A], p),
                  tensor_at(c->in[B], p)};
    walk_run(&s->forward, p, c->batch, at, choose, NULL);
}

static void where_backward(const struct call *c, const struct part *p) {
    const struct where_state *s = c->state;
    for (int k = 0; k < 3; k++) {
        if (!c->d_in[k]) continue;
        bool add, wanted = k == A;
        real *at[] = {target_open(&s->target[k], c, k, p, false, &add), tensor_at(c->d_out[0], p),
                      tensor_at(c->in[CONDITION], p)};
        if (k != CONDITION) walk_run(&s->backward[k], p, c->batch, at, give, &wanted);
    }
}

static void where_finish(const struct call *c, const struct part *p) {
    const struct where_state *s = c->state;
    (void)p;
    for (int k = A; k <= B; k++) target_finish(&s->target[k], c, k);
}

static void add_operand(struct walk *w, const struct tensor *t) {
    walk_add_tensor(w, &t->shape, t->layout);
}

static int where_plan(struct call *c, struct plan *p, struct err *e) {
    struct where_state *s = c->state;
    bool gathers = false, trains = false;
    int status = 0;
    walk_start(&s->forward, &c->out[0]->shape, c->out[0]->layout);
    add_operand(&s->forward, c->out[0]);
    for (int k = 0; k < 3; k++) add_operand(&s->forward, c->in[k]);
    walk_close(&s->forward);
    for (int k = 0; k < 3 && !status; k++) {
        walk_start(&s->backward[k], &c->out[0]->shape, c->out[0]->layout);
        add_operand(&s->backward[k], c->in[k]);
        add_operand(&s->backward[k], c->out[0]);
        add_operand(&s->backward[k], c->in[CONDITION]);
        walk_close(&s->backward[k]);
        status = target_plan(&s->target[k], c, k, p, e);
        gathers |= s->target[k].gathers;
        trains |= c->d_in[k] != NULL;
    }
    if (!status) status = plan_lanes(p, PHASE_FORWARD, where_forward, false, e);
    if (!status && trains) status = plan_lanes(p, PHASE_BACKWARD, where_backward, false, e);
    return status || !gathers ? status : plan_units(p, PHASE_FINISH, where_finish, 1, e);
}

static const struct op_sample samples[] = {
    {"#2:2x3x4 !2x3x4 !2x3x4", "", "the same shape"},
    {"#2:2x3x4 !2x1x4 3x1", "", "spread, and a parameter"},
    {"#2:2x3x4x2 :0.5 !2x3x4x2", "", "a mask"},
    {NULL, NULL, NULL},
};

const struct op op_Where = {
    .name = "Where",
    .help = "y = condition ? a : b",
    .min_inputs = 3,
    .max_inputs = 3,
    .min_outputs = 1,
    .max_outputs = 1,
    .layout = WISH_ANY,
    .keeps = KEEP_INPUT(CONDITION),
    .parameters = 1u << A | 1u << B,
    .state_size = sizeof(struct where_state),
    .infer = where_infer,
    .plan = where_plan,
    .samples = samples,
};
