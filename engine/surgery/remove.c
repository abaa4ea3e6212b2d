/* remove.c - less depth, where that is exact: layers that give out what they take.
 *
 *   identity   convolutions and products by the identity, normalisations that neither scale nor shift, activations of
 *              slope 1, additions of a branch that is zero (with the whole branch)
 *   anneal     an activation between two linear layers that training has made linear, P-activations of Network Morphism
 *              (Wei et al. 2016, arXiv:1603.01670) read backwards: train its slope to 1, then it goes and the layers
 *              become one where the border allows it */
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "engine/nn/op.h"
#include "engine/surgery/constancy.h"
#include "engine/surgery/edit.h"
#include "engine/surgery/linear.h"
#include "engine/surgery/morph.h"

extern const struct morph_kind morph_fold;

static bool is_op(const struct node *n, const char *name) {
    return strcmp(n->op->name, name) == 0;
}

static bool is_anneal(const struct morph_step *s) {
    return strcmp(s->mode, "anneal") == 0;
}

/* ---- what gives out what it takes ---- */

/* The only weight that is not zero is a one that reads the pixel itself; no bias. */
static int check_identity(const struct linear *l, const struct edit_window *w, struct err *e) {
    int64_t taps = l->kernel[0] * l->kernel[1], outs = l->out / l->groups;
    if (l->out != l->in * l->groups) return err_set(e, E_UNSUPPORTED, "it changes the number of channels");
    for (int a = 0; a < 2; a++)
        if (w->stride[a] != 1 || w->begin[a] % w->dilation[a] || w->begin[a] / w->dilation[a] >= l->kernel[a])
            return err_set(e, E_UNSUPPORTED, "its window moves the image or leaves pixels out");
    int64_t middle = w->begin[0] / w->dilation[0] * l->kernel[1] + w->begin[1] / w->dilation[1];
    for (int64_t o = 0; o < l->out; o++) {
        if (l->bias[o] != 0) return err_set(e, E_UNSUPPORTED, "it has a bias");
        for (int64_t k = 0; k < l->in * taps; k++)
            if (l->weights[o * l->in * taps + k] != (k == o % outs * taps + middle))
                return err_set(e, E_UNSUPPORTED, "its weights are not those of the identity");
    }
    return 0;
}

static int pass_layer(int *from, const struct graph *g, int node, struct err *e) {
    struct linear l;
    struct edit_window w = {.stride = {1, 1}, .dilation = {1, 1}};
    int status = linear_read(&l, g, node, e);
    if (status) return status;
    if (l.kind == LINEAR_TRANSPOSED) status = err_set(e, E_UNSUPPORTED, "a ConvTranspose is not looked at");
    if (!status && l.axes) status = linear_window(&w, g, node, l.kernel, e);
    if (!status) status = check_identity(&l, &w, e);
    *from = l.data;
    linear_fini(&l);
    return status;
}

static int pass_affine(int *from, const struct graph *g, int node, struct err *e) {
    struct affine a;
    int status = affine_read(&a, g, node, e);
    if (status) return status;
    for (int64_t c = 0; c < a.channels && !status; c++)
        if (a.scale[c] != 1 || a.shift[c] != 0)
            status = err_set(e, E_UNSUPPORTED, "it scales channel %lld by %g and shifts it by %g", (long long)c,
                             a.scale[c], a.shift[c]);
    *from = a.data;
    affine_fini(&a);
    return status;
}

/* An addition of something that is zero whatever the input. */
static int pass_sum(int *from, struct morphing *m, int node, struct err *e) {
    const struct graph *g = m->graph;
    const struct node *n = &g->nodes[node];
    const struct constancy *k;
    int status = morphing_constancy(&k, m, e);
    if (status) return status;
    status = err_set(e, E_UNSUPPORTED, "neither of the values that it adds is zero whatever the input");
    for (int i = 0; i < 2 && status; i++) {
        const double *x = k->values[n->inputs[i]];
        bool zero = x != NULL;
        for (int64_t c = 0; zero && c < g->values[n->inputs[i]].shape.dim[1]; c++) zero = x[c] == 0;
        if (!zero) continue;
        *from = n->inputs[1 - i];
        status = 0;
        if (e) err_clear(e);
    }
    return status;
}

static int explain_slope(int *from, const struct graph *g, int node, struct err *e) {
    const struct node *n = &g->nodes[node];
    double low = HUGE_VAL, high = -HUGE_VAL;
    *from = n->inputs[0];
    if (linear_is_nothing(g, node) && !is_op(n, "Identity")) return 0;
    if (is_op(n, "LeakyRelu")) {
        low = high = node_real(n, "alpha", 0.01);
    } else if (is_op(n, "PRelu") && g->values[n->inputs[1]].constant) {
        for (size_t i = 0; i < g->values[n->inputs[1]].constant->count; i++) {
            double x;
            array_to_double(&x, g->values[n->inputs[1]].constant, i, 1);
            low = fmin(low, x), high = fmax(high, x);
        }
    } else {
        return err_set(
            e, E_UNSUPPORTED,
            "%s %s has no slope to anneal: the step activation makes a PRelu of it, whose slope training brings to 1",
            edit_article(n->op->name), n->op->name);
    }
    return err_set(e, E_UNSUPPORTED,
                   "its slope is %g to %g: train it to exactly 1 first (a PRelu of slope 1 is linear), then it goes "
                   "without a change",
                   low, high);
}

/* The value that the node gives out as it is. */
static int passed_on(int *from, struct morphing *m, int node, const struct morph_step *s, struct err *e) {
    const struct graph *g = m->graph;
    const struct node *n = &g->nodes[node];
    if (is_anneal(s)) return explain_slope(from, g, node, e);
    if (linear_is_nothing(g, node)) {
        *from = n->inputs[g->values[n->inputs[0]].constant ? 1 : 0];
        return 0;
    }
    if (is_op(n, "Conv") || is_op(n, "ConvTranspose") || is_op(n, "Gemm") || is_op(n, "MatMul"))
        return pass_layer(from, g, node, e);
    if (is_op(n, "Add") && !g->values[n->inputs[0]].constant && !g->values[n->inputs[1]].constant)
        return pass_sum(from, m, node, e);
    struct err refused = {0};
    if (!affine_check(g, node, &refused)) return pass_affine(from, g, node, e);
    return err_set(e, E_UNSUPPORTED, "%s %s changes what it takes", edit_article(n->op->name), n->op->name);
}

static bool is_output(const struct graph *g, int value) {
    for (int i = 0; i < g->n_outputs; i++)
        if (g->outputs[i] == value) return true;
    return false;
}

static int check(int *from, struct morphing *m, int node, const struct morph_step *s, struct err *e) {
    const struct graph *g = m->graph;
    int made = g->nodes[node].outputs[0], status = passed_on(from, m, node, s, e);
    if (status) return status;
    if (!shape_equal(&g->values[*from].shape, &g->values[made].shape))
        return err_set(e, E_UNSUPPORTED, "it gives out another shape than it takes");
    if (is_output(g, made) && (g->values[*from].producer < 0 || is_output(g, *from)))
        return err_set(e, E_UNSUPPORTED, "the network's output would be its input, or another output");
    return 0;
}

static int remove_can(struct morphing *m, int node, const struct morph_step *s, struct err *e) {
    int from;
    return check(&from, m, node, s, e);
}

/* ---- taking it out ---- */

static void rewire(struct graph *g, int from, int to) {
    for (int i = 0; i < g->n_nodes; i++)
        for (int k = 0; k < g->nodes[i].n_inputs; k++)
            if (g->nodes[i].inputs[k] == from) g->nodes[i].inputs[k] = to;
}

/* Whoever read what the node made reads what it passed on; the network's output keeps its name. */
static void bypass(struct graph *g, int node, int from) {
    int made = g->nodes[node].outputs[0];
    g->nodes[node].n_inputs = g->nodes[node].n_outputs = 0;
    g->values[made].producer = -1;
    if (!is_output(g, made)) {
        rewire(g, made, from);
        return;
    }
    int maker = g->values[from].producer;
    for (int k = 0; k < g->nodes[maker].n_outputs; k++)
        if (g->nodes[maker].outputs[k] == from) g->nodes[maker].outputs[k] = made;
    g->values[made].producer = maker;
    g->values[from].producer = -1;
    rewire(g, from, made);
}

/* Nodes that nothing read before are kept: a final Softmax is one while the logits stand for the output. */
static void need_ends(bool *needed, const struct graph *g, const struct uses *before) {
    for (int i = 0; i < g->n_outputs; i++) needed[g->outputs[i]] = true;
    for (int i = 0; i < g->n_nodes; i++) {
        const struct node *n = &g->nodes[i];
        bool read = false;
        for (int k = 0; k < n->n_outputs; k++)
            read = read || (n->outputs[k] != VALUE_NONE && before->readers[n->outputs[k]] > 0);
        for (int k = 0; k < n->n_outputs && !read; k++)
            if (n->outputs[k] != VALUE_NONE) needed[n->outputs[k]] = true;
    }
}

/* Marks what no output and no end depends on; *drop with mem_free. before: who read what before the bypassing. */
static int find_dead(bool **drop, const struct graph *g, const struct uses *before, struct err *e) {
    bool *needed = mem_calloc((size_t)g->n_values + 1, sizeof *needed), changed = true;
    *drop = mem_calloc((size_t)g->n_nodes + 1, sizeof **drop);
    if (!needed || !*drop) {
        mem_free(needed);
        return err_memory(e, (unsigned long long)g->n_values);
    }
    need_ends(needed, g, before);
    for (int i = 0; i < g->n_nodes; i++) (*drop)[i] = true;
    while (changed) { /* once in the order of a finished graph, and once more for nothing */
        changed = false;
        for (int i = g->n_nodes - 1; i >= 0; i--) {
            bool lives = false;
            for (int k = 0; k < g->nodes[i].n_outputs; k++)
                lives = lives || (g->nodes[i].outputs[k] != VALUE_NONE && needed[g->nodes[i].outputs[k]]);
            if (!lives || !(*drop)[i]) continue;
            (*drop)[i] = false;
            changed = true;
            for (int k = 0; k < g->nodes[i].n_inputs; k++)
                if (g->nodes[i].inputs[k] != VALUE_NONE) needed[g->nodes[i].inputs[k]] = true;
        }
    }
    mem_free(needed);
    return 0;
}

/* Drops what bypassing has left over. */
static int sweep(struct morphing *m, struct err *e) {
    const struct uses *before;
    bool *drop = NULL;
    int status = morphing_uses(&before, m, e); /* which stay those before, until the graph is finished again */
    if (!status) status = find_dead(&drop, m->graph, before, e);
    if (!status) status = graph_drop_nodes(m->graph, drop, e);
    if (!status) status = linear_sweep(m->graph, e);
    mem_free(drop);
    return status ? status : morphing_finish(m, e);
}

/* The layers on both sides of an activation that went, as one where that is exact. */
static int merge(struct morphing *m, const char *second, struct json_writer *w, struct err *e) {
    struct morph_step s = {.mode = "chain"};
    struct err why = {0};
    int node = graph_find_node(m->graph, second);
    if (node < 0) return 0;
    text_copy(s.layer, sizeof s.layer, second);
    int status = morph_fold.can(m, node, &s, &why);
    if (status == E_NOMEM) return err_set(e, status, "%s", why.text);
    if (w && status) json_put_string(w, "not_merged", why.text);
    if (w && !status) json_put_string(w, "merged", second);
    return status ? 0 : morph_fold.apply(m, &node, 1, &s, NULL, e);
}

/* *left: nodes were bypassed that the graph still has, as it is enough to drop them all at once. */
static int remove_one(struct morphing *m, bool *left, const char *name, const struct morph_step *s,
                      struct json_writer *w, struct err *e) {
    int from, node = graph_find_node(m->graph, name);
    const struct uses *uses;
    char second[GRAPH_MAX_NAME + 1] = "";
    struct err refused = {0};
    if (node < 0) return 0; /* it was in a branch that went as a whole */
    bool nothing = !is_anneal(s) && linear_is_nothing(m->graph, node);
    int status = *left && !nothing ? sweep(m, e) : morphing_tick(m, e);
    if (!nothing) *left = false, node = graph_find_node(m->graph, name); /* the sweep may have moved it */
    if (status || node < 0) return status;
    status = morphing_uses(&uses, m, e);
    if (!status) status = check(&from, m, node, s, &refused);
    if (status) return status == E_NOMEM ? err_set(e, status, "%s", refused.text) : 0;
    int reader = uses_only_reader(uses, m->graph->nodes[node].outputs[0]);
    if (reader >= 0) text_copy(second, sizeof second, m->graph->nodes[reader].name);
    if (w) json_open_object(w, NULL);
    if (w) json_put_string(w, "layer", name);
    bypass(m->graph, node, from);
    *left = nothing;
    status = nothing ? 0 : sweep(m, e);
    if (!status && is_anneal(s) && second[0]) status = merge(m, second, w, e);
    if (w) json_close_object(w);
    return status;
}

static int remove_apply(struct morphing *m, const int *nodes, int n, const struct morph_step *s, struct json_writer *w,
                        struct err *e) {
    char **names = mem_calloc((size_t)n + 1, sizeof *names); /* as indices change with every layer */
    int status = names ? 0 : err_memory(e, (size_t)n * sizeof *names), before = m->graph->n_nodes;
    bool left = false;
    for (int i = 0; i < n && !status; i++) {
        names[i] = mem_string(m->graph->nodes[nodes[i]].name);
        if (!names[i]) status = err_memory(e, GRAPH_MAX_NAME);
    }
    if (w) json_open_array(w, "removed");
    for (int i = 0; i < n && !status; i++) status = remove_one(m, &left, names[i], s, w, e);
    if (!status && left) status = sweep(m, e);
    if (w) json_close_array(w);
    if (w) json_put_int(w, "layers_before", before);
    if (w && !status) json_put_int(w, "layers_after", m->graph->n_nodes);
    for (int i = 0; i < n && names; i++) mem_free(names[i]);
    mem_free(names);
    return status;
}

static const char *const samples[] = {NULL}; /* random networks have nothing that does nothing */

const struct morph_kind morph_remove = {
    .name = "remove",
    .summary = "fewer layers: those that give out what they take",
    .takes = "",
    .modes = "identity anneal",
    .training = "a normalisation that does nothing in use still normalises the batch in training",
    .samples = samples,
    .can = remove_can,
    .apply = remove_apply,
};
