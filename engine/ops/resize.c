/* resize.c - Resize and Upsample: images (or anything) at another size, by the nearest number, linear or
 * cubic interpolation. Axes are resized one after the other; along an axis every result is a weighted sum
 * of a few numbers, listed beforehand. Channels last. */
#include <string.h>

#include "engine/kernels/loops.h"
#include "engine/ops/common.h"
#include "engine/ops/fold.h"

/* ---- settings ---- */

enum { TAPS_MOST = 4, LARGEST = 1 << 20 };

/* Where result i of `out` lies among `in` numbers. */
struct line {
    double scale;
    int64_t in, out;
};

static double half_pixel(const struct line *l, double i) {
    return (i + 0.5) / l->scale - 0.5;
}
static double pytorch_half_pixel(const struct line *l, double i) {
    return l->out > 1 ? half_pixel(l, i) : 0;
}
static double asymmetric(const struct line *l, double i) {
    return i / l->scale;
}
static double tf_half_pixel(const struct line *l, double i) {
    return (i + 0.5) / l->scale;
}
static double align_corners(const struct line *l, double i) {
    return l->out > 1 ? i * (double)(l->in - 1) / (l->scale * (double)l->in - 1) : 0;
}
static double half_pixel_symmetric(const struct line *l, double i) {
    double shrunk = (double)l->out / (l->scale * (double)l->in);
    return (double)l->in / 2 * (1 - shrunk) + half_pixel(l, i);
}

static double prefer_floor(double x) {
    return ceil(x - 0.5);
}
static double prefer_ceil(double x) {
    return floor(x + 0.5);
}

static const struct {
    const char *name;
    double (*position)(const struct line *l, double i);
} positions[] = {
    {"half_pixel", half_pixel},
    {"pytorch_half_pixel", pytorch_half_pixel},
    {"asymmetric", asymmetric},
    {"align_corners", align_corners},
    {"tf_half_pixel_for_nn", tf_half_pixel},
    {"half_pixel_symmetric", half_pixel_symmetric},
};
static const struct {
    const char *name;
    double (*round)(double x);
} roundings[] = {
    {"round_prefer_floor", prefer_floor}, {"round_prefer_ceil", prefer_ceil}, {"floor", floor}, {"ceil", ceil}};
static const struct {
    const char *name;
    int taps;
} modes[] = {{"nearest", 1}, {"linear", 2}, {"bilinear", 2}, {"cubic", 4}};

struct settings {
    double (*position)(const struct line *l, double i);
    double (*round)(double x);
    int taps;
    double cubic;
    bool exclude_outside;
    struct line lines[SHAPE_MAX_RANK];
};

#define COUNT(list) (sizeof(list) / sizeof *(list))

/* Before opset 11 there was one way only. */
static int read_ways(struct settings *s, const struct inference *i, struct err *e) {
    bool old = i->opset < 11;
    const char *position = old ? "asymmetric" : node_string(i->node, "coordinate_transformation_mode", "half_pixel");
    const char *rounding = old ? "floor" : node_string(i->node, "nearest_mode", "round_prefer_floor");
    const char *mode = node_string(i->node, "mode", "nearest");
    for (size_t k = 0; k < COUNT(positions); k++)
        if (strcmp(position, positions[k].name) == 0) s->position = positions[k].position;
    for (size_t k = 0; k < COUNT(roundings); k++)
        if (strcmp(rounding, roundings[k].name) == 0) s->round = roundings[k].round;
    for (size_t k = 0; k < COUNT(modes); k++)
        if (strcmp(mode, modes[k].name) == 0) s->taps = modes[k].taps;
    if (!s->position || !s->round || !s->taps || node_int(i->node, "antialias", 0))
        return err_set(e, E_UNSUPPORTED, "resizes by '%s', '%s', '%s'%s", mode, position, rounding,
                       node_int(i->node, "antialias", 0) ? ", antialiased" : "");
    s->cubic = node_real(i->node, "cubic_coeff_a", -0.75);
    s->exclude_outside = node_int(i->node, "exclude_outside", 0) != 0;
    return 0;
}

/* Scales: an attribute (Upsample-7), or input 1 (opset 9 and 10) or 2. */
static int read_scales(double *scales, int *n, const struct inference *i, struct err *e) {
    const struct attribute *a = node_attribute(i->node, "scales");
    int k = i->opset < 11 ? 1 : 2;
    *n = 0;
    if (a && (a->type != ATTRIBUTE_REALS || a->count > SHAPE_MAX_RANK))
        return err_set(e, E_INVALID, "scales is no list of numbers");
    for (; a && *n < (int)a->count; (*n)++) scales[*n] = a->reals[*n];
    if (a || !has_input(i, k)) return 0;
    const struct array *given = i->in[k]->constant;
    if (!given) return err_set(e, E_UNSUPPORTED, "the scales depend on data; retort takes them from constants only");
    if (given->count > SHAPE_MAX_RANK) return err_set(e, E_INVALID, "%zu scales", given->count);
    for (; *n < (int)given->count; (*n)++) scales[*n] = fold_get(given, (size_t)*n);
    return 0;
}

/* Sizes that keep the proportions are all scaled alike, by what fits into (or covers) what is asked for. */
static void keep_proportions(struct line *lines, const int *axes, int n, const char *policy) {
    bool larger = strcmp(policy, "not_smaller") == 0;
    if (!larger && strcmp(policy, "not_larger") != 0) return;
    double scale = lines[axes[0]].scale;
    for (int k = 1; k < n; k++) {
        double own = lines[axes[k]].scale;
        scale = larger == (own > scale) ? own : scale;
    }
    for (int k = 0; k < n; k++) {
        lines[axes[k]].scale = scale;
        lines[axes[k]].out = (int64_t)floor(scale * (double)lines[axes[k]].in + 0.5);
    }
}

static int read_axes(int *axes, int *n, const struct inference *i, struct err *e) {
    const struct attribute *a = node_attribute(i->node, "axes");
    int rank = i->in[0]->shape.rank;
    *n = a && a->type == ATTRIBUTE_INTS && a->count <= (size_t)rank ? (int)a->count : rank;
    for (int k = 0; k < *n; k++) {
        int status = axis_check(&axes[k], a ? a->integers[k] : k, rank, e);
        if (status) return status;
    }
    return 0;
}

static int read_lines(struct settings *s, const struct inference *i, struct err *e) {
    const struct shape *x = &i->in[0]->shape;
    int64_t sizes[SHAPE_MAX_RANK];
    double scales[SHAPE_MAX_RANK];
    int axes[SHAPE_MAX_RANK], n, n_scales, n_sizes;
    int status = read_axes(axes, &n, i, e);
    if (!status) status = read_scales(scales, &n_scales, i, e);
    if (!status) status = fold_ints(sizes, &n_sizes, SHAPE_MAX_RANK, i, 3, "the sizes", e);
    if (status) return status;
    if ((n_scales ? n_scales : n_sizes) != n)
        return err_set(e, E_INVALID, "%d scales, %d sizes for %d axes", n_scales, n_sizes, n);
    for (int d = 0; d < x->rank; d++) s->lines[d] = (struct line){1, x->dim[d], x->dim[d]};
    for (int k = 0; k < n; k++) {
        struct line *l = &s->lines[axes[k]];
        l->scale = n_scales ? scales[k] : (double)sizes[k] / (double)l->in;
        double out = n_scales ? floor((double)l->in * scales[k]) : (double)sizes[k];
        if (!(l->scale > 0 && out >= 1 && out <= LARGEST))
            return err_set(e, E_INVALID, "axis %d of size %lld becomes %g", axes[k], (long long)l->in, out);
        l->out = (int64_t)out;
    }
    if (!n_scales && n > 0)
        keep_proportions(s->lines, axes, n, node_string(i->node, "keep_aspect_ratio_policy", "stretch"));
    if (x->rank > 0 && s->lines[0].out != s->lines[0].in) return err_set(e, E_UNSUPPORTED, "resizes the batch");
    return 0;
}

static int read_settings(struct settings *s, const struct inference *i, struct err *e) {
    *s = (struct settings){0};
    int status = read_ways(s, i, e);
    return status ? status : read_lines(s, i, e);
}

static int resize_infer(struct inference *i, struct err *e) {
    struct settings s;
    size_t count;
    int status = read_settings(&s, i, e);
    if (status) return status;
    i->out[0].shape = i->in[0]->shape;
    for (int d = 0; d < i->out[0].shape.rank; d++) i->out[0].shape.dim[d] = s.lines[d].out;
    return shape_count(&count, &i->out[0].shape, e);
}

/* ---- weighted sums ---- */

struct stage {
    size_t in, out, inner; /* sizes of the axis, elements after it */
    size_t from, to;       /* elements of the whole before and after this stage */
    int taps;
    int32_t *index; /* [out][taps] */
    real *weight;
};

struct resize_state {
    struct stage stages[SHAPE_MAX_RANK];
    int n;
    size_t room; /* elements between stages, per lane */
};

static void weights_at(double *w, int taps, double fraction, double a) {
    if (taps == 1) w[0] = 1;
    if (taps == 2) w[0] = 1 - fraction, w[1] = fraction;
    if (taps != 4) return;
    for (int t = 0; t < 4; t++) { /* Keys 1981 */
        double d = fabs(fraction - (t - 1));
        w[t] = d <= 1 ? ((a + 2) * d - (a + 3)) * d * d + 1 : ((a * d - 5 * a) * d + 8 * a) * d - 4 * a;
    }
}

static void fill_stage(struct stage *st, const struct settings *s, const struct line *l) {
    for (size_t i = 0; i < st->out; i++) {
        double at = s->position(l, (double)i), w[TAPS_MOST], sum = 0;
        double base = s->taps == 1 ? s->round(at) : floor(at) - (s->taps / 2 - 1);
        weights_at(w, s->taps, at - floor(at), s->cubic);
        for (int t = 0; t < s->taps; t++) {
            double index = base + t;
            if (s->exclude_outside && (index < 0 || index > (double)(l->in - 1))) w[t] = 0;
            st->index[i * (size_t)s->taps + (size_t)t] = (int32_t)fmin(fmax(index, 0), (double)(l->in - 1));
            sum += w[t];
        }
        for (int t = 0; t < s->taps; t++)
            st->weight[i * (size_t)s->taps + (size_t)t] = (real)(s->exclude_outside ? w[t] / sum : w[t]);
    }
}

VECTORISED static void add_scaled(real *to, const real *from, real weight, size_t n) {
    for (size_t i = 0; i < n; i++) to[i] += weight * from[i];
}

/* Forward gathers each result from its taps, backward scatters its gradient to them. */
static void run_stage(const struct stage *s, const real *from, real *to, size_t outer, bool back) {
    size_t taps = (size_t)s->taps;
    for (size_t o = 0; o < outer; o++)
        for (size_t i = 0; i < s->out; i++)
            for (size_t t = 0; t < taps; t++) {
                size_t wide = (o * s->out + i) * s->inner,
                       narrow = (o * s->in + (size_t)s->index[i * taps + t]) * s->inner;
                if (back)
                    add_scaled(to + narrow, from + wide, s->weight[i * taps + t], s->inner);
                else
                    add_scaled(to + wide, from + narrow, s->weight[i * taps + t], s->inner);
            }
}

static size_t in_part(size_t whole, const struct tensor *t, const struct part *p) {
    return t->per_sample ? whole / t->samples * (size_t)p->count : whole;
}

static void resize_forward(const struct call *c, const struct part *p) {
    const struct resize_state *s = c->state;
    const real *from = tensor_at(c->in[0], p);
    real *y = tensor_at(c->out[0], p);
    if (s->n == 0) memcpy(y, from, tensor_count(c->in[0], p) * sizeof(real));
    for (int k = 0; k < s->n; k++) {
        const struct stage *st = &s->stages[k];
        real *to = k == s->n - 1 ? y : p->scratch + (size_t)(k % 2) * s->room;
        size_t count = in_part(st->to, c->in[0], p);
        memset(to, 0, count * sizeof(real));
        run_stage(st, from, to, count / (st->out * st->inner), false);
        from = to;
    }
}

static void resize_backward(const struct call *c, const struct part *p) {
    const struct resize_state *s = c->state;
    const real *from = tensor_at(c->d_out[0], p);
    real *dx = tensor_at(c->d_in[0], p);
    if (s->n == 0) loop_give(dx, from, tensor_count(c->d_in[0], p), c->add[0]);
    for (int k = s->n - 1; k >= 0; k--) {
        const struct stage *st = &s->stages[k];
        real *to = k == 0 ? dx : p->scratch + (size_t)(k % 2) * s->room;
        size_t count = in_part(st->from, c->in[0], p);
        if (k > 0 || !c->add[0]) memset(to, 0, count * sizeof(real));
        run_stage(st, from, to, count / (st->in * st->inner), true);
        from = to;
    }
}

/* ---- planning ---- */

/* Axes in the order of memory, outermost first: those before are resized already. */
static int plan_stages(struct call *c, struct plan *p, const struct settings *s, struct err *e) {
    struct resize_state *state = c->state;
    int rank = c->in[0]->shape.rank;
    size_t count = c->in[0]->row * c->in[0]->samples, inner = count, most = 0;
    for (int place = 0; place < rank; place++) {
        bool last = c->in[0]->layout == LAYOUT_LAST && rank > 2 && place > 0;
        const struct line *l = &s->lines[!last ? place : place == rank - 1 ? 1 : place + 1];
        inner /= (size_t)l->in;
        if (l->in == l->out && l->scale >= 1 && l->scale <= 1) continue;
        struct stage *st = &state->stages[state->n++];
        *st =
            (struct stage){.in = (size_t)l->in, .out = (size_t)l->out, .inner = inner, .from = count, .taps = s->taps};
        count = st->to = count / st->in * st->out;
        if (count > most) most = count;
        int status = plan_table((void **)&st->index, p, st->out * (size_t)s->taps * sizeof *st->index, e);
        if (!status) status = plan_memory(&st->weight, p, st->out * (size_t)s->taps, e);
        if (status) return status;
        fill_stage(st, s, l);
    }
    state->room = c->in[0]->per_sample ? most / c->in[0]->samples * (size_t)c->lane_size : most;
    if (state->n > 1) plan_scratch(p, 2 * state->room);
    return 0;
}

static int resize_plan(struct call *c, struct plan *p, struct err *e) {
    struct known known[4];
    const struct known *in[4] = {NULL};
    for (int k = 0; k < c->n_in; k++) {
        if (!c->in[k]) continue;
        known[k] = (struct known){.shape = c->in[k]->shape, .constant = c->constants[k]};
        in[k] = &known[k];
    }
    struct inference i = {.node = c->node, .opset = c->graph->opset, .n_in = c->n_in, .in = in};
    struct settings s;
    int status = read_settings(&s, &i, e);
    if (status) return status;
    if (c->in[0]->row == 0) return err_set(e, E_INVALID, "the data has no elements");
    status = plan_stages(c, p, &s, e);
    if (!status) status = plan_lanes(p, PHASE_FORWARD, resize_forward, false, e);
    return status || !c->d_in[0] ? status : plan_lanes(p, PHASE_BACKWARD, resize_backward, false, e);
}

static const struct op_sample samples[] = {
    {"2x3x4x5 _ ~1,1,2,2", "coordinate_transformation_mode=asymmetric nearest_mode=floor", "twice as large"},
    {"2x3x4x5 _ ~1,1,0.6,1.7", "mode=linear", "smaller and larger"},
    {"2x3x4x5 _ _ =7,3", "axes=2,3 mode=cubic exclude_outside=1 opset=18", "cubic, to a size"},
    {"2x3x4x5 _ _ =8,8", "axes=2,3 opset=18 mode=linear coordinate_transformation_mode=align_corners", "corners stay"},
    {"2x3x4 ~1,1,2", "mode=nearest opset=10", "signals, as in opset 10"},
    {NULL, NULL, NULL},
};

const struct op op_Resize = {
    .name = "Resize",
    .help = "y = x at another size",
    .min_inputs = 1,
    .max_inputs = 4,
    .min_outputs = 1,
    .max_outputs = 1,
    .attributes = "antialias axes coordinate_transformation_mode cubic_coeff_a exclude_outside extrapolation_value "
                  "keep_aspect_ratio_policy mode nearest_mode",
    .layout = WISH_LAST,
    .apart = 1u << 1 | 1u << 2, /* scales are float32 always */
    .state_size = sizeof(struct resize_state),
    .infer = resize_infer,
    .plan = resize_plan,
    .samples = samples,
};

static const struct op_sample upsample_samples[] = {{"2x3x4x5 ~1,1,2,3", "mode=linear opset=9", "scales as an input"},
                                                    {NULL, NULL, NULL}};

const struct op op_Upsample = {
    .name = "Upsample",
    .help = "y = x at a larger size",
    .min_inputs = 1,
    .max_inputs = 2,
    .min_outputs = 1,
    .max_outputs = 1,
    .first_opset = 7,
    .last_opset = 9,
    .attributes = "mode scales",
    .layout = WISH_LAST,
    .apart = 1u << 1,
    .state_size = sizeof(struct resize_state),
    .infer = resize_infer,
    .plan = resize_plan,
    .samples = upsample_samples,
};
