/* unary.c - the operators of unary.def, and the steps that all operators of one number share. */
#include "engine/ops/unary.h"

#include <string.h>

#include "base/memory.h"
#include "engine/ops/common.h"
#include "engine/ops/fold.h"
#include "engine/ops/vectormath.h"

/* ---- steps ---- */

static void unary_forward(const struct call *c, const struct part *p) {
    const struct unary_state *s = c->state;
    s->loops->forward(tensor_at(c->in[0], p), tensor_at(c->out[0], p), tensor_count(c->out[0], p), s->alpha, s->beta);
}

static void unary_backward(const struct call *c, const struct part *p) {
    const struct unary_state *s = c->state;
    const struct tensor *kept = c->node->op->keeps & KEEP_OUTPUT(0) ? c->out[0] : c->in[0];
    s->loops->backward(tensor_at(kept, p), tensor_at(c->d_out[0], p), tensor_at(c->d_in[0], p),
                       tensor_count(c->out[0], p), s->alpha, s->beta, c->add[0]);
}

int unary_plan(struct call *c, struct plan *p, struct err *e) {
    int status = plan_lanes(p, PHASE_FORWARD, unary_forward, false, e);
    return status || !c->d_in[0] ? status : plan_lanes(p, PHASE_BACKWARD, unary_backward, false, e);
}

static int fold(struct inference *i, const struct unary_state *s, struct err *e) {
    struct array *y;
    int status = fold_start(&y, i, e);
    for (size_t k = 0; !status && k < y->count; k++) {
        real value = (real)fold_get(i->in[0]->constant, k);
        s->loops->forward(&value, &value, 1, s->alpha, s->beta);
        fold_put(y, k, (double)value);
    }
    return status;
}

int unary_infer(struct inference *i, const struct unary_state *s, struct err *e) {
    int status = infer_same(i, e);
    return status || !folds(i) ? status : fold(i, s, e);
}

/* ---- formulas ---- */

#define real_expm1(x) _Generic((real)0, float : expm1f, double : expm1)(x)
#define real_rint(x) _Generic((real)0, float : rintf, double : rint)(x)
#define real_sin(x) _Generic((real)0, float : sinf, double : sin)(x)
#define real_cos(x) _Generic((real)0, float : cosf, double : cos)(x)
#define real_tan(x) _Generic((real)0, float : tanf, double : tan)(x)
#define real_asin(x) _Generic((real)0, float : asinf, double : asin)(x)
#define real_acos(x) _Generic((real)0, float : acosf, double : acos)(x)
#define real_atan(x) _Generic((real)0, float : atanf, double : atan)(x)
#define real_sinh(x) _Generic((real)0, float : sinhf, double : sinh)(x)
#define real_cosh(x) _Generic((real)0, float : coshf, double : cosh)(x)
#define real_asinh(x) _Generic((real)0, float : asinhf, double : asinh)(x)
#define real_acosh(x) _Generic((real)0, float : acoshf, double : acosh)(x)
#define real_atanh(x) _Generic((real)0, float : atanhf, double : atanh)(x)

VECTORMATH real clamp(real x, real low, real high) {
    return x < low ? low : x > high ? high : x;
}

VECTORMATH real least(real x, real y) {
    return x < y ? x : y;
}

/* tanh(log(1 + e)) = n / (n + 2) with n = e (e + 2), e = exp(x); from 20 on it is 1. */
VECTORMATH real mish_share(real x) {
    real e = vector_exp(least(x, 20)), n = e * (e + 2);
    return n / (n + 2);
}

/* share + x (1 - share^2) sigmoid, where 1 - share^2 = 4 (n + 1) / (n + 2)^2 */
VECTORMATH real mish_slope(real x) {
    real e = vector_exp(least(x, 20)), n = e * (e + 2), d = n + 2;
    return n / d + x * 4 * (n + 1) / (d * d) * (e / (1 + e));
}

#define UNARY(name, numbers, help, a, a0, b, b0, keeps, traits, formula, slope) UNARY_LOOPS(name, formula, slope)
#include "engine/ops/unary.def"
#undef UNARY

static const struct row {
    const char *name;
    const struct unary_loops *loops;
    const char *alpha, *beta;
    double alpha_standard, beta_standard;
} rows[] = {
#define UNARY(name, numbers, help, a, a0, b, b0, keeps, traits, formula, slope) {#name, &loops_##name, a, b, a0, b0},
#include "engine/ops/unary.def"
#undef UNARY
};

static struct unary_state state_of(const struct node *n) {
    const struct row *row = rows;
    while (strcmp(row->name, n->op->name) != 0) row++;
    return (struct unary_state){row->loops, (real)node_real(n, row->alpha, row->alpha_standard),
                                (real)node_real(n, row->beta, row->beta_standard)};
}

static int row_infer(struct inference *i, struct err *e) {
    struct unary_state s = state_of(i->node);
    if (strcmp(i->node->op->name, "IsNaN") == 0) i->out[0].type = DT_BOOL;
    return unary_infer(i, &s, e);
}

static int row_plan(struct call *c, struct plan *p, struct err *e) {
    *(struct unary_state *)c->state = state_of(c->node);
    return unary_plan(c, p, e);
}

static const struct op_sample samples_ANY[] = {{"2x3x4", "", ""}, {NULL, NULL, NULL}};
static const struct op_sample samples_SMALL[] = {{"%2x3x4", "", "between -1 and 1"}, {NULL, NULL, NULL}};
static const struct op_sample samples_LARGE[] = {{"^2x3x4", "", "above 1"}, {NULL, NULL, NULL}};
static const struct op_sample samples_POSITIVE[] = {{"+2x3x4", "", "positive"}, {NULL, NULL, NULL}};

#define UNARY(name_, numbers, help_, a, a0, b, b0, keeps_, traits_, formula, slope) \
    const struct op op_##name_ = { \
        .name = #name_, \
        .help = help_, \
        .min_inputs = 1, \
        .max_inputs = 1, \
        .min_outputs = 1, \
        .max_outputs = 1, \
        .attributes = a " " b, \
        .layout = WISH_ANY, \
        .traits = traits_, \
        .keeps = keeps_, \
        .state_size = sizeof(struct unary_state), \
        .infer = row_infer, \
        .plan = row_plan, \
        .samples = samples_##numbers, \
    };
#include "engine/ops/unary.def"
#undef UNARY

/* ---- Gelu: two formulas, chosen by name ---- */

#define GELU_SCALE ((real)0.7978845608028654) /* sqrt(2 / pi) */
#define GELU_CUBE ((real)0.044715)

VECTORMATH real gelu_slope(real x) {
    real density = (real)0.3989422804014327 * vector_exp(x * x * (real)-0.5);
    return (1 + vector_erf(x * (real)0.7071067811865476)) / 2 + x * density;
}

VECTORMATH real gelu_tanh_slope(real x) {
    real t = vector_tanh(GELU_SCALE * (x + GELU_CUBE * x * x * x));
    return (1 + t) / 2 + x * (1 - t * t) * GELU_SCALE * (1 + 3 * GELU_CUBE * x * x) / 2;
}

UNARY_LOOPS(gelu, x *(1 + vector_erf(x * (real)0.7071067811865476)) / 2, gelu_slope(x))
UNARY_LOOPS(gelu_tanh, x *(1 + vector_tanh(GELU_SCALE * (x + GELU_CUBE * x * x * x))) / 2, gelu_tanh_slope(x))

static struct unary_state gelu_state(const struct node *n) {
    bool tanh = strcmp(node_string(n, "approximate", "none"), "tanh") == 0;
    return (struct unary_state){.loops = tanh ? &loops_gelu_tanh : &loops_gelu};
}

static int gelu_infer(struct inference *i, struct err *e) {
    struct unary_state s = gelu_state(i->node);
    return unary_infer(i, &s, e);
}

static int gelu_plan(struct call *c, struct plan *p, struct err *e) {
    *(struct unary_state *)c->state = gelu_state(c->node);
    return unary_plan(c, p, e);
}

static const struct op_sample gelu_samples[] = {
    {"2x3x4", "", "exact"}, {"2x3x4", "approximate=tanh", "approximate"}, {NULL, NULL, NULL}};

const struct op op_Gelu = {
    .name = "Gelu",
    .help = "y = x P(X < x), X standard normal",
    .min_inputs = 1,
    .max_inputs = 1,
    .min_outputs = 1,
    .max_outputs = 1,
    .attributes = "approximate",
    .layout = WISH_ANY,
    .keeps = KEEP_INPUT(0),
    .state_size = sizeof(struct unary_state),
    .infer = gelu_infer,
    .plan = gelu_plan,
    .samples = gelu_samples,
};
