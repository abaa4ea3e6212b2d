/* constancy.c - following channels that are constant through a network. */
#include "engine/surgery/constancy.h"

#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "engine/nn/op.h"
#include "engine/surgery/linear.h"

#define UNKNOWN ((double)NAN)

struct walk {
    const struct graph *g;
    struct constancy *c;
    struct err *e;
};

static bool is_op(const struct node *n, const char *name) {
    return strcmp(n->op->name, name) == 0;
}

static int64_t channels_of(const struct graph *g, int value) {
    const struct shape *s = &g->values[value].shape;
    return s->rank > 1 && s->dim[1] > 0 ? s->dim[1] : 0;
}

/* The known numbers of a value, or NULL. */
static const double *known(const struct walk *w, int value) {
    return value == VALUE_NONE ? NULL : w->c->values[value];
}

/* Room for what a node makes, all unknown. */
static int open_value(double **out, const struct walk *w, int value) {
    int64_t n = channels_of(w->g, value);
    *out = mem_alloc((size_t)n * sizeof **out + 1);
    if (!*out) return err_memory(w->e, (size_t)n * sizeof **out);
    for (int64_t i = 0; i < n; i++) (*out)[i] = UNKNOWN;
    w->c->values[value] = *out;
    return 0;
}

/* ---- layers ---- */

/* An output channel that reads nothing, or, without padding, nothing but constants. */
static void follow_channel(double *out, const struct linear *l, const double *x, bool padded, int64_t o) {
    int64_t taps = l->kernel[0] * l->kernel[1], first = o / (l->out / l->groups) * l->in;
    const double *row = l->weights + o * linear_fan_in(l);
    double sum = l->bias[o];
    for (int64_t i = 0; i < l->in; i++)
        for (int64_t tap = 0; tap < taps; tap++) {
            double weight = row[i * taps + tap], in = x ? x[first + i] : UNKNOWN;
            if (weight == 0 || in == 0) continue;
            if (isnan(in) || padded) return;
            sum += weight * in;
        }
    out[o] = sum;
}

static int follow_layer(const struct walk *w, int node) {
    struct linear l;
    struct edit_window window = {0};
    struct err refused = {0};
    double *out;
    int status = linear_read(&l, w->g, node, &refused);
    if (status == E_NOMEM) return err_set(w->e, status, "%s", refused.text);
    if (status) return 0;
    bool padded = l.axes > 0 && (l.kind == LINEAR_TRANSPOSED ||
                                 linear_window(&window, w->g, node, l.kernel, &refused) || linear_is_padded(&window));
    if (l.out == channels_of(w->g, l.made) && (l.in * l.groups == channels_of(w->g, l.data))) {
        status = open_value(&out, w, l.made);
        for (int64_t o = 0; o < l.out && !status; o++) follow_channel(out, &l, known(w, l.data), padded, o);
    }
    linear_fini(&l);
    return status;
}

/* ---- element by element ---- */

static double number_of(const struct graph *g, const struct node *n, int k, double standard, int64_t channel) {
    if (k >= n->n_inputs || n->inputs[k] == VALUE_NONE) return standard;
    const struct array *a = g->values[n->inputs[k]].constant;
    double x;
    if (!a || (a->count != 1 && (int64_t)a->count <= channel)) return UNKNOWN;
    array_to_double(&x, a, a->count == 1 ? 0 : (size_t)channel, 1);
    return x;
}

/* The slope that a PRelu has for the whole channel: it may also have one per column, or per pixel. */
static double slope_of(const struct graph *g, const struct node *n, int64_t channel) {
    const struct shape *x = &g->values[n->inputs[0]].shape, *slopes = &g->values[n->inputs[1]].shape;
    return affine_is_per_channel(slopes, x->rank, x->dim[1]) ? number_of(g, n, 1, UNKNOWN, channel) : UNKNOWN;
}

/* NaN for an operator that is not known. */
static double activated(const struct graph *g, const struct node *n, double x, int64_t channel) {
    if (is_op(n, "Relu")) return x > 0 ? x : 0;
    if (is_op(n, "LeakyRelu")) return x < 0 ? x * node_real(n, "alpha", 0.01) : x;
    if (is_op(n, "PRelu")) return x < 0 ? x * slope_of(g, n, channel) : x;
    if (is_op(n, "Elu")) return x < 0 ? node_real(n, "alpha", 1) * expm1(x) : x;
    if (is_op(n, "Tanh")) return tanh(x);
    if (is_op(n, "Sigmoid")) return 1 / (1 + exp(-x));
    if (is_op(n, "Clip")) {
        double low = number_of(g, n, 1, -HUGE_VAL, 0), high = number_of(g, n, 2, HUGE_VAL, 0);
        return isnan(low) || isnan(high) ? UNKNOWN : fmin(fmax(x, low), high);
    }
    if (is_op(n, "Identity") || is_op(n, "Dropout") || is_op(n, "GlobalAveragePool") || is_op(n, "GlobalMaxPool"))
        return x;
    return UNKNOWN;
}

static int follow_activation(const struct walk *w, const struct node *n) {
    const double *x = known(w, n->inputs[0]);
    double *out;
    int64_t channels = channels_of(w->g, n->outputs[0]);
    /* Attributes that older opsets have instead of inputs say nothing here. */
    if (!x || channels != channels_of(w->g, n->inputs[0]) || (is_op(n, "Clip") && n->n_attributes)) return 0;
    int status = open_value(&out, w, n->outputs[0]);
    for (int64_t i = 0; i < channels && !status; i++) out[i] = isnan(x[i]) ? UNKNOWN : activated(w->g, n, x[i], i);
    return status;
}

static int follow_affine(const struct walk *w, int node) {
    struct affine a;
    struct err refused = {0};
    double *out;
    int status = affine_read(&a, w->g, node, &refused);
    if (status == E_NOMEM) return err_set(w->e, status, "%s", refused.text);
    if (status) return 0;
    const double *x = known(w, a.data);
    status = open_value(&out, w, a.made);
    for (int64_t i = 0; i < a.channels && !status; i++)
        out[i] = a.scale[i] == 0 ? a.shift[i] : x ? x[i] * a.scale[i] + a.shift[i] : UNKNOWN;
    affine_fini(&a);
    return status;
}

static int follow_sum(const struct walk *w, const struct node *n) {
    const double *x = known(w, n->inputs[0]), *y = known(w, n->inputs[1]);
    int64_t channels = channels_of(w->g, n->outputs[0]);
    double *out;
    if (!x || !y || !shape_equal(&w->g->values[n->inputs[0]].shape, &w->g->values[n->inputs[1]].shape)) return 0;
    int status = open_value(&out, w, n->outputs[0]);
    for (int64_t i = 0; i < channels && !status; i++) out[i] = x[i] + y[i];
    return status;
}

/* ---- the rest ---- */

/* A pool gives out the constant that it sees, unless it also sees padding and counts it, or nothing but padding. */
static int follow_pool(const struct walk *w, const struct node *n, int node) {
    const double *x = known(w, n->inputs[0]);
    const struct attribute *shape = node_attribute(n, "kernel_shape");
    struct edit_window window;
    struct err refused = {0};
    double *out;
    int axes = edit_axes(w->g, n->inputs[0]);
    if (!x || !shape || axes < 1 || axes > 2 || shape->count != (size_t)axes) return 0;
    int64_t kernel[2] = {axes == 2 ? shape->integers[0] : 1, shape->integers[axes - 1]};
    if (linear_window(&window, w->g, node, kernel, &refused)) return 0;
    for (int a = 0; a < 2; a++)
        if (window.begin[a] >= kernel[a] || window.end[a] >= kernel[a] || window.dilation[a] > 1) return 0;
    bool same = !linear_is_padded(&window) || (is_op(n, "MaxPool") || !node_int(n, "count_include_pad", 0));
    if (node_int(n, "ceil_mode", 0)) same = false;
    int status = open_value(&out, w, n->outputs[0]);
    for (int64_t i = 0; i < channels_of(w->g, n->outputs[0]) && !status; i++)
        out[i] = same || x[i] == 0 ? x[i] : UNKNOWN;
    return status;
}

static int follow_concat(const struct walk *w, const struct node *n) {
    double *out;
    int64_t at = 0;
    if (node_int(n, "axis", 1) != 1) return 0;
    int status = open_value(&out, w, n->outputs[0]);
    for (int k = 0; k < n->n_inputs && !status; k++) {
        int64_t channels = channels_of(w->g, n->inputs[k]);
        const double *x = known(w, n->inputs[k]);
        for (int64_t i = 0; i < channels && at < channels_of(w->g, n->outputs[0]); i++) out[at++] = x ? x[i] : UNKNOWN;
    }
    return status;
}

/* [N,C,...] to [N,C*...]. */
static int follow_flatten(const struct walk *w, const struct node *n) {
    const double *x = known(w, n->inputs[0]);
    int64_t from = channels_of(w->g, n->inputs[0]), to = channels_of(w->g, n->outputs[0]);
    double *out;
    if (!x || !from || to % from || w->g->values[n->outputs[0]].shape.rank != 2) return 0;
    const struct shape *s = &w->g->values[n->inputs[0]].shape;
    if (s->dim[0] != w->g->values[n->outputs[0]].shape.dim[0]) return 0;
    int status = open_value(&out, w, n->outputs[0]);
    for (int64_t i = 0; i < to && !status; i++) out[i] = x[i / (to / from)];
    return status;
}

static int follow(const struct walk *w, int node) {
    const struct node *n = &w->g->nodes[node];
    if (!channels_of(w->g, n->outputs[0]) || w->g->values[n->inputs[0]].shape.rank < 2) return 0;
    if (is_op(n, "Conv") || is_op(n, "ConvTranspose") || is_op(n, "Gemm") || is_op(n, "MatMul"))
        return follow_layer(w, node);
    if (is_op(n, "MaxPool") || is_op(n, "AveragePool")) return follow_pool(w, n, node);
    if (is_op(n, "Concat")) return follow_concat(w, n);
    if (is_op(n, "Flatten") || is_op(n, "Reshape")) return follow_flatten(w, n);
    bool computed = n->n_inputs == 2 && !w->g->values[n->inputs[0]].constant && n->inputs[1] != VALUE_NONE &&
                    !w->g->values[n->inputs[1]].constant;
    if (is_op(n, "Add") && computed) return follow_sum(w, n);
    struct err refused = {0};
    return affine_check(w->g, node, &refused) ? follow_activation(w, n) : follow_affine(w, node);
}

void constancy_fini(struct constancy *c) {
    for (int v = 0; v < c->n_values && c->values; v++) mem_free(c->values[v]);
    mem_free(c->values);
    *c = (struct constancy){0};
}

int constancy_find(struct constancy *out, const struct graph *g, struct err *e) {
    struct walk w = {g, out, e};
    *out = (struct constancy){.n_values = g->n_values};
    out->values = mem_calloc((size_t)g->n_values + 1, sizeof *out->values);
    int status = out->values ? 0 : err_memory(e, (size_t)g->n_values * sizeof *out->values);
    for (int i = 0; i < g->n_nodes && !status; i++)
        if (g->nodes[i].n_inputs && g->nodes[i].n_outputs && g->nodes[i].inputs[0] != VALUE_NONE &&
            g->nodes[i].outputs[0] != VALUE_NONE)
            status = follow(&w, i);
    if (status) constancy_fini(out);
    return status;
}

void constancy_free(struct constancy *c) {
    if (c) constancy_fini(c);
    mem_free(c);
}

int morphing_constancy(const struct constancy **out, struct morphing *m, struct err *e) {
    if (!m->constancy) {
        struct constancy *c = mem_calloc(1, sizeof *c);
        int status = c ? constancy_find(c, m->graph, e) : err_memory(e, sizeof *c);
        if (status) {
            mem_free(c);
            return status;
        }
        m->constancy = c;
    }
    *out = m->constancy;
    return 0;
}
