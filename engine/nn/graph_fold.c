/* graph_fold.c - computes beforehand what depends on constants alone: weights that a file transposes,
 * dequantises or passes through Identity become plain weights, which training and surgery understand. */
#include <string.h>

#include "base/memory.h"
#include "engine/nn/graph.h"
#include "engine/nn/infer.h"

/* NaN comes of a formula that goes wrong; as a constant, no file would be read again that has it. */
static bool has_nan(const struct array *a) {
    return array_find_odd(a, false) < a->count;
}

/* All that the node reads is constant, and inference could compute all that it makes. What the graph
 * gives out stays a node. */
static bool can_fold(const struct graph *g, const bool *is_output, const struct node *n, const struct inferred *known) {
    for (int k = 0; k < n->n_inputs; k++)
        if (n->inputs[k] != VALUE_NONE && !g->values[n->inputs[k]].constant) return false;
    for (int k = 0; k < n->n_outputs; k++) {
        int v = n->outputs[k];
        if (v != VALUE_NONE && (!known->folded[v] || is_output[v] || has_nan(known->folded[v]))) return false;
    }
    return true;
}

static void fold_node(struct graph *g, const struct node *n, struct inferred *known) {
    bool literal = true;
    for (int k = 0; k < n->n_inputs; k++)
        if (n->inputs[k] != VALUE_NONE) literal = literal && g->values[n->inputs[k]].literal;
    for (int k = 0; k < n->n_outputs; k++) {
        if (n->outputs[k] == VALUE_NONE) continue;
        struct value *v = &g->values[n->outputs[k]];
        v->constant = known->folded[n->outputs[k]];
        known->folded[n->outputs[k]] = NULL;
        v->type = v->constant->type;
        v->shape = v->constant->shape;
        bool mask = array_find_odd(v->constant, true) < v->constant->count;
        v->literal = mask || (literal && v->constant->count == 1); /* as in a file: onnx_node.c */
    }
}

static void mark_read(const struct graph *g, bool *read) {
    for (int i = 0; i < g->n_nodes; i++)
        for (int k = 0; k < g->nodes[i].n_inputs; k++)
            if (g->nodes[i].inputs[k] != VALUE_NONE) read[g->nodes[i].inputs[k]] = true;
    for (int i = 0; i < g->n_outputs; i++) read[g->outputs[i]] = true;
}

static void free_unread(struct graph *g, const bool *before, const bool *after) {
    for (int v = 0; v < g->n_values; v++) {
        if (!before[v] || after[v] || !g->values[v].constant) continue;
        array_free(g->values[v].constant);
        g->values[v].constant = NULL;
    }
}

/* Tables over nodes and values, all false at first. */
struct folding {
    bool *drop;           /* nodes that become constants */
    bool *before, *after; /* values that were read before, and are still */
    bool *is_output;
};

static int fold_all(struct graph *g, const struct folding *t, struct err *e) {
    struct inferred *known = NULL;
    int status = graph_infer_partly(&known, g, 1, e);
    if (status) return status;
    mark_read(g, t->before);
    for (int i = 0; i < g->n_outputs; i++) t->is_output[g->outputs[i]] = true;
    for (int i = 0; i < g->n_nodes; i++) {
        t->drop[i] = can_fold(g, t->is_output, &g->nodes[i], known);
        if (t->drop[i]) fold_node(g, &g->nodes[i], known);
    }
    inferred_free(known);
    status = graph_drop_nodes(g, t->drop, e);
    if (status) return status;
    mark_read(g, t->after);
    free_unread(g, t->before, t->after);
    return graph_finish(g, e);
}

int graph_fold(struct graph *g, struct err *e) {
    size_t values = (size_t)g->n_values + 1;
    bool *drop = mem_calloc((size_t)g->n_nodes + 1, sizeof *drop), *tables = mem_calloc(3 * values, sizeof *tables);
    struct folding t = {drop, tables, tables + values, tables + 2 * values};
    for (int v = 0; v < g->n_values; v++) g->values[v].trainable = false; /* else parameters are left alone */
    int status = drop && tables ? fold_all(g, &t, e) : err_memory(e, 3 * values);
    mem_free(drop);
    mem_free(tables);
    return status;
}
