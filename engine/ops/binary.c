/* binary.c - the operators of binary.def: two values, broadcast as numpy does. The gradient of a value
 * that was spread is summed over where it went. */
#include <string.h>

#include "engine/kernels/loops.h"
#include "engine/ops/common.h"
#include "engine/ops/fold.h"
#include "engine/ops/walk.h"

/* ---- loops ---- */

#define power(a, b) ((b) == 2 ? (a) * (a) : _Generic((a), float : powf, double : pow)(a, b))

#define INLINE static inline __attribute__((always_inline))

/* The same loop with steps that the compiler knows: along both, one of them spread, or any. */
#define BY_STEPS(loop, sa, sb, ...) \
    if (sa == 1 && sb == 1) \
        loop(__VA_ARGS__, 1, 1); \
    else if (sa == 1 && sb == 0) \
        loop(__VA_ARGS__, 1, 0); \
    else if (sa == 0 && sb == 1) \
        loop(__VA_ARGS__, 0, 1); \
    else \
        loop(__VA_ARGS__, sa, sb)

enum { COLUMNS = 16 }; /* of a sum, so that it becomes vectors */

/* y = formula */
#define FORWARD(name, formula) \
    INLINE void apply_##name(real *y, const real *pa, const real *pb, size_t n, ptrdiff_t sa, ptrdiff_t sb) { \
        for (size_t i = 0; i < n; i++) { \
            const real a = pa[(ptrdiff_t)i * sa], b = pb[(ptrdiff_t)i * sb]; \
            y[i] = (real)(formula); \
        } \
    } \
    VECTORISED static void forward_##name(real *const *at, const ptrdiff_t *step, size_t n, const void *context) { \
        (void)context; \
        BY_STEPS(apply_##name, step[1], step[2], at[0], at[1], at[2], n); \
    }

/* dx += dy * slope, where dx moves along; or *dx += the sum, where it was spread. */
#define BACKWARD(name, slope) \
    INLINE void give_##name(real *dx, const real *dy, const real *pa, const real *pb, size_t n, bool add, \
                            ptrdiff_t sa, ptrdiff_t sb) { \
        for (size_t i = 0; i < n; i++) { \
            const real a = pa[(ptrdiff_t)i * sa], b = pb[(ptrdiff_t)i * sb]; \
            (void)a, (void)b; \
            dx[i] = (add ? dx[i] : 0) + dy[i] * (slope); \
        } \
    } \
    INLINE void sum_##name(real *dx, const real *dy, const real *pa, const real *pb, size_t n, ptrdiff_t sa, \
                           ptrdiff_t sb) { \
        real sums[COLUMNS] = {0}; \
        size_t i = 0; \
        for (; i + COLUMNS <= n; i += COLUMNS) \
            for (size_t k = 0; k < COLUMNS; k++) { \
                const real a = pa[(ptrdiff_t)(i + k) * sa], b = pb[(ptrdiff_t)(i + k) * sb]; \
                (void)a, (void)b; \
                sums[k] += dy[i + k] * (slope); \
            } \
        for (; i < n; i++) { \
            const real a = pa[(ptrdiff_t)i * sa], b = pb[(ptrdiff_t)i * sb]; \
            (void)a, (void)b; \
            sums[0] += dy[i] * (slope); \
        } \
        for (size_t k = 0; k < COLUMNS; k++) *dx += sums[k]; \
    } \
    VECTORISED static void backward_##name(real *const *at, const ptrdiff_t *step, size_t n, const void *context) { \
        const bool add = *(const bool *)context; \
        if (step[0] == 0 && n > 1) { \
            BY_STEPS(sum_##name, step[2], step[3], at[0], at[1], at[2], at[3], n); \
        } else { \
            BY_STEPS(give_##name, step[2], step[3], at[0], at[1], at[2], at[3], n, add); \
        } \
    }

#define BINARY(name, numbers, help, parameters, keeps, traits, formula, slope_a, slope_b) \
    FORWARD(name, formula) \
    BACKWARD(name##_a, slope_a) \
    BACKWARD(name##_b, slope_b) \
    static double value_##name(double a, double b) { \
        return (double)(formula); \
    }
#include "engine/ops/binary.def"
#undef BINARY

static const struct row {
    const char *name;
    walk_row *forward, *backward[2];
    double (*value)(double a, double b);
} rows[] = {
#define BINARY(name, numbers, help, parameters, keeps, traits, formula, slope_a, slope_b) \
    {#name, forward_##name, {backward_##name##_a, backward_##name##_b}, value_##name},
#include "engine/ops/binary.def"
#undef BINARY
};

static const struct row *row_of(const struct node *n) {
    const struct row *row = rows;
    while (strcmp(row->name, n->op->name) != 0) row++;
    return row;
}

/* ---- inference ---- */

static int fold(struct inference *i, struct err *e) {
    const struct array *a = i->in[0]->constant, *b = i->in[1]->constant;
    const struct row *row = row_of(i->node);
    struct array *y;
    int status = fold_start(&y, i, e);
    for (size_t k = 0; !status && k < y->count; k++)
        fold_put(y, k,
                 row->value(fold_get(a, fold_source(&a->shape, &y->shape, k)),
                            fold_get(b, fold_source(&b->shape, &y->shape, k))));
    return status;
}

static int binary_infer(struct inference *i, struct err *e) {
    i->out[0].shape = i->in[0]->shape;
    if (i->node->op->traits & OP_FLAT) i->out[0].type = DT_BOOL;
    int status = shape_broadcast(&i->out[0].shape, &i->in[1]->shape, e);
    return status || !folds(i) ? status : fold(i, e);
}

/* ---- steps ---- */

struct binary_state {
    const struct row *row;
    bool whole; /* integers: quotients are cut */
    struct walk forward, backward[2];
    bool spread[2];
    struct target target[2];
};

VECTORISED static void truncate(real *y, size_t n) {
    for (size_t i = 0; i < n; i++) y[i] = y[i] < 0 ? -real_floor(-y[i]) : real_floor(y[i]);
}

static void binary_forward(const struct call *c, const struct part *p) {
    const struct binary_state *s = c->state;
    real *y = tensor_at(c->out[0], p);
    walk_run(&s->forward, p, c->batch, (real *[]){y, tensor_at(c->in[0], p), tensor_at(c->in[1], p)}, s->row->forward,
             NULL);
    if (c->activation == ACTIVATION_RELU) loop_bias_relu(y, NULL, 1, tensor_count(c->out[0], p), true);
    if (s->whole) truncate(y, tensor_count(c->out[0], p));
}

static void binary_backward(const struct call *c, const struct part *p) {
    const struct binary_state *s = c->state;
    real *dy = tensor_at(c->d_out[0], p);
    if (c->activation == ACTIVATION_RELU) loop_relu_mask(dy, tensor_at(c->out[0], p), tensor_count(c->out[0], p));
    for (int k = 0; k < 2; k++) {
        if (!c->d_in[k]) continue;
        bool add;
        real *dx = target_open(&s->target[k], c, k, p, !s->spread[k], &add);
        walk_run(&s->backward[k], p, c->batch, (real *[]){dx, dy, tensor_at(c->in[0], p), tensor_at(c->in[1], p)},
                 s->row->backward[k], &add);
    }
}

static void binary_finish(const struct call *c, const struct part *p) {
    const struct binary_state *s = c->state;
    (void)p;
    for (int k = 0; k < 2; k++) target_finish(&s->target[k], c, k);
}

static void add_operand(struct walk *w, const struct tensor *t) {
    walk_add_tensor(w, &t->shape, t->layout);
}

static void plan_walks(const struct call *c, struct binary_state *s) {
    const struct tensor *y = c->out[0];
    walk_start(&s->forward, &y->shape, y->layout);
    add_operand(&s->forward, y);
    for (int k = 0; k < 2; k++) add_operand(&s->forward, c->in[k]);
    walk_close(&s->forward);
    for (int k = 0; k < 2; k++) {
        walk_start(&s->backward[k], &y->shape, y->layout);
        add_operand(&s->backward[k], c->in[k]);
        add_operand(&s->backward[k], y);
        for (int j = 0; j < 2; j++) add_operand(&s->backward[k], c->in[j]);
        walk_close(&s->backward[k]);
        s->spread[k] = shape_span(&c->in[k]->shape, 0, c->in[k]->shape.rank) != shape_span(&y->shape, 0, y->shape.rank);
    }
}

static int binary_plan(struct call *c, struct plan *p, struct err *e) {
    struct binary_state *s = c->state;
    s->row = row_of(c->node);
    s->whole = !dtype_is_real(c->graph->values[c->node->outputs[0]].type);
    plan_walks(c, s);
    int status = plan_lanes(p, PHASE_FORWARD, binary_forward, false, e);
    for (int k = 0; k < 2 && !status; k++) status = target_plan(&s->target[k], c, k, p, e);
    if (!status && (c->d_in[0] || c->d_in[1])) status = plan_lanes(p, PHASE_BACKWARD, binary_backward, false, e);
    if (!status && (s->target[0].gathers || s->target[1].gathers))
        status = plan_units(p, PHASE_FINISH, binary_finish, 1, e);
    return status;
}

#define SAMPLES(a) \
    { \
        {a "2x3x4 +2x3x4", "", "the same shape"}, {a "2x3x4 +2x3x1", "", "the second spread along rows"}, \
            {a "2x3x1x2 +2x3x4x1", "", "both spread"}, {a "2x3x4x2 *+3x1x1", "", "a constant per channel"}, \
            {a "2x3x4 *+4", "", "a constant per column"}, {a "2x40 *+1", "", "one constant"}, {NULL, NULL, NULL}, \
    }
static const struct op_sample samples_ANY[] = SAMPLES("");
static const struct op_sample samples_POSITIVE[] = SAMPLES("+");
static const struct op_sample samples_SPREADS[] = {{"2x3x4x2 3x1x1", "", "a constant per channel"},
                                                   {"2x40 1", "", "one constant"},
                                                   {"2x3x4 3x4", "", "one each"},
                                                   {NULL, NULL, NULL}};

#define BINARY(name_, numbers, help_, parameters_, keeps_, traits_, formula, slope_a, slope_b) \
    const struct op op_##name_ = { \
        .name = #name_, \
        .help = help_, \
        .min_inputs = 2, \
        .max_inputs = 2, \
        .min_outputs = 1, \
        .max_outputs = 1, \
        .drops = "broadcast", \
        .layout = WISH_ANY, \
        .traits = traits_, \
        .keeps = keeps_, \
        .parameters = parameters_, \
        .state_size = sizeof(struct binary_state), \
        .infer = binary_infer, \
        .plan = binary_plan, \
        .samples = samples_##numbers, \
    };
#include "engine/ops/binary.def"
#undef BINARY
