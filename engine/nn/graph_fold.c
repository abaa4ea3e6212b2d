/* graph_fold.c - computes beforehand what depends on constants alone: weights that a file transposes,
 * dequantises or passes through Identity become plain weights, which training and surgery understand. */
#include <string.h>

#include "base/memory.h"
#include "engine/nn/graph.h"
#include "engine/nn/infer.h"

static bool is_output(const struct graph *g, int value) {
    for (int i = 0; i < g->n_outputs; i++)
        if (g->outputs[i] == value) return true;
    return false;
}

/* All that the node reads is constant, and inference could compute all that it makes. What the graph
 * gives out stays a node. */
static bool can_fold(const struct graph *g, const struct node *n, const struct inferred *known) {
    for (int k = 0; k < n->n_inputs; k++)
        if (n->inputs[k] != VALUE_NONE && !g->values[n->inputs[k]].constant) return false;
    for (int k = 0; k < n->n_outputs; k++)
        if (n->outputs[k] != VALUE_NONE && (!known->folded[n->outputs[k]] || is_output(g, n->outputs[k]))) return false;
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
        v->literal = literal && v->constant->count == 1;
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

static int fold_all(struct graph *g, bool *drop, bool *before, bool *after, struct err *e) {
    struct inferred *known = NULL;
    int status = graph_infer(&known, g, 1, e);
    if (status) return status;
    mark_read(g, before);
    for (int i = 0; i < g->n_nodes; i++) {
        drop[i] = can_fold(g, &g->nodes[i], known);
        if (drop[i]) fold_node(g, &g->nodes[i], known);
    }
    inferred_free(known);
    status = graph_drop_nodes(g, drop, e);
    if (status) return status;
    mark_read(g, after);
    free_unread(g, before, after);
    return graph_finish(g, e);
}

int graph_fold(struct graph *g, struct err *e) {
    size_t values = (size_t)g->n_values + 1;
    bool *drop = mem_calloc((size_t)g->n_nodes + 1, sizeof *drop), *read = mem_calloc(2 * values, sizeof *read);
    for (int v = 0; v < g->n_values; v++) g->values[v].trainable = false; /* else parameters are left alone */
    int status = drop && read ? fold_all(g, drop, read, read + values, e) : err_memory(e, 2 * values);
    mem_free(drop);
    mem_free(read);
    return status;
}
