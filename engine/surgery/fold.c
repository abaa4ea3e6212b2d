/* fold.c - exact ways to fewer layers and channels: what is linear is merged into its neighbour.
 *
 *   exact       all of the following that make the network neither larger nor slower, until nothing is left
 *   norm        a normalisation, or another scale and shift of channels, into the layer before or behind it
 *   chain       two linear layers in a row
 *   branches    parallel linear branches that meet in an addition
 *   identical   channels that another one repeats, that are constant, or that nobody reads
 *
 * Folding holds for the statistics that inference uses. Training goes on in the layers that were there (fold_merger.c,
 * origin.h), with these statistics. */
#include "engine/surgery/fold.h"

#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "engine/nn/op.h"

static const struct fold_way *const ways[] = {&fold_nothing, &fold_norm, &fold_branches, &fold_chain, NULL};

static bool is_all(const struct morph_step *s) {
    return strcmp(s->mode, "exact") == 0;
}

static bool takes_units(const struct morph_step *s) {
    return is_all(s) || strcmp(s->mode, "identical") == 0;
}

/* Whether the way belongs to the step. */
static bool is_meant(const struct fold_way *way, const struct morph_step *s) {
    return is_all(s) || strcmp(way->mode, s->mode) == 0;
}

/* ---- can ---- */

static bool is_layer(const struct node *n) {
    return strcmp(n->op->name, "Conv") == 0 || strcmp(n->op->name, "Gemm") == 0 || strcmp(n->op->name, "MatMul") == 0 ||
           strcmp(n->op->name, "ConvTranspose") == 0;
}

/* Of several refusals the one that the node's operator makes the reader expect. */
static bool is_telling(const struct fold_way *way, const struct graph *g, const struct node *n) {
    bool adds = strcmp(n->op->name, "Add") == 0 && !g->values[n->inputs[0]].constant &&
                !g->values[n->inputs[n->n_inputs - 1]].constant;
    return way == (is_layer(n) ? &fold_chain : adds ? &fold_branches : &fold_norm);
}

static int fold_can(struct morphing *m, int node, const struct morph_step *s, struct err *e) {
    const struct node *n = &m->graph->nodes[node];
    struct folding f = {.m = m, .thrifty = is_all(s)};
    struct err why = {0}, units = {0};
    int status = morphing_uses(&f.uses, m, e);
    if (status) return status;
    for (int i = 0; ways[i]; i++) {
        struct err refused = {0};
        if (!is_meant(ways[i], s)) continue;
        status = ways[i]->can(&f, node, &refused);
        if (!status) return 0;
        if (status == E_NOMEM) return err_set(e, status, "%s", refused.text);
        if (!why.code || is_telling(ways[i], m->graph, n)) why = refused;
    }
    if (takes_units(s)) {
        status = fold_units_can(m, node, &units);
        if (!status) return 0;
        if (status == E_NOMEM || !why.code) return err_set(e, status, "%s", units.text);
    }
    return err_set(e, why.code, "%s%s%s", why.text, takes_units(s) && is_layer(n) ? "; and of its channels, " : "",
                   takes_units(s) && is_layer(n) ? units.text : "");
}

/* ---- one pass ---- */

int fold_check_layer(const struct folding *f, int node, struct err *e) {
    if (f->busy && f->busy[node]) return err_set(e, E_UNSUPPORTED, "it has just been changed");
    return linear_check_own(f->m->graph, f->uses, node, e);
}

void fold_drop(struct folding *f, int node) {
    struct node *n = &f->m->graph->nodes[node];
    for (int k = 0; k < n->n_outputs; k++)
        if (n->outputs[k] != VALUE_NONE && f->m->graph->values[n->outputs[k]].producer == node)
            f->m->graph->values[n->outputs[k]].producer = -1;
    n->n_outputs = 0; /* graph_drop_nodes would take them from who makes them now */
    n->n_inputs = 0;
    f->drop[node] = true;
}

void fold_make(struct folding *f, int node, int value) {
    struct graph *g = f->m->graph;
    g->values[g->nodes[node].outputs[0]].producer = -1;
    g->nodes[node].outputs[0] = value;
    g->values[value].producer = node;
}

void fold_done(struct folding *f, int node, int into, const char *how) {
    f->n++;
    f->busy[node] = f->busy[into] = true;
    if (!f->w) return;
    json_open_object(f->w, NULL);
    json_put_string(f->w, "layer", f->m->graph->nodes[node].name);
    if (into != node) json_put_string(f->w, "into", f->m->graph->nodes[into].name);
    json_put_string(f->w, "how", how);
    json_close_object(f->w);
}

static int try_node(struct folding *f, int node, const struct morph_step *s, struct err *e) {
    for (int i = 0; ways[i]; i++) {
        struct err refused = {0};
        if (f->busy[node] || !is_meant(ways[i], s)) continue;
        int status = ways[i]->can(f, node, &refused);
        if (status == E_NOMEM) return err_set(e, status, "%s", refused.text);
        status = status ? 0 : ways[i]->apply(f, node, e);
        if (status) return status;
    }
    return 0;
}

/* *changed: how many folds. The graph is finished again. */
static int pass(int *changed, struct folding *f, const struct morph_step *s, struct err *e) {
    struct graph *g = f->m->graph;
    int before = f->n, status = morphing_uses(&f->uses, f->m, e);
    if (status) return status;
    f->busy = mem_calloc((size_t)g->n_nodes + 1, sizeof *f->busy);
    f->drop = mem_calloc((size_t)g->n_nodes + 1, sizeof *f->drop);
    if (!f->busy || !f->drop) status = err_memory(e, (unsigned long long)g->n_nodes);
    for (int i = 0; i < g->n_nodes && !status; i++)
        if (!f->busy[i] && text_matches(s->layer, g->nodes[i].name)) status = try_node(f, i, s, e);
    *changed = f->n - before;
    if (!status && *changed) status = graph_drop_nodes(g, f->drop, e);
    if (!status && *changed) status = linear_sweep(g, e);
    if (!status && *changed) status = morphing_finish(f->m, e);
    mem_free(f->busy);
    mem_free(f->drop);
    f->busy = f->drop = NULL;
    return status;
}

/* Units of the layers that the step means, by name or pattern. */
static int take_units(int *changed, struct folding *f, const struct morph_step *s, struct err *e) {
    const struct graph *g = f->m->graph;
    int n = 0, *nodes = mem_calloc((size_t)g->n_nodes + 1, sizeof *nodes);
    if (!nodes) return err_memory(e, (size_t)g->n_nodes * sizeof *nodes);
    for (int i = 0; i < g->n_nodes; i++)
        if (text_matches(s->layer, g->nodes[i].name)) nodes[n++] = i;
    int status = fold_units(changed, f->m, nodes, n, f->w, e);
    mem_free(nodes);
    return status;
}

static int fold_apply(struct morphing *m, const int *nodes, int n, const struct morph_step *s, struct json_writer *w,
                      struct err *e) {
    struct folding f = {.m = m, .w = w, .thrifty = is_all(s)};
    struct graph_size before = {0}, after = {0};
    int status = graph_measure(&before, m->graph, e), changed = 1, units = 0;
    (void)nodes, (void)n; /* what is folded makes way for more: the step's pattern says which */
    if (w) json_open_array(w, "folds");
    while (changed && !status) { /* units first: each layer still has its own weights to be joined */
        changed = 0;
        if (takes_units(s)) status = take_units(&changed, &f, s, e);
        units += changed;
        for (int more = 1; more && !status; changed += more) status = pass(&more, &f, s, e);
    }
    if (w) json_close_array(w);
    if (!status) status = graph_measure(&after, m->graph, e);
    if (status || !w) return status;
    json_put_int(w, "channels_removed", units);
    json_put_int(w, "parameters_before", before.parameters);
    json_put_int(w, "parameters_after", after.parameters);
    if (f.norms)
        json_put_string(w, "note",
                        "normalisations were folded with the statistics of inference: training on trains "
                        "without them");
    return 0;
}

static const char *const samples[] = {
    "{\"op\":\"fold\",\"layer\":\"*\"}",
    "{\"op\":\"fold\",\"layer\":\"*\",\"mode\":\"norm\"}",
    NULL,
};

const struct morph_kind morph_fold = {
    .name = "fold",
    .summary = "fewer layers and channels that compute the same: linear ones are merged, superfluous ones dropped",
    .takes = "",
    .modes = "exact norm chain branches identical",
    .training =
        "folded normalisations are fixed: statistics, scale and shift; training goes on as the parent's with them "
        "frozen, channels that repeat each other as one that moves like all of them, and a merged layer follows those "
        "it was made of",
    .samples = samples,
    .can = fold_can,
    .apply = fold_apply,
};
