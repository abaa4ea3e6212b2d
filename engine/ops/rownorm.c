/* rownorm.c - LayerNormalization, InstanceNormalization, GroupNormalization: every row of numbers gets
 * mean 0 and variance 1, then a scale and a shift. A row is the last axes (layer), one channel
 * (instance), or a group of channels, whose scale and shift go by channel, or before opset 21 by group. */
#include <string.h>

#include "engine/ops/common.h"

enum { DATA, SCALE, SHIFT };

struct rownorm_state {
    size_t n;             /* numbers in a row: blocks * width */
    size_t blocks, width; /* every block has a scale and a shift of its own */
    size_t period;        /* rows after which scales begin anew */
    size_t rows;          /* of the whole batch */
    real epsilon;
    real *mean, *inverse; /* per row, for the backward pass */
    struct target target[3];
};

/* ---- one row ---- */

enum { COLUMNS = 16 };

VECTORISED static real sum_products(const real *x, const real *y, real shift, size_t n) {
    real sums[COLUMNS] = {0}, sum = 0;
    size_t i = 0;
    for (; i + COLUMNS <= n; i += COLUMNS)
        for (size_t k = 0; k < COLUMNS; k++) sums[k] += (x[i + k] - shift) * (y ? y[i + k] - shift : 1);
    for (; i < n; i++) sum += (x[i] - shift) * (y ? y[i] - shift : 1);
    for (size_t k = 0; k < COLUMNS; k++) sum += sums[k];
    return sum;
}

VECTORISED static void scale_row(const struct rownorm_state *s, const real *x, real *y, real mean, real inverse,
                                 const real *scale, const real *shift) {
    for (size_t b = 0; b < s->blocks && s->width > 1; b++)
        for (size_t i = b * s->width; i < (b + 1) * s->width; i++)
            y[i] = (x[i] - mean) * inverse * scale[b] + (shift ? shift[b] : 0);
    for (size_t i = 0; i < s->n && s->width == 1; i++)
        y[i] = (x[i] - mean) * inverse * scale[i] + (shift ? shift[i] : 0);
}

/* As row_sums where every number has a scale of its own. */
VECTORISED static void each_sums(size_t n, const real *x, const real *dy, real mean, real inverse, const real *scale,
                                 real *d_scale, real *d_shift, real sums[2]) {
    real g[COLUMNS] = {0}, g_xhat[COLUMNS] = {0};
    size_t i = 0;
    for (; i + COLUMNS <= n; i += COLUMNS)
        for (size_t k = 0; k < COLUMNS; k++) {
            g[k] += dy[i + k] * scale[i + k];
            g_xhat[k] += dy[i + k] * scale[i + k] * (x[i + k] - mean) * inverse;
        }
    for (; i < n; i++) {
        g[0] += dy[i] * scale[i];
        g_xhat[0] += dy[i] * scale[i] * (x[i] - mean) * inverse;
    }
    for (size_t k = 0; k < COLUMNS; k++) sums[0] += g[k], sums[1] += g_xhat[k];
    for (i = 0; d_scale && i < n; i++) d_scale[i] += dy[i] * (x[i] - mean) * inverse;
    for (i = 0; d_shift && i < n; i++) d_shift[i] += dy[i];
}

/* g = dy * scale; its sum and the sum of g * xhat. d_scale and d_shift get their share. */
VECTORISED static void row_sums(const struct rownorm_state *s, const real *x, const real *dy, real mean, real inverse,
                                const real *scale, real *d_scale, real *d_shift, real sums[2]) {
    sums[0] = sums[1] = 0;
    if (s->width == 1) {
        each_sums(s->n, x, dy, mean, inverse, scale, d_scale, d_shift, sums);
        return;
    }
    for (size_t b = 0; b < s->blocks; b++) {
        real sum = 0, sum_xhat = 0;
        for (size_t i = b * s->width; i < (b + 1) * s->width; i++) {
            sum += dy[i];
            sum_xhat += dy[i] * (x[i] - mean) * inverse;
        }
        if (d_scale) d_scale[b] += sum_xhat;
        if (d_shift) d_shift[b] += sum;
        sums[0] += sum * scale[b];
        sums[1] += sum_xhat * scale[b];
    }
}

/* dx = inverse (g - mean of g - xhat * mean of g xhat) */
VECTORISED static void row_back(const struct rownorm_state *s, const real *x, const real *dy, real *dx, real mean,
                                real inverse, const real *scale, const real sums[2], bool add) {
    real a = sums[0] / (real)s->n, b = sums[1] / (real)s->n * inverse;
    for (size_t k = 0; k < s->blocks && s->width > 1; k++)
        for (size_t i = k * s->width; i < (k + 1) * s->width; i++)
            dx[i] = inverse * (dy[i] * scale[k] - a - (x[i] - mean) * b) + (add ? dx[i] : 0);
    for (size_t i = 0; i < s->n && s->width == 1; i++)
        dx[i] = inverse * (dy[i] * scale[i] - a - (x[i] - mean) * b) + (add ? dx[i] : 0);
}

/* ---- steps ---- */

static size_t first_row(const struct call *c, const struct part *p) {
    const struct rownorm_state *s = c->state;
    return c->in[DATA]->per_sample ? (size_t)p->first * c->in[DATA]->row / s->n : 0;
}

static real *output_or_null(const struct call *c, int k, const struct part *p) {
    return k < c->n_out && c->out[k] ? tensor_at(c->out[k], p) : NULL;
}

static void rownorm_forward(const struct call *c, const struct part *p) {
    const struct rownorm_state *s = c->state;
    const real *x = tensor_at(c->in[DATA], p), *scale = c->in[SCALE]->base;
    const real *shift = c->n_in > SHIFT && c->in[SHIFT] ? c->in[SHIFT]->base : NULL;
    real *y = tensor_at(c->out[0], p), *mean_out = output_or_null(c, 1, p), *inverse_out = output_or_null(c, 2, p);
    size_t rows = tensor_count(c->in[DATA], p) / s->n, first = first_row(c, p);
    for (size_t r = 0; r < rows; r++, x += s->n, y += s->n) {
        size_t from = (first + r) % s->period * s->blocks;
        real mean = sum_products(x, NULL, 0, s->n) / (real)s->n;
        real inverse = 1 / real_sqrt(sum_products(x, x, mean, s->n) / (real)s->n + s->epsilon);
        scale_row(s, x, y, mean, inverse, scale + from, shift ? shift + from : NULL);
        if (s->mean) s->mean[first + r] = mean, s->inverse[first + r] = inverse;
        if (mean_out) mean_out[r] = mean;
        if (inverse_out) inverse_out[r] = inverse;
    }
}

static void rownorm_backward(const struct call *c, const struct part *p) {
    const struct rownorm_state *s = c->state;
    const real *x = tensor_at(c->in[DATA], p), *dy = tensor_at(c->d_out[0], p), *scale = c->in[SCALE]->base;
    bool add, ignored;
    real *dx = c->d_in[DATA] ? target_open(&s->target[DATA], c, DATA, p, true, &add) : NULL;
    real *d_scale = c->d_in[SCALE] ? target_open(&s->target[SCALE], c, SCALE, p, false, &ignored) : NULL;
    real *d_shift =
        c->n_in > SHIFT && c->d_in[SHIFT] ? target_open(&s->target[SHIFT], c, SHIFT, p, false, &ignored) : NULL;
    size_t rows = tensor_count(c->in[DATA], p) / s->n, first = first_row(c, p);
    for (size_t r = 0; r < rows; r++, x += s->n, dy += s->n) {
        size_t from = (first + r) % s->period * s->blocks;
        real mean = s->mean[first + r], inverse = s->inverse[first + r], sums[2];
        row_sums(s, x, dy, mean, inverse, scale + from, d_scale ? d_scale + from : NULL,
                 d_shift ? d_shift + from : NULL, sums);
        if (dx) row_back(s, x, dy, dx + r * s->n, mean, inverse, scale + from, sums, add);
    }
}

static void rownorm_finish(const struct call *c, const struct part *p) {
    const struct rownorm_state *s = c->state;
    (void)p;
    for (int k = SCALE; k < c->n_in; k++)
        if (c->in[k]) target_finish(&s->target[k], c, k);
}

/* ---- planning; the state's blocks, width and period are set ---- */

static int plan_rows(struct call *c, struct plan *p, struct err *e) {
    struct rownorm_state *s = c->state;
    const struct tensor *x = c->in[DATA];
    s->n = s->blocks * s->width;
    s->epsilon = (real)node_real(c->node, "epsilon", 1e-5);
    if (s->n == 0 || x->row == 0) return err_set(e, E_INVALID, "the data has no elements");
    for (int k = SCALE; k < c->n_in; k++)
        if (c->in[k] && (!is_constant(c, k) || c->in[k]->row != s->blocks * s->period))
            return err_set(e, E_UNSUPPORTED, "scale and shift must be %zu constants", s->blocks * s->period);
    int status = plan_lanes(p, PHASE_FORWARD, rownorm_forward, false, e);
    if (status || !c->d_out[0]) return status;
    s->rows = x->row * (x->per_sample ? (size_t)c->lanes * (size_t)c->lane_size : 1) / s->n;
    status = plan_memory(&s->mean, p, s->rows, e);
    if (!status) status = plan_memory(&s->inverse, p, s->rows, e);
    bool gathers = false;
    for (int k = 0; k < c->n_in && !status; k++) {
        if (!c->in[k]) continue;
        status = target_plan(&s->target[k], c, k, p, e);
        gathers |= s->target[k].gathers;
    }
    if (!status) status = plan_lanes(p, PHASE_BACKWARD, rownorm_backward, false, e);
    return status || !gathers ? status : plan_units(p, PHASE_FINISH, rownorm_finish, 1, e);
}

/* ---- LayerNormalization ---- */

static int layer_infer(struct inference *i, struct err *e) {
    const struct shape *x = &i->in[DATA]->shape;
    int axis, status = axis_check(&axis, node_int(i->node, "axis", -1), x->rank, e);
    if (status) return status;
    i->out[0].shape = *x;
    for (int k = 1; k < i->n_out; k++) {
        i->out[k].shape = *x;
        for (int d = axis; d < x->rank; d++) i->out[k].shape.dim[d] = 1;
    }
    i->mixes = axis == 0;
    return 0;
}

static int layer_plan(struct call *c, struct plan *p, struct err *e) {
    struct rownorm_state *s = c->state;
    const struct shape *x = &c->in[DATA]->shape;
    int axis, status = axis_check(&axis, node_int(c->node, "axis", -1), x->rank, e);
    if (status) return status;
    if ((c->n_out > 1 && c->d_out[1]) || (c->n_out > 2 && c->d_out[2]))
        return err_set(e, E_UNSUPPORTED, "retort does not train through the mean and deviation that it gives out");
    *s = (struct rownorm_state){.blocks = shape_span(x, axis, x->rank), .width = 1, .period = 1};
    return plan_rows(c, p, e);
}

static const struct op_sample layer_samples[] = {
    {"3x4x20 20 20", "", "the last axis"},
    {"3x4x5 4x5", "axis=1 epsilon=0.01", "two axes, no shift"},
    {NULL, NULL, NULL},
};

const struct op op_LayerNormalization = {
    .name = "LayerNormalization",
    .help = "y = (x - mean) / sqrt(variance + epsilon) * scale + shift, over the last axes",
    .min_inputs = 2,
    .max_inputs = 3,
    .min_outputs = 1,
    .max_outputs = 3,
    .attributes = "axis epsilon stash_type",
    .layout = WISH_PLAIN,
    .keeps = KEEP_INPUT(DATA) | KEEP_INPUT(SCALE),
    .parameters = 1u << SCALE | 1u << SHIFT,
    .state_size = sizeof(struct rownorm_state),
    .infer = layer_infer,
    .plan = layer_plan,
    .samples = layer_samples,
};

/* ---- InstanceNormalization, GroupNormalization ---- */

static int channels_infer(struct inference *i, struct err *e) {
    const struct shape *x = &i->in[DATA]->shape;
    int64_t groups = node_int(i->node, "num_groups", 1);
    if (x->rank < 3) return err_set(e, E_INVALID, "data of rank %d has no channels of several numbers", x->rank);
    if (groups < 1 || x->dim[1] % groups)
        return err_set(e, E_INVALID, "%lld channels in %lld groups", (long long)x->dim[1], (long long)groups);
    return infer_same(i, e);
}

static int instance_plan(struct call *c, struct plan *p, struct err *e) {
    struct rownorm_state *s = c->state;
    const struct shape *x = &c->in[DATA]->shape;
    *s = (struct rownorm_state){.blocks = 1, .width = shape_span(x, 2, x->rank), .period = (size_t)x->dim[1]};
    return plan_rows(c, p, e);
}

static int group_plan(struct call *c, struct plan *p, struct err *e) {
    struct rownorm_state *s = c->state;
    const struct shape *x = &c->in[DATA]->shape;
    size_t groups = (size_t)node_int(c->node, "num_groups", 1);
    size_t blocks = c->in[SCALE]->row == groups ? 1 : (size_t)x->dim[1] / groups;
    *s = (struct rownorm_state){
        .blocks = blocks, .width = shape_span(x, 1, x->rank) / groups / blocks, .period = groups};
    return plan_rows(c, p, e);
}

static const struct op_sample instance_samples[] = {
    {"2x3x4x5 3 3", "", "images"}, {"2x3x7 3 3", "epsilon=0.01", "signals"}, {NULL, NULL, NULL}};
static const struct op_sample group_samples[] = {{"2x6x4x5 6 6", "num_groups=2 opset=21", "a scale per channel"},
                                                 {"2x6x4x5 2 2", "num_groups=2 opset=18", "a scale per group"},
                                                 {NULL, NULL, NULL}};

#define BY_CHANNEL(name_, help_, attributes_, plan_, samples_) \
    const struct op op_##name_ = { \
        .name = #name_, \
        .help = help_, \
        .min_inputs = 3, \
        .max_inputs = 3, \
        .min_outputs = 1, \
        .max_outputs = 1, \
        .attributes = attributes_, \
        .layout = WISH_PLAIN, \
        .keeps = KEEP_INPUT(DATA) | KEEP_INPUT(SCALE), \
        .parameters = 1u << SCALE | 1u << SHIFT, \
        .state_size = sizeof(struct rownorm_state), \
        .infer = channels_infer, \
        .plan = plan_, \
        .samples = samples_, \
    };

BY_CHANNEL(InstanceNormalization, "y = (x - mean) / sqrt(variance + epsilon) * scale + shift, per sample and channel",
           "epsilon", instance_plan, instance_samples)
BY_CHANNEL(GroupNormalization,
           "y = (x - mean) / sqrt(variance + epsilon) * scale + shift, per sample and group of channels",
           "epsilon num_groups stash_type", group_plan, group_samples)
