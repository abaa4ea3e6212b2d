/* fold_norm.c - a node that scales and shifts channels, BatchNormalization above all, goes into the layer before it or
 * into the one behind.
 *
 *   behind a layer     W' = s W, b' = s b + t: always exact
 *   before a layer     W'[o,i] = W[o,i] s[i], b' = b + sum W t: exact unless the layer pads with zeros, which are then
 *                      zeros behind the shift and not before it. A padded convolution takes the scale alone, and
 *                      t / s stays as an addition in front. */
#include <string.h>

#include "base/memory.h"
#include "engine/nn/op.h"
#include "engine/nn/origin.h"
#include "engine/surgery/fold.h"

enum direction { BACKWARD, FORWARD, SCALE_ONLY };

struct plan {
    struct affine a; /* owned */
    int layer;       /* the node that takes it */
    enum direction direction;
};

static bool is_op(const struct graph *g, int node, const char *name) {
    return node >= 0 && strcmp(g->nodes[node].op->name, name) == 0;
}

static bool has_shift(const struct affine *a) {
    for (int64_t c = 0; c < a->channels; c++)
        if (a->shift[c] != 0) return true;
    return false;
}

/* Whether the rest of the shift can stay in front: divided by the scale. */
static int check_rest(const struct affine *a, struct err *e) {
    bool scales = false;
    for (int64_t c = 0; c < a->channels; c++) {
        scales = scales || a->scale[c] != 1;
        if (a->scale[c] == 0 && a->shift[c] != 0)
            return err_set(e, E_UNSUPPORTED,
                           "a convolution that pads with zeros, and channel %lld is constant: its shift can "
                           "neither go through the padding nor stay in front of a scale of 0",
                           (long long)c);
    }
    return scales ? 0
                  : err_set(e, E_UNSUPPORTED,
                            "a convolution that pads with zeros, and it only shifts: folded, the "
                            "border would be wrong");
}

static int check_forward(struct plan *p, const struct folding *f, struct err *e) {
    const struct graph *g = f->m->graph;
    struct edit_window w;
    p->layer = uses_only_reader(f->uses, p->a.made);
    if (p->layer < 0) return err_set(e, E_UNSUPPORTED, "more than one reader, or the network's output");
    int status = fold_check_layer(f, p->layer, e);
    if (status) return err_prefix(e, "'%s'", g->nodes[p->layer].name);
    p->direction = FORWARD;
    if (!has_shift(&p->a) || strcmp(g->nodes[p->layer].op->name, "Gemm") == 0 ||
        strcmp(g->nodes[p->layer].op->name, "MatMul") == 0)
        return 0;
    if (is_op(g, p->layer, "ConvTranspose"))
        return err_set(e, E_UNSUPPORTED, "'%s' behind it reaches its border with fewer taps: a shift cannot go into it",
                       g->nodes[p->layer].name);
    const struct shape *kernel = &g->values[g->nodes[p->layer].inputs[1]].shape;
    int64_t size[2] = {kernel->rank == 4 ? kernel->dim[2] : 1, kernel->dim[kernel->rank - 1]};
    status = linear_window(&w, g, p->layer, size, e);
    if (status || !linear_is_padded(&w)) return status;
    p->direction = SCALE_ONLY;
    return check_rest(&p->a, e);
}

/* Why it does not go backward, into the node before it. */
static int check_backward(struct plan *p, const struct folding *f, int node, struct err *e) {
    const struct graph *g = f->m->graph;
    p->layer = g->values[p->a.data].producer;
    p->direction = BACKWARD;
    if (p->layer < 0) return err_set(e, E_UNSUPPORTED, "the network's input");
    int status = fold_check_layer(f, p->layer, e);
    if (status) return err_prefix(e, "'%s'", g->nodes[p->layer].name);
    if (uses_only_reader(f->uses, p->a.data) == node) return 0;
    return err_set(e, E_UNSUPPORTED, "what '%s' before it makes is read elsewhere too", g->nodes[p->layer].name);
}

static int make_plan(struct plan *p, const struct folding *f, int node, struct err *e) {
    struct err before = {0}, behind = {0};
    *p = (struct plan){.layer = -1};
    int status = affine_read(&p->a, f->m->graph, node, e);
    if (status || !check_backward(p, f, node, &before)) return status;
    status = check_forward(p, f, &behind);
    if (!status) return 0;
    affine_fini(&p->a);
    return err_set(e, status, "before it: %s; behind it: %s", before.text, behind.text);
}

static int norm_can(struct folding *f, int node, struct err *e) {
    struct plan p;
    int status = make_plan(&p, f, node, e);
    if (!status) affine_fini(&p.a);
    return status;
}

/* ---- the edit ---- */

static void scale_outputs(struct linear *l, const struct affine *a) {
    int64_t fan_in = linear_fan_in(l);
    for (int64_t o = 0; o < l->out; o++) {
        for (int64_t i = 0; i < fan_in; i++) l->weights[o * fan_in + i] *= a->scale[o];
        l->bias[o] = l->bias[o] * a->scale[o] + a->shift[o];
    }
}

/* With `shifts`, the shift goes into the bias. */
static void scale_inputs(struct linear *l, const struct affine *a, bool shifts) {
    int64_t taps = l->kernel[0] * l->kernel[1], outs = l->out / l->groups;
    double *w = l->weights;
    for (int64_t o = 0; o < l->out; o++)
        for (int64_t i = 0; i < l->in; i++) {
            int64_t channel = o / outs * l->in + i;
            for (int64_t tap = 0; tap < taps; tap++, w++) {
                if (shifts) l->bias[o] += *w * a->shift[channel];
                *w *= a->scale[channel];
            }
        }
}

/* The node becomes an addition of what is left of the shift. */
static int leave_rest(struct folding *f, const struct affine *a, int layer, struct err *e) {
    struct graph *g = f->m->graph;
    struct array *rest;
    struct shape shape = edit_channel_shape(a->channels, edit_axes(g, a->data));
    int constant, made, status = array_new(&rest, DT_FLOAT64, &shape, e);
    if (status) return status;
    for (int64_t c = 0; c < a->channels; c++)
        ((double *)rest->data)[c] = a->scale[c] == 0 ? 0 : a->shift[c] / a->scale[c];
    status = edit_add_constant_take(&constant, g, g->nodes[a->node].name, "rest", rest, e);
    if (!status) status = edit_add_value(&made, g, g->nodes[a->node].name, "shifted", e);
    if (status) return status;
    struct node *n = &g->nodes[a->node];
    while (n->n_attributes) graph_drop_attribute(g, a->node, n->attributes[0].name);
    n->op = op_find("Add");
    n->inputs[0] = a->data;
    n->inputs[1] = constant;
    n->n_inputs = 2;
    fold_make(f, a->node, made);
    g->nodes[layer].inputs[0] = made;
    return 0;
}

/* ---- training that goes on ---- */

/* Scaled weights and bias follow the old ones, W' = s W: see engine/nn/origin.h. Not so when the shift goes into the layer
 * behind: that would make the bias follow the weights as well. */
struct followed {
    int value[2]; /* weights, bias; VALUE_NONE */
    struct origin *origin[2];
};

static int take_followed(struct followed *t, struct graph *g, const struct plan *p, struct err *e) {
    const struct node *n = &g->nodes[p->layer];
    bool plain = node_real(n, "alpha", 1) == 1 && node_real(n, "beta", 1) == 1 && !is_op(g, p->layer, "ConvTranspose");
    bool back = p->direction == BACKWARD, follows = plain && (p->direction != FORWARD || !has_shift(&p->a));
    *t = (struct followed){.value = {n->inputs[1], back && n->n_inputs > 2 ? n->inputs[2] : VALUE_NONE}};
    int status = follows ? origin_begin(&t->origin[0], g, t->value[0], e) : 0;
    if (!status && follows && t->value[1] != VALUE_NONE) status = origin_begin(&t->origin[1], g, t->value[1], e);
    return status;
}

static int give_followed(struct followed *t, struct graph *g, const struct plan *p, const struct linear *l,
                         struct err *e) {
    struct scaling s = {
        .by = p->a.scale, .channels = p->a.channels, .groups = l->groups, .outputs = p->direction == BACKWARD};
    int status = 0;
    for (int k = 0; k < 2 && !status; k++) {
        struct err lost = {0};
        if (!t->origin[k]) continue;
        s.columns = !k && l->columns;
        status = origin_scale(t->origin[k], &g->values[t->value[k]].constant->shape, &s, &lost);
        if (status == E_INVALID) return 0;
        if (status) return err_set(e, status, "%s", lost.text);
        status = origin_end(g, t->value[k], t->origin[k], 0, NULL, e);
        t->origin[k] = NULL;
    }
    return status;
}

static void followed_fini(struct followed *t) {
    for (int k = 0; k < 2; k++) origin_free(t->origin[k]);
}

static int apply_plan(struct folding *f, const struct plan *p, int node, struct err *e) {
    static const char *const how[] = {
        [BACKWARD] = "into the layer before it",
        [FORWARD] = "into the layer behind it",
        [SCALE_ONLY] = "its scale into the layer behind it, which pads: a shift stays in front",
    };
    struct graph *g = f->m->graph;
    struct linear l;
    int status = linear_read(&l, g, p->layer, e);
    if (status) return status;
    if (p->direction == BACKWARD)
        scale_outputs(&l, &p->a);
    else
        scale_inputs(&l, &p->a, p->direction == FORWARD);
    struct followed followed = {{0}, {0}};
    if (!status) status = take_followed(&followed, g, p, e);
    if (!status) status = linear_write(g, &l, e);
    if (!status) status = give_followed(&followed, g, p, &l, e);
    followed_fini(&followed);
    linear_fini(&l);
    if (status) return status;
    f->norms = f->norms || is_op(g, node, "BatchNormalization");
    fold_done(f, node, p->layer, how[p->direction]);
    if (p->direction == SCALE_ONLY) return leave_rest(f, &p->a, p->layer, e);
    fold_drop(f, node);
    if (p->direction == BACKWARD)
        fold_make(f, p->layer, p->a.made);
    else
        g->nodes[p->layer].inputs[0] = p->a.data;
    return 0;
}

static int norm_apply(struct folding *f, int node, struct err *e) {
    struct plan p;
    int status = make_plan(&p, f, node, e);
    if (status) return status;
    if (!f->busy[node] && !f->busy[p.layer]) status = apply_plan(f, &p, node, e);
    affine_fini(&p.a);
    return status;
}

const struct fold_way fold_norm = {"norm", norm_can, norm_apply};
