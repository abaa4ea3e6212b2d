/* reduce.c - the operators of reduce.def, over any axes. Where several numbers are the largest, each
 * gets the gradient. */
#include <string.h>

#include "base/memory.h"
#include "engine/ops/common.h"
#include "engine/ops/fold.h"
#include "engine/ops/vectormath.h"
#include "engine/ops/walk.h"

/* log(exp(a) + exp(b)); a may be -infinity */
static inline real log_add(real a, real b) {
    real most = a > b ? a : b, least = a > b ? b : a;
    return most + real_log1p(real_exp(least - most));
}

/* ---- formulas ---- */

enum { COLUMNS = 16 }; /* of a sum, so that it becomes vectors */

struct giving {
    real n;
    bool add;
};

/* collect, at: y, x. Along an axis that stays y moves on; along one that goes, it stands. */
#define REDUCE(name, length, help, keeps, start, term, join, end, slope) \
    static inline real join_##name(real y, real t) { \
        return (real)(join); \
    } \
    static inline real term_##name(real x) { \
        return (real)(term); \
    } \
    VECTORISED static void collect_##name(real *const *at, const ptrdiff_t *step, size_t count, const void *context) { \
        const real *x = at[1]; \
        real *y = at[0], columns[COLUMNS]; \
        size_t i = 0; \
        (void)context; \
        if (step[0] == 1 && step[1] == 1) \
            for (; i < count; i++) y[i] = join_##name(y[i], term_##name(x[i])); \
        if (step[0] == 0 && step[1] == 1 && count >= 2 * COLUMNS) { \
            for (size_t k = 0; k < COLUMNS; k++) columns[k] = (real)(start); \
            for (; i + COLUMNS <= count; i += COLUMNS) \
                for (size_t k = 0; k < COLUMNS; k++) columns[k] = join_##name(columns[k], term_##name(x[i + k])); \
            for (size_t k = 0; k < COLUMNS; k++) *y = join_##name(*y, columns[k]); \
        } \
        for (; i < count; i++) { \
            real *to = &y[(ptrdiff_t)i * step[0]]; \
            *to = join_##name(*to, term_##name(x[(ptrdiff_t)i * step[1]])); \
        } \
    } \
    /* at: dx, dy, x, y */ \
    VECTORISED static void give_##name(real *const *at, const ptrdiff_t *step, size_t count, const void *context) { \
        const struct giving *g = context; \
        const real n = g->n; \
        (void)n; \
        for (ptrdiff_t i = 0; i < (ptrdiff_t)count; i++) { \
            const real x = at[2][i * step[2]], y = at[3][i * step[3]]; \
            (void)x, (void)y; \
            real *dx = &at[0][i * step[0]]; \
            *dx = at[1][i * step[1]] * (real)(slope) + (g->add ? *dx : 0); \
        } \
    } \
    static void finish_##name(real *all, size_t count, real n) { \
        (void)n; \
        for (size_t i = 0; i < count; i++) { \
            const real y = all[i]; \
            all[i] = (real)(end); \
        } \
    }
#include "engine/ops/reduce.def"
#undef REDUCE

static const struct reduction {
    const char *name;
    real start;
    walk_row *collect, *give;
    void (*finish)(real *y, size_t count, real n);
} rows[] = {
#define REDUCE(name, length, help, keeps, start, term, join, end, slope) \
    {#name, (real)start, collect_##name, give_##name, finish_##name},
#include "engine/ops/reduce.def"
#undef REDUCE
};

static const struct reduction *row_of(const struct node *n) {
    const struct reduction *row = rows;
    while (strcmp(row->name, n->op->name) != 0) row++;
    return row;
}

/* ---- shapes ---- */

/* Which axes go away. */
static int reduced_axes(bool *gone, const struct inference *i, struct err *e) {
    int64_t axes[SHAPE_MAX_RANK];
    int n, rank = i->in[0]->shape.rank;
    bool given;
    int status = fold_setting(axes, &n, &given, SHAPE_MAX_RANK, i, "axes", 1, e);
    if (status) return status;
    bool all = n == 0 && !node_int(i->node, "noop_with_empty_axes", 0);
    for (int d = 0; d < rank; d++) gone[d] = all;
    for (int k = 0; k < n; k++) {
        int axis;
        if ((status = axis_check(&axis, axes[k], rank, e))) return status;
        gone[axis] = true;
    }
    return 0;
}

/* The steps of y along the axes of x: those of the result with all axes kept, 0 where they go. */
static void result_steps(ptrdiff_t *step, const struct shape *x, const bool *gone, enum layout layout) {
    struct shape kept = *x;
    for (int d = 0; d < x->rank; d++)
        if (gone[d]) kept.dim[d] = 1;
    walk_steps(step, &kept, layout);
    for (int d = 0; d < x->rank; d++)
        if (gone[d]) step[d] = 0;
}

static size_t numbers_joined(const struct shape *x, const bool *gone) {
    size_t n = 1;
    for (int d = 0; d < x->rank; d++)
        if (gone[d]) n *= (size_t)x->dim[d];
    return n;
}

static void collect(const struct reduction *r, const struct walk *w, const struct part *p, int batch, const real *x,
                    real *y, size_t count, size_t n) {
    for (size_t i = 0; i < count; i++) y[i] = r->start;
    walk_run(w, p, batch, (real *[]){y, (real *)(size_t)x}, r->collect, NULL);
    r->finish(y, count, (real)n);
}

/* In reals: shapes and settings are far from where those stop being exact. */
static int fold(struct inference *i, const bool *gone, struct err *e) {
    const struct array *x = i->in[0]->constant;
    ptrdiff_t step[SHAPE_MAX_RANK];
    struct array *y;
    struct walk w;
    int status = fold_start(&y, i, e);
    if (status) return status;
    real *numbers = mem_calloc(x->count + y->count + 1, sizeof *numbers);
    if (!numbers) return err_memory(e, (x->count + y->count) * sizeof *numbers);
    for (size_t k = 0; k < x->count; k++) numbers[k] = (real)fold_get(x, k);
    walk_start(&w, &x->shape, LAYOUT_PLAIN);
    result_steps(step, &x->shape, gone, LAYOUT_PLAIN);
    walk_add(&w, step);
    walk_add_tensor(&w, &x->shape, LAYOUT_PLAIN);
    walk_close(&w);
    collect(row_of(i->node), &w, NULL, 1, numbers, numbers + x->count, y->count, numbers_joined(&x->shape, gone));
    for (size_t k = 0; k < y->count; k++) fold_put(y, k, (double)numbers[x->count + k]);
    mem_free(numbers);
    return 0;
}

static int reduce_infer(struct inference *i, struct err *e) {
    const struct shape *x = &i->in[0]->shape;
    struct shape *y = &i->out[0].shape;
    bool gone[SHAPE_MAX_RANK] = {false}, keep = node_int(i->node, "keepdims", 1) != 0;
    int status = reduced_axes(gone, i, e);
    if (status) return status;
    y->rank = 0;
    for (int d = 0; d < x->rank; d++)
        if (keep || !gone[d]) y->dim[y->rank++] = gone[d] ? 1 : x->dim[d];
    i->mixes = x->rank > 0 && gone[0];
    return folds(i) ? fold(i, gone, e) : 0;
}

/* ---- steps ---- */

struct reduce_state {
    const struct reduction *reduction;
    struct walk forward, backward;
    size_t n;
};

static void reduce_forward(const struct call *c, const struct part *p) {
    const struct reduce_state *s = c->state;
    collect(s->reduction, &s->forward, p, c->batch, tensor_at(c->in[0], p), tensor_at(c->out[0], p),
            tensor_count(c->out[0], p), s->n);
}

static void reduce_backward(const struct call *c, const struct part *p) {
    const struct reduce_state *s = c->state;
    struct giving giving = {(real)s->n, c->add[0]};
    real *at[] = {tensor_at(c->d_in[0], p), tensor_at(c->d_out[0], p), tensor_at(c->in[0], p), tensor_at(c->out[0], p)};
    walk_run(&s->backward, p, c->batch, at, s->reduction->give, &giving);
}

static int reduce_plan(struct call *c, struct plan *p, struct err *e) {
    struct reduce_state *s = c->state;
    const struct shape *x = &c->in[0]->shape;
    struct known known[2] = {{.shape = *x}, {.shape = {.rank = -1}}};
    const struct known *in[2] = {&known[0], c->n_in > 1 && c->in[1] ? &known[1] : NULL};
    struct inference i = {.node = c->node, .opset = c->graph->opset, .n_in = c->n_in, .in = in};
    bool gone[SHAPE_MAX_RANK] = {false};
    ptrdiff_t step[SHAPE_MAX_RANK];
    if (in[1]) known[1].constant = c->constants[1];
    int status = reduced_axes(gone, &i, e);
    if (status) return status;
    s->reduction = row_of(c->node);
    s->n = numbers_joined(x, gone);
    result_steps(step, x, gone, c->in[0]->layout);
    walk_start(&s->forward, x, c->in[0]->layout);
    walk_add(&s->forward, step);
    walk_add_tensor(&s->forward, x, c->in[0]->layout);
    walk_close(&s->forward);
    walk_start(&s->backward, x, c->in[0]->layout);
    walk_add_tensor(&s->backward, x, c->in[0]->layout);
    walk_add(&s->backward, step);
    walk_add_tensor(&s->backward, x, c->in[0]->layout);
    walk_add(&s->backward, step);
    walk_close(&s->backward);
    status = plan_lanes(p, PHASE_FORWARD, reduce_forward, false, e);
    return status || !c->d_in[0] ? status : plan_lanes(p, PHASE_BACKWARD, reduce_backward, false, e);
}

#define SAMPLES(...) \
    { \
        {"+2x3x4x5 =2,3", "keepdims=0", "pixels"}, {"+2x3x4 =-1", "", "columns"}, \
            {"+2x3x40", "axes=1 opset=11", "in the middle"}, {"+3x4", "", "everything"}, \
            __VA_ARGS__{NULL, NULL, NULL}, \
    }
static const struct op_sample samples_SHORT[] = SAMPLES();
static const struct op_sample samples_LONG[] = SAMPLES({"+2x100", "axes=1 opset=11", "long rows"}, );

#define REDUCE(name_, length, help_, keeps_, start, term, join, end, slope) \
    const struct op op_##name_ = { \
        .name = #name_, \
        .help = help_, \
        .min_inputs = 1, \
        .max_inputs = 2, \
        .min_outputs = 1, \
        .max_outputs = 1, \
        .attributes = "axes keepdims noop_with_empty_axes", \
        .layout = WISH_ANY, \
        .keeps = keeps_, \
        .state_size = sizeof(struct reduce_state), \
        .infer = reduce_infer, \
        .plan = reduce_plan, \
        .samples = samples_##length, \
    };
#include "engine/ops/reduce.def"
#undef REDUCE
