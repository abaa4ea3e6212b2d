/* activation.c - nonlinearity where there was none: P-activations, (1 - a) f(x) + a x, at a = 1 the identity (Modularized
 * Morphing, Wei et al. 2017, equation 8). For f = Relu that is PRelu with slope a, one per channel.
 *
 *   insert   a PRelu of slope 1 behind a layer (and its normalisation) that no activation follows
 *   anneal   changes nothing: says which slopes a training has to lead from 1 to 0, after which a PRelu is a Relu
 *   linear   the way back: takes out a PRelu all of whose slopes are 1
 *   relu     the way's end: a PRelu all of whose slopes are 0 becomes a Relu */
#include <string.h>

#include "base/memory.h"
#include "engine/nn/op.h"
#include "engine/surgery/edit.h"
#include "engine/surgery/linear.h"

static bool in_mode(const struct morph_step *s, const char *mode) {
    return strcmp(s->mode, mode) == 0;
}

/* ---- inserting ---- */

/* Operators that hand on the numbers they read, or some of them, elsewhere. */
#define MOVES "Concat Dropout Flatten GlobalMaxPool Identity MaxPool Reshape Squeeze Transpose Unsqueeze"

enum { UNREAD = -1, PAST = -2 };

/* Where a node leads what it reads: to a Relu, itself or one behind it, or PAST. */
static int clip_behind(const struct graph *g, const int *clips, int node) {
    const struct node *n = &g->nodes[node];
    if (strcmp(n->op->name, "Relu") == 0) return node;
    bool moves = param_word_index(MOVES, n->op->name) >= 0 && n->n_outputs && n->outputs[0] != VALUE_NONE;
    int clip = moves ? clips[n->outputs[0]] : PAST;
    return clip == UNREAD ? PAST : clip;
}

/* Per value the Relu at which everything that reads it ends, with nothing but moves on the way: behind it no negative
 * number is left, and the slope of these would never learn. PAST: some of it gets past. One pass from the last node to
 * the first, since there can be more ways through the moves than anybody could walk. */
static int find_clips(struct morphing *m, struct err *e) {
    const struct graph *g = m->graph;
    if (m->clips) return 0;
    int *clips = m->clips = mem_calloc((size_t)g->n_values + 1, sizeof *clips);
    if (!clips) return err_memory(e, (size_t)g->n_values * sizeof *clips);
    for (int v = 0; v < g->n_values; v++) clips[v] = UNREAD;
    for (int i = 0; i < g->n_outputs; i++) clips[g->outputs[i]] = PAST;
    for (int i = g->n_nodes - 1; i >= 0; i--) {
        int clip = clip_behind(g, clips, i);
        for (int k = 0; k < g->nodes[i].n_inputs; k++) {
            int v = g->nodes[i].inputs[k];
            if (v != VALUE_NONE && (clips[v] == UNREAD || clip == PAST)) clips[v] = clip;
        }
    }
    return 0;
}

static int find_point(struct edit_tail *tail, struct morphing *m, int node, struct err *e) {
    struct edit_layer l;
    const struct uses *u;
    int status = morphing_uses(&u, m, e);
    if (!status) status = find_clips(m, e);
    if (!status) status = edit_layer(&l, m->graph, node, e);
    if (status) return status;
    edit_tail(tail, m->graph, u, node);
    if (tail->activation >= 0)
        return err_set(e, E_INVALID, "an activation follows it already, '%s' (%s)",
                       m->graph->nodes[tail->activation].name, m->graph->nodes[tail->activation].op->name);
    for (int i = 0; i < m->graph->n_outputs; i++)
        if (m->graph->outputs[i] == tail->end) return err_set(e, E_INVALID, "its result is the network's output");
    int clip = m->clips[tail->end];
    if (clip >= 0)
        return err_set(e, E_INVALID, "its result only goes to an activation, '%s' (%s): the slopes would never learn",
                       m->graph->nodes[clip].name, m->graph->nodes[clip].op->name);
    if (edit_axes(m->graph, tail->end) < 0 || m->graph->values[tail->end].shape.dim[1] < 1)
        return err_set(e, E_UNSUPPORTED, "the shape of its result is not known");
    return 0;
}

static int insert(struct morphing *m, int node, struct err *e) {
    struct graph *g = m->graph;
    struct edit_tail tail;
    int before, slopes, status = find_point(&tail, m, node, e);
    if (status) return status;
    struct shape shape = edit_channel_shape(g->values[tail.end].shape.dim[1], edit_axes(g, tail.end));
    const char *stem = g->nodes[node].name;
    status = edit_split_value(&before, g, tail.end, stem, "linear", e);
    if (!status) status = edit_add_filled(&slopes, g, stem, "activation_slope", &shape, 1, e);
    if (!status) status = edit_add_node(NULL, g, "PRelu", stem, "activation", (int[]){before, slopes}, 2, tail.end, e);
    return status;
}

/* ---- slopes that are there ---- */

static int check_slopes(const struct graph *g, int node, double wish, struct err *e) {
    const struct node *n = &g->nodes[node];
    if (strcmp(n->op->name, "PRelu") != 0)
        return err_set(e, E_UNSUPPORTED, "%s %s has no slopes: this is for PRelu", edit_article(n->op->name),
                       n->op->name);
    const struct array *a = g->values[n->inputs[1]].constant;
    if (!a || g->values[n->inputs[0]].constant)
        return err_set(e, E_UNSUPPORTED, "its slopes are computed, or what it reads is not");
    for (size_t i = 0; i < a->count && wish >= 0; i++) {
        double slope;
        array_to_double(&slope, a, i, 1);
        if (slope < wish || slope > wish)
            return err_set(e, E_INVALID, "slope %zu is %.9g: only at %g everywhere is it exact", i, slope, wish);
    }
    return 0;
}

/* The slope that all must have; below 0: any. */
static double wished_slope(const struct morph_step *s) {
    return in_mode(s, "linear") ? 1 : in_mode(s, "relu") ? 0 : -1;
}

/* In place of the node one without slopes, of the same name: an Identity, which has no arithmetic. */
static int replace(struct graph *g, int node, const char *op, struct err *e) {
    struct node *n = &g->nodes[node];
    const struct op *found = op_find(op);
    if (!found) return err_set(e, E_INTERNAL, "there is no operator %s", op);
    n->op = found;
    n->n_inputs = 1;
    return 0;
}

/* What the removed node made is made by the node before it, if nothing else reads that; else it is a copy. */
static int bypass(struct graph *g, const struct uses *u, bool *drop, int node, struct err *e) {
    struct node *n = &g->nodes[node];
    int from = n->inputs[0], to = n->outputs[0], producer = g->values[from].producer;
    if (producer < 0 || uses_only_reader(u, from) != node) return replace(g, node, "Identity", e);
    struct node *p = &g->nodes[producer];
    drop[node] = true;
    n->outputs[0] = VALUE_NONE;
    for (int k = 0; k < p->n_outputs; k++)
        if (p->outputs[k] == from) p->outputs[k] = to;
    g->values[to].producer = producer;
    g->values[from].producer = -1;
    return 0;
}

static int take_out(struct morphing *m, const int *nodes, int n, struct err *e) {
    struct graph *g = m->graph;
    const struct uses *u;
    bool *drop = mem_calloc((size_t)g->n_nodes + 1, sizeof *drop);
    int status = drop ? morphing_uses(&u, m, e) : err_memory(e, (unsigned long long)g->n_nodes);
    for (int i = 0; i < n && !status; i++) status = bypass(g, u, drop, nodes[i], e);
    if (!status) status = graph_drop_nodes(g, drop, e);
    mem_free(drop);
    return status;
}

static void tell_slopes(struct json_writer *w, const struct graph *g, const int *nodes, int n) {
    if (!w) return;
    json_open_array(w, "slopes");
    for (int i = 0; i < n; i++) json_put_string(w, NULL, g->values[g->nodes[nodes[i]].inputs[1]].name);
    json_close_array(w);
    json_put_string(w, "how",
                    "train while these slopes are led from 1 to 0, keep them out of weight decay, then use mode relu; "
                    "in between the function changes, which is why it is not a step");
}

/* ---- the step ---- */

static int activation_can(struct morphing *m, int node, const struct morph_step *s, struct err *e) {
    struct edit_tail tail;
    return in_mode(s, "insert") ? find_point(&tail, m, node, e) : check_slopes(m->graph, node, wished_slope(s), e);
}

static int activation_apply(struct morphing *m, const int *nodes, int n, const struct morph_step *s,
                            struct json_writer *w, struct err *e) {
    int status = 0;
    if (in_mode(s, "anneal")) {
        tell_slopes(w, m->graph, nodes, n);
        return 0;
    }
    if (in_mode(s, "linear")) status = take_out(m, nodes, n, e);
    for (int i = 0; i < n && !status && in_mode(s, "insert"); i++) status = insert(m, nodes[i], e);
    for (int i = 0; i < n && !status && in_mode(s, "relu"); i++) status = replace(m->graph, nodes[i], "Relu", e);
    if (!status && !in_mode(s, "insert")) status = linear_sweep(m->graph, e); /* the slopes would be written out */
    return status ? status : morphing_finish(m, e);
}

static const char *const samples[] = {
    "{\"op\":\"activation\",\"layer\":\"*\"}",
    "{\"op\":\"activation\",\"layer\":\"*\",\"mode\":\"anneal\"}",
    "{\"op\":\"activation\",\"layer\":\"*\",\"mode\":\"linear\"}",
    "{\"op\":\"activation\",\"layer\":\"*\",\"mode\":\"relu\"}",
    NULL,
};

const struct morph_kind morph_activation = {
    .name = "activation",
    .summary = "a PRelu of slope 1 where there is no activation, or away with it",
    .takes = "",
    .modes = "insert anneal linear relu",
    .parametric = true,
    .samples = samples,
    .can = activation_can,
    .apply = activation_apply,
};
