/* quantize.c - QuantizeLinear and DequantizeLinear, with one scale or one per index of an axis. Quantised
 * weights are dequantised when the graph is read, and are plain weights from then on. */
#include <string.h>

#include "base/memory.h"
#include "engine/ops/common.h"
#include "engine/ops/fold.h"
#include "engine/ops/walk.h"

enum { DATA, SCALE, ZERO };

struct limits {
    real low, high;
};

static struct limits limits_of(enum dtype type) {
    return type == DT_UINT8    ? (struct limits){0, 255}
           : type == DT_INT8   ? (struct limits){-128, 127}
           : type == DT_UINT16 ? (struct limits){0, 65535}
                               : (struct limits){-32768, 32767};
}

/* at: y, x, scale, zero */
static void quantize(real *const *at, const ptrdiff_t *step, size_t n, const void *context) {
    const struct limits *l = context;
    for (ptrdiff_t i = 0; i < (ptrdiff_t)n; i++) {
        real scaled = at[1][i * step[1]] / at[2][i * step[2]];
        real y = _Generic((real)0, float : rintf, double : rint)(scaled) + at[3][i * step[3]];
        at[0][i * step[0]] = y < l->low ? l->low : y > l->high ? l->high : y;
    }
}

static void dequantize(real *const *at, const ptrdiff_t *step, size_t n, const void *context) {
    (void)context;
    for (ptrdiff_t i = 0; i < (ptrdiff_t)n; i++)
        at[0][i * step[0]] = (at[1][i * step[1]] - at[3][i * step[3]]) * at[2][i * step[2]];
}

/* ---- inference ---- */

static int check_scales(int *axis, const struct inference *i, struct err *e) {
    const struct shape *x = &i->in[DATA]->shape, *scale = &i->in[SCALE]->shape;
    size_t n = shape_span(scale, 0, scale->rank);
    *axis = 0;
    if (node_int(i->node, "block_size", 0) || scale->rank > 1) return err_set(e, E_UNSUPPORTED, "scales by blocks");
    if (has_input(i, ZERO) && shape_span(&i->in[ZERO]->shape, 0, i->in[ZERO]->shape.rank) != n)
        return err_set(e, E_INVALID, "scales and zero points differ in number");
    if (n == 1) return 0;
    int status = axis_check(axis, node_int(i->node, "axis", 1), x->rank, e);
    if (!status && x->dim[*axis] != (int64_t)n)
        return err_set(e, E_INVALID, "%zu scales for an axis of %lld", n, (long long)x->dim[*axis]);
    return status;
}

static void start_walk(struct walk *w, const struct shape *x, enum layout layout, int axis, size_t scales) {
    ptrdiff_t step[SHAPE_MAX_RANK] = {0};
    if (scales > 1) step[axis] = 1;
    walk_start(w, x, layout);
    walk_add_tensor(w, x, layout);
    walk_add_tensor(w, x, layout);
    walk_add(w, step);
    walk_add(w, step);
    walk_close(w);
}

static void to_reals(real *out, const struct array *a) {
    for (size_t k = 0; a && k < a->count; k++) out[k] = (real)fold_get(a, k);
}

static int fold(struct inference *i, int axis, walk_row *row, struct err *e) {
    const struct array *x = i->in[DATA]->constant, *scale = i->in[SCALE]->constant,
                       *zero = has_input(i, ZERO) ? i->in[ZERO]->constant : NULL;
    struct limits limits = limits_of(i->out[0].type);
    struct walk w;
    struct array *y;
    int status = fold_start(&y, i, e);
    if (status) return status;
    real *numbers = mem_calloc(x->count + 2 * scale->count + 1, sizeof *numbers), *scales = numbers + x->count;
    if (!numbers) return err_memory(e, x->count * sizeof *numbers);
    to_reals(numbers, x);
    to_reals(scales, scale);
    to_reals(scales + scale->count, zero);
    start_walk(&w, &x->shape, LAYOUT_PLAIN, axis, scale->count);
    walk_run(&w, NULL, 1, (real *[]){numbers, numbers, scales, scales + scale->count}, row, &limits);
    for (size_t k = 0; k < y->count; k++) fold_put(y, k, (double)numbers[k]);
    mem_free(numbers);
    return 0;
}

static int quantize_infer(struct inference *i, struct err *e) {
    int axis, status = check_scales(&axis, i, e);
    i->out[0].shape = i->in[DATA]->shape;
    i->out[0].type = has_input(i, ZERO) ? i->in[ZERO]->type : DT_UINT8;
    if (!status && i->out[0].type > DT_BOOL) status = err_set(e, E_UNSUPPORTED, "an unknown type");
    return status || !folds(i) ? status : fold(i, axis, quantize, e);
}

static int dequantize_infer(struct inference *i, struct err *e) {
    int axis, status = check_scales(&axis, i, e);
    i->out[0].shape = i->in[DATA]->shape;
    i->out[0].type = DT_FLOAT32;
    return status || !folds(i) ? status : fold(i, axis, dequantize, e);
}

/* ---- steps ---- */

struct quantize_state {
    struct walk walk;
    walk_row *row;
    struct limits limits;
    real *zero; /* where the node has none */
};

static void quantize_forward(const struct call *c, const struct part *p) {
    const struct quantize_state *s = c->state;
    real *zero = s->zero ? s->zero : tensor_at(c->in[ZERO], p);
    real *at[] = {tensor_at(c->out[0], p), tensor_at(c->in[DATA], p), tensor_at(c->in[SCALE], p), zero};
    walk_run(&s->walk, p, c->batch, at, s->row, &s->limits);
}

static int plan_row(struct call *c, struct plan *p, walk_row *row, struct err *e) {
    struct quantize_state *s = c->state;
    bool has_zero = c->n_in > ZERO && c->in[ZERO];
    int axis = 0, status = 0;
    if (c->in[SCALE]->row > 1) status = axis_check(&axis, node_int(c->node, "axis", 1), c->in[DATA]->shape.rank, e);
    if (!status && (!is_constant(c, SCALE) || (has_zero && !is_constant(c, ZERO))))
        status = err_set(e, E_UNSUPPORTED, "scales that depend on data");
    if (!status && !has_zero) status = plan_memory(&s->zero, p, c->in[SCALE]->row, e);
    if (status) return status;
    s->row = row;
    s->limits = limits_of(has_zero ? c->graph->values[c->node->inputs[ZERO]].type : DT_UINT8);
    start_walk(&s->walk, &c->in[DATA]->shape, c->in[DATA]->layout, axis, c->in[SCALE]->row);
    return plan_lanes(p, PHASE_FORWARD, quantize_forward, false, e);
}

static int quantize_plan(struct call *c, struct plan *p, struct err *e) {
    return plan_row(c, p, quantize, e);
}
static int dequantize_plan(struct call *c, struct plan *p, struct err *e) {
    return plan_row(c, p, dequantize, e);
}

static const struct op_sample samples[] = {
    {"2x3x4x5 :0.1", "", "one scale"}, {"2x3x4x5 *+3 *#9:3", "axis=1", "a scale per channel"}, {NULL, NULL, NULL}};

#define QUANTIZE(name_, help_, infer_, plan_) \
    const struct op op_##name_ = { \
        .name = #name_, \
        .help = help_, \
        .min_inputs = 2, \
        .max_inputs = 3, \
        .min_outputs = 1, \
        .max_outputs = 1, \
        .attributes = "axis block_size saturate", \
        .layout = WISH_ANY, \
        .traits = OP_FLAT, \
        .state_size = sizeof(struct quantize_state), \
        .infer = infer_, \
        .plan = plan_, \
        .samples = samples, \
    };

QUANTIZE(QuantizeLinear, "y = x / scale, rounded, + zero point", quantize_infer, quantize_plan)
QUANTIZE(DequantizeLinear, "y = (x - zero point) * scale", dequantize_infer, dequantize_plan)
