/* fold_chain.c - two linear layers in a row become one, where that is exact at the borders too (filter_chain); and nodes
 * that do nothing go. */
#include <string.h>

#include "base/memory.h"
#include "engine/nn/op.h"
#include "engine/surgery/filter.h"
#include "engine/surgery/fold.h"

enum { BETWEEN_MOST = 8 };

struct chain {
    int first, second;
    int between[BETWEEN_MOST], n_between; /* nodes that do nothing */
};

/* What a node that does nothing gives out: its operand that is computed. */
static int data_of(const struct graph *g, int node) {
    const struct node *n = &g->nodes[node];
    return g->values[n->inputs[0]].constant ? n->inputs[1] : n->inputs[0];
}

static bool is_dense(const struct graph *g, int node) {
    return g->values[g->nodes[node].inputs[1]].shape.rank == 2;
}

static int find_chain(struct chain *c, const struct folding *f, int node, struct err *e) {
    const struct graph *g = f->m->graph;
    *c = (struct chain){.second = node};
    int status = fold_check_layer(f, node, e), reader = node;
    if (status) return status;
    int value = g->nodes[node].inputs[0];
    for (;; value = data_of(g, reader)) {
        c->first = g->values[value].producer;
        if (c->first < 0) return err_set(e, E_UNSUPPORTED, "no layer stands before it, but the network's input");
        if (uses_only_reader(f->uses, value) != reader)
            return err_set(e, E_UNSUPPORTED, "what '%s' before it makes is read elsewhere too",
                           g->nodes[c->first].name);
        if (!linear_is_nothing(g, c->first) || c->n_between == BETWEEN_MOST) break;
        reader = c->between[c->n_between++] = c->first;
    }
    status = fold_check_layer(f, c->first, e);
    if (status) return err_prefix(e, "before it, '%s'", g->nodes[c->first].name);
    const char *first = g->nodes[c->first].op->name, *second = g->nodes[node].op->name;
    if (strcmp(second, "ConvTranspose") == 0 || strcmp(first, "ConvTranspose") == 0 ||
        is_dense(g, node) != is_dense(g, c->first))
        return err_set(e, E_UNSUPPORTED, "%s %s and %s %s do not become one layer", edit_article(first), first,
                       edit_article(second), second);
    return 0;
}

/* ---- merging numbers ---- */

/* Before room is made for them: fewer groups or larger kernels can be any number of times the weights. */
static int check_size(double weights, struct err *e) {
    if (weights <= LINEAR_WEIGHTS_MOST) return 0;
    return err_set(e, E_TOO_LARGE, "one layer for both would need %.0f weights on the way; at most %d are taken",
                   weights, LINEAR_WEIGHTS_MOST);
}

/* The layer with fewer groups, which must divide those it has; the new weights are zeros. */
static int regroup(struct linear *l, int64_t groups, struct err *e) {
    int64_t taps = l->kernel[0] * l->kernel[1], times = l->groups / groups, outs = l->out / l->groups;
    if (times == 1) return 0;
    int status = check_size((double)l->out * (double)(l->in * times) * (double)taps, e);
    if (status) return status;
    double *wide = mem_calloc((size_t)(l->out * l->in * taps * times), sizeof *wide);
    if (!wide) return err_memory(e, (size_t)(l->out * l->in * taps * times) * sizeof *wide);
    for (int64_t o = 0; o < l->out; o++)
        memcpy(wide + (o * times + o / outs % times) * l->in * taps, l->weights + o * l->in * taps,
               (size_t)(l->in * taps) * sizeof *wide);
    mem_free(l->weights);
    l->weights = wide;
    l->in *= times;
    l->groups = groups;
    return 0;
}

static struct filter filter_of(const struct linear *l, int64_t group) {
    int64_t outs = l->out / l->groups;
    return (struct filter){(int)outs, (int)l->in, (int)l->kernel[0], (int)l->kernel[1],
                           l->weights + group * outs * linear_fan_in(l)};
}

static int window_of(struct filter_window *out, const struct graph *g, const struct linear *l, struct err *e) {
    struct edit_window w = {.stride = {1, 1}, .dilation = {1, 1}};
    int status = l->axes ? linear_window(&w, g, l->node, l->kernel, e) : 0;
    for (int a = 0; a < 2 && !status; a++) {
        if (w.stride[a] > 4096 || w.dilation[a] > 4096 || w.begin[a] > 4096 || w.end[a] > 4096)
            return err_set(e, E_UNSUPPORTED, "its window is too large to be merged");
        out->stride[a] = (int)w.stride[a], out->dilation[a] = (int)w.dilation[a];
        out->begin[a] = (int)w.begin[a], out->end[a] = (int)w.end[a];
    }
    return status;
}

static int refuse_border(struct err *e) {
    return err_set(e, E_UNSUPPORTED,
                   "the second of the two pads what the first gives it with zeros, where one layer would see a bias or "
                   "more of the image: the border would be wrong");
}

/* One group of the chain into the merged layer, whose sizes the first group decides. */
static int merge_group(struct linear *out, struct filter_window *window, const struct graph *g, const struct linear *a,
                       const struct linear *b, int64_t group, struct err *e) {
    struct filter_chain c;
    struct filter_window wa, wb;
    struct filter fa = filter_of(a, group), fb = filter_of(b, group);
    int status = window_of(&wa, g, a, e);
    if (!status) status = window_of(&wb, g, b, e);
    if (!status) status = filter_chain(&c, &fa, &wa, a->bias + group * fa.out, &fb, &wb, b->bias + group * fb.out, e);
    if (status) return status;
    if (!group) {
        out->kernel[0] = c.filter.h, out->kernel[1] = c.filter.w;
        *window = c.window;
        status = check_size((double)out->groups * (double)filter_count(&c.filter), e);
        if (!status) out->weights = mem_calloc((size_t)(out->out * linear_fan_in(out)), sizeof *out->weights);
        if (!status && !out->weights)
            status = err_memory(e, (size_t)(out->out * linear_fan_in(out)) * sizeof *out->weights);
    }
    if (!status && !c.exact) status = refuse_border(e);
    if (!status) {
        memcpy(out->weights + (size_t)group * filter_count(&c.filter), c.filter.data,
               filter_count(&c.filter) * sizeof *out->weights);
        memcpy(out->bias + group * fb.out, c.bias, (size_t)fb.out * sizeof *out->bias);
    }
    filter_chain_fini(&c);
    return status;
}

static int merge(struct linear *out, struct filter_window *window, const struct graph *g, struct linear *a,
                 struct linear *b, struct err *e) {
    int status = 0;
    if (a->groups != b->groups) status = regroup(a, 1, e);
    if (!status && a->groups != b->groups) status = regroup(b, 1, e);
    *out = *a;
    out->out = b->out;
    out->has_bias = a->has_bias || b->has_bias;
    out->weights = NULL;
    out->bias = mem_calloc((size_t)b->out, sizeof *out->bias);
    if (!status && !out->bias) status = err_memory(e, (size_t)b->out * sizeof *out->bias);
    for (int64_t i = 0; i < a->groups && !status; i++) status = merge_group(out, window, g, a, b, i, e);
    return status;
}

/* ---- cost ---- */

/* Pixels of a value per channel; 1 for rows and for what is open. */
static double pixels_of(const struct graph *g, int value) {
    const struct shape *s = &g->values[value].shape;
    double n = 1;
    for (int d = 2; d < s->rank; d++) n *= s->dim[d] > 0 ? (double)s->dim[d] : 1;
    return n;
}

/* Before anything is multiplied: what the merged layer would cost. */
static int check_cost(const struct graph *g, const struct linear *a, const struct linear *b, struct err *e) {
    double ka = (double)(a->kernel[0] * a->kernel[1]), kb = (double)(b->kernel[0] * b->kernel[1]), taps = 1;
    struct filter_window wa, wb;
    int status = window_of(&wa, g, a, e);
    if (!status) status = window_of(&wb, g, b, e);
    if (status) return status;
    for (int k = 0; k < 2; k++) taps *= (double)(a->kernel[k] + (b->kernel[k] - 1) * wa.stride[k]);
    double groups = a->groups == b->groups ? (double)a->groups : 1;
    double wa_n = (double)(a->out * a->in) * ka, wb_n = (double)(b->out * b->in) * kb;
    double merged = (double)b->out * (double)(a->in * a->groups) / groups * taps;
    double before = wa_n * pixels_of(g, a->made) + wb_n * pixels_of(g, b->made);
    double after = merged * pixels_of(g, b->made);
    if (merged <= wa_n + wb_n && after <= before) return 0;
    return err_set(e, E_UNSUPPORTED,
                   "merged with '%s' it would have %.0f weights instead of %.0f and take %.3g multiply-adds instead of "
                   "%.3g; mode chain does it all the same",
                   g->nodes[a->node].name, merged, wa_n + wb_n, after, before);
}

/* ---- the way ---- */

struct merged {
    struct linear layer; /* owned */
    struct filter_window window;
};

static int merge_chain(struct merged *out, struct folding *f, const struct chain *c, struct err *e) {
    const struct graph *g = f->m->graph;
    struct linear a = {0}, b = {0};
    *out = (struct merged){0};
    int status = linear_read(&a, g, c->first, e);
    if (!status) status = linear_read(&b, g, c->second, e);
    if (!status && f->thrifty) status = check_cost(g, &a, &b, e);
    if (!status) status = merge(&out->layer, &out->window, g, &a, &b, e);
    if (status) linear_fini(&out->layer);
    linear_fini(&a);
    linear_fini(&b);
    return status;
}

/* Taps of the merged layer from tap to tap of the two: filter_chain, in pixels. */
static int meeting_of(struct fold_meeting *out, const struct graph *g, const struct linear *a, const struct linear *b,
                      const struct merged *merged, struct err *e) {
    struct filter_window wa, wb;
    *out = (struct fold_meeting){.groups = merged->layer.groups};
    int status = window_of(&wa, g, a, e);
    if (!status) status = window_of(&wb, g, b, e);
    for (int axis = 0; axis < 2 && !status; axis++) {
        out->step[0][axis] = wa.dilation[axis] / merged->window.dilation[axis];
        out->step[1][axis] = wa.stride[axis] * wb.dilation[axis] / merged->window.dilation[axis];
    }
    return status;
}

static int write_merged(struct graph *g, const struct chain *c, const struct merged *merged, struct err *e) {
    struct linear a, b;
    struct fold_meeting how;
    struct edit_window w;
    linear_describe(&a, g, c->first);
    linear_describe(&b, g, c->second);
    for (int axis = 0; axis < 2; axis++) {
        w.stride[axis] = merged->window.stride[axis], w.dilation[axis] = merged->window.dilation[axis];
        w.begin[axis] = merged->window.begin[axis], w.end[axis] = merged->window.end[axis];
    }
    int status = meeting_of(&how, g, &a, &b, merged, e);
    return status ? status : fold_write(g, &merged->layer, &w, &a, &b, &how, e);
}

static int chain_can(struct folding *f, int node, struct err *e) {
    struct chain c;
    struct merged merged;
    int status = find_chain(&c, f, node, e);
    if (!status) status = merge_chain(&merged, f, &c, e);
    if (!status) linear_fini(&merged.layer);
    return status;
}

static bool is_busy(const struct folding *f, const struct chain *c) {
    bool busy = f->busy[c->first] || f->busy[c->second];
    for (int i = 0; i < c->n_between; i++) busy = busy || f->busy[c->between[i]];
    return busy;
}

static int chain_apply(struct folding *f, int node, struct err *e) {
    struct graph *g = f->m->graph;
    struct chain c;
    struct merged merged;
    int status = find_chain(&c, f, node, e);
    if (status || is_busy(f, &c)) return status;
    status = merge_chain(&merged, f, &c, e);
    if (status) return status;
    int made = g->nodes[c.second].outputs[0];
    status = write_merged(g, &c, &merged, e);
    linear_fini(&merged.layer);
    if (status) return status;
    fold_done(f, c.second, c.first, "two linear layers as one");
    for (int i = 0; i < c.n_between; i++) fold_drop(f, c.between[i]);
    fold_drop(f, c.second);
    fold_make(f, c.first, made);
    return 0;
}

const struct fold_way fold_chain = {"chain", chain_can, chain_apply};

/* ---- nothing ---- */

static int nothing_can(struct folding *f, int node, struct err *e) {
    const struct graph *g = f->m->graph;
    const struct node *n = &g->nodes[node];
    if (!linear_is_nothing(g, node))
        return err_set(e, E_UNSUPPORTED, "%s %s changes what it takes", edit_article(n->op->name), n->op->name);
    int from = data_of(g, node);
    if (!shape_equal(&g->values[from].shape, &g->values[n->outputs[0]].shape) || g->values[from].constant)
        return err_set(e, E_UNSUPPORTED, "it spreads what it takes to another shape");
    for (int i = 0; i < g->n_outputs; i++)
        if (g->outputs[i] == n->outputs[0] && (g->values[from].producer < 0 || uses_only_reader(f->uses, from) != node))
            return err_set(e, E_UNSUPPORTED, "it makes the network's output of a value that is read elsewhere too");
    return 0;
}

static int nothing_apply(struct folding *f, int node, struct err *e) {
    struct graph *g = f->m->graph;
    int from = data_of(g, node), to = g->nodes[node].outputs[0], maker = g->values[from].producer;
    bool is_output = false, busy = f->busy[node] || (maker >= 0 && f->busy[maker]);
    (void)e;
    for (int i = 0; i < g->n_outputs; i++) is_output = is_output || g->outputs[i] == to;
    const int *reader = f->uses->nodes + f->uses->first[to], *end = f->uses->nodes + f->uses->first[to + 1];
    for (const int *r = reader; r < end; r++) busy = busy || f->busy[*r];
    if (busy) return 0; /* and else its readers are those that were counted */
    fold_done(f, node, maker < 0 ? node : maker, "did nothing");
    fold_drop(f, node);
    if (is_output) {
        for (int k = 0; k < g->nodes[maker].n_outputs; k++)
            if (g->nodes[maker].outputs[k] == from) g->nodes[maker].outputs[k] = to;
        g->values[to].producer = maker;
        g->values[from].producer = -1;
        return 0;
    }
    for (; reader < end; reader++)
        for (int k = 0; k < g->nodes[*reader].n_inputs; k++)
            if (g->nodes[*reader].inputs[k] == to) g->nodes[*reader].inputs[k] = from, f->busy[*reader] = true;
    return 0;
}

const struct fold_way fold_nothing = {"nothing", nothing_can, nothing_apply};
