/* graph_finish.c - from a heap of nodes to a graph that can be planned: order, checks, shapes. */
#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "engine/nn/graph.h"
#include "engine/nn/infer.h"
#include "engine/nn/op.h"

/* ---- order ---- */

/* Which values are inputs of the graph: a table to be freed, as there may be a million nodes to look it up for. */
static int mark_inputs(bool **out, const struct graph *g, struct err *e) {
    *out = mem_calloc((size_t)g->n_values + 1, sizeof **out);
    if (!*out) return err_memory(e, (size_t)g->n_values + 1);
    for (int i = 0; i < g->n_inputs; i++) (*out)[g->inputs[i]] = true;
    return 0;
}

static int check_sources(const struct graph *g, const bool *is_input, struct err *e) {
    for (int i = 0; i < g->n_nodes; i++)
        for (int k = 0; k < g->nodes[i].n_inputs; k++) {
            int v = g->nodes[i].inputs[k];
            if (v == VALUE_NONE || g->values[v].constant || g->values[v].producer >= 0 || is_input[v]) continue;
            return err_set(e, E_INVALID, "node '%s' (%s) reads '%s', which nothing in the graph makes",
                           g->nodes[i].name, g->nodes[i].op->name, g->values[v].name);
        }
    for (int i = 0; i < g->n_outputs; i++) {
        const struct value *v = &g->values[g->outputs[i]];
        if (!v->constant && v->producer < 0 && !is_input[g->outputs[i]])
            return err_set(e, E_INVALID, "the graph's output '%s' is made by no node", v->name);
    }
    return g->n_outputs ? 0 : err_set(e, E_INVALID, "the graph has no output");
}

struct sorting {
    int *waiting; /* per node: inputs made by nodes that are not placed yet */
    int *first;   /* per value: start of its readers in `readers` */
    int *readers;
    int *order; /* nodes in topological order */
};

static void sorting_fini(struct sorting *s) {
    mem_free(s->waiting);
    mem_free(s->first);
    mem_free(s->readers);
    mem_free(s->order);
}

static int sorting_init(struct sorting *s, const struct graph *g, struct err *e) {
    size_t nodes = (size_t)g->n_nodes, values = (size_t)g->n_values, reads = 0;
    for (int i = 0; i < g->n_nodes; i++) reads += (size_t)g->nodes[i].n_inputs;
    s->waiting = mem_calloc(nodes + 1, sizeof(int));
    s->order = mem_calloc(nodes + 1, sizeof(int));
    s->first = mem_calloc(values + 2, sizeof(int));
    s->readers = mem_calloc(reads + 1, sizeof(int));
    return s->waiting && s->order && s->first && s->readers ? 0
                                                            : err_memory(e, (2 * nodes + values + reads) * sizeof(int));
}

/* Lists for each value the nodes that read it (counting sort by value). */
static void list_readers(struct sorting *s, const struct graph *g) {
    int *next = s->first + 1;
    for (int pass = 0; pass < 2; pass++) {
        for (int i = 0; i < g->n_nodes; i++)
            for (int k = 0; k < g->nodes[i].n_inputs; k++) {
                int v = g->nodes[i].inputs[k];
                if (v == VALUE_NONE || g->values[v].producer < 0) continue;
                if (pass)
                    s->readers[next[v]++] = i, s->waiting[i]++;
                else
                    next[v + 1]++;
            }
        if (!pass)
            for (int v = 0; v < g->n_values; v++) next[v + 1] += next[v];
    }
}

/* Kahn's algorithm; among the nodes that are ready, the order of the file. */
static int sort_nodes(struct sorting *s, const struct graph *g) {
    int placed = 0;
    for (int i = 0; i < g->n_nodes; i++)
        if (s->waiting[i] == 0) s->order[placed++] = i;
    for (int at = 0; at < placed; at++) {
        const struct node *n = &g->nodes[s->order[at]];
        for (int k = 0; k < n->n_outputs; k++) {
            int v = n->outputs[k];
            if (v == VALUE_NONE) continue;
            for (int r = s->first[v]; r < s->first[v + 1]; r++)
                if (--s->waiting[s->readers[r]] == 0) s->order[placed++] = s->readers[r];
        }
    }
    return placed;
}

static bool is_sorted(const struct graph *g) {
    for (int i = 0; i < g->n_nodes; i++)
        for (int k = 0; k < g->nodes[i].n_inputs; k++) {
            int v = g->nodes[i].inputs[k];
            if (v != VALUE_NONE && g->values[v].producer >= i) return false;
        }
    return true;
}

static int apply_order(struct graph *g, const int *order, struct err *e) {
    struct node *sorted = mem_calloc((size_t)g->n_nodes, sizeof *sorted);
    if (!sorted) return err_memory(e, (size_t)g->n_nodes * sizeof *sorted);
    names_free(&g->node_names);
    for (int i = 0; i < g->n_nodes; i++) sorted[i] = g->nodes[order[i]];
    mem_free(g->nodes);
    g->nodes = sorted;
    g->nodes_room = g->n_nodes;
    for (int i = 0; i < g->n_nodes; i++) {
        int status = names_add(&g->node_names, sorted[i].name, i, e);
        if (status) return status;
        for (int k = 0; k < sorted[i].n_outputs; k++)
            if (sorted[i].outputs[k] != VALUE_NONE) g->values[sorted[i].outputs[k]].producer = i;
    }
    return 0;
}

static int order_nodes(struct graph *g, struct err *e) {
    if (is_sorted(g)) return 0;
    struct sorting s = {0};
    int status = sorting_init(&s, g, e);
    if (status) goto out;
    list_readers(&s, g);
    int placed = sort_nodes(&s, g);
    if (placed < g->n_nodes) {
        int stuck = 0;
        while (s.waiting[stuck] == 0) stuck++;
        status = err_set(e, E_INVALID, "the graph has a cycle: node '%s' (%s) needs its own output",
                         g->nodes[stuck].name, g->nodes[stuck].op->name);
        goto out;
    }
    status = apply_order(g, s.order, e);
out:
    sorting_fini(&s);
    return status;
}

/* ---- checks ---- */

static bool is_word(const char *list, const char *word) {
    size_t n = strlen(word);
    for (const char *at = list; at && (at = strstr(at, word)); at += n)
        if ((at == list || at[-1] == ' ') && (at[n] == ' ' || at[n] == '\0')) return true;
    return false;
}

static int present(const int *list, int n) {
    while (n > 0 && list[n - 1] == VALUE_NONE) n--;
    return n;
}

/* Takes out what retort decides itself, and optional outputs that nobody reads. */
static void tidy_node(struct graph *g, int index, const bool *read) {
    struct node *n = &g->nodes[index];
    for (int i = n->n_attributes - 1; i >= 0 && n->op->drops; i--)
        if (is_word(n->op->drops, n->attributes[i].name)) graph_drop_attribute(g, index, n->attributes[i].name);
    for (int k = n->op->min_outputs; k < n->n_outputs; k++) {
        if (n->outputs[k] == VALUE_NONE || read[n->outputs[k]]) continue;
        g->values[n->outputs[k]].producer = -1;
        n->outputs[k] = VALUE_NONE;
    }
    n->n_outputs = present(n->outputs, n->n_outputs);
}

static int tidy(struct graph *g, struct err *e) {
    bool *read = mem_calloc((size_t)g->n_values + 1, sizeof *read);
    if (!read) return err_memory(e, sizeof *read);
    for (int i = 0; i < g->n_nodes; i++)
        for (int k = 0; k < g->nodes[i].n_inputs; k++)
            if (g->nodes[i].inputs[k] != VALUE_NONE) read[g->nodes[i].inputs[k]] = true;
    for (int i = 0; i < g->n_outputs; i++) read[g->outputs[i]] = true;
    for (int i = 0; i < g->n_nodes; i++) tidy_node(g, i, read);
    mem_free(read);
    return 0;
}

static int check_node(const struct graph *g, const struct node *n, struct err *e) {
    const struct op *op = n->op;
    int in = present(n->inputs, n->n_inputs), out = present(n->outputs, n->n_outputs);
    if (in < op->min_inputs || n->n_inputs > op->max_inputs)
        return err_set(e, E_INVALID, "node '%s' (%s) has %d inputs; between %d and %d are right", n->name, op->name,
                       n->n_inputs, op->min_inputs, op->max_inputs);
    for (int i = 0; i < op->min_inputs; i++)
        if (n->inputs[i] == VALUE_NONE)
            return err_set(e, E_INVALID, "node '%s' (%s) leaves out input %d, which it needs", n->name, op->name, i);
    if (out < op->min_outputs || out > op->max_outputs)
        return err_set(e, E_UNSUPPORTED, "node '%s' (%s) has %d outputs; retort computes between %d and %d", n->name,
                       op->name, out, op->min_outputs, op->max_outputs);
    if (op->first_opset && (g->opset < op->first_opset || g->opset > op->last_opset))
        return err_set(e, E_UNSUPPORTED, "node '%s': %s of opset %d; retort knows it in opsets %d to %d", n->name,
                       op->name, g->opset, op->first_opset, op->last_opset);
    for (int i = 0; i < n->n_attributes; i++)
        if (!is_word(op->attributes ? op->attributes : "", n->attributes[i].name))
            return err_set(e, E_UNSUPPORTED, "node '%s' (%s) has the attribute '%s', which retort does not know",
                           n->name, op->name, n->attributes[i].name);
    return 0;
}

/* ---- what is trainable, and shapes ---- */

/* Float constants are parameters where an operator takes them as such, not as settings. */
static void mark_trainable(struct graph *g) {
    for (int v = 0; v < g->n_values; v++) g->values[v].trainable = false;
    for (int i = 0; i < g->n_nodes; i++)
        for (int k = 0; k < g->nodes[i].n_inputs; k++) {
            int v = g->nodes[i].inputs[k];
            if (v == VALUE_NONE || !g->values[v].constant || g->values[v].literal) continue;
            if (!dtype_is_real(g->values[v].type)) continue;
            if (op_takes(k, g->nodes[i].op->parameters)) g->values[v].trainable = true;
        }
}

/* Two batch sizes that no fixed dimension is likely to share a ratio with. */
enum { BATCH_A = 3, BATCH_B = 5 };

static bool has_free_batch(const struct graph *g) {
    for (int i = 0; i < g->n_inputs; i++) {
        const struct shape *s = &g->values[g->inputs[i]].shape;
        if (s->rank > 0 && s->dim[0] == DIM_BATCH) return true;
    }
    return false;
}

static void store_shapes(struct graph *g, const bool *is_input, const struct inferred *a, const struct inferred *b) {
    for (int v = 0; v < g->n_values; v++) {
        if (g->values[v].constant || is_input[v]) continue;
        g->values[v].type = a->values[v].type;
        g->values[v].shape = a->values[v].shape;
        struct shape *s = &g->values[v].shape;
        for (int d = 0; d < s->rank; d++)
            if (s->dim[d] != b->values[v].shape.dim[d] && s->dim[d] == BATCH_A) s->dim[d] = DIM_BATCH;
    }
}

static int infer_shapes(struct graph *g, const bool *is_input, struct err *e) {
    struct inferred *a = NULL, *b = NULL;
    int status = graph_infer_partly(&a, g, BATCH_A, e);
    if (!status && has_free_batch(g)) status = graph_infer_partly(&b, g, BATCH_B, e);
    if (!status) store_shapes(g, is_input, a, b ? b : a);
    inferred_free(a);
    inferred_free(b);
    return status;
}

int graph_finish(struct graph *g, struct err *e) {
    bool *is_input;
    int status = mark_inputs(&is_input, g, e);
    if (!status) status = check_sources(g, is_input, e);
    if (!status) status = tidy(g, e);
    for (int i = 0; i < g->n_nodes && !status; i++) status = check_node(g, &g->nodes[i], e);
    if (!status) status = order_nodes(g, e);
    if (!status) {
        mark_trainable(g);
        status = infer_shapes(g, is_input, e);
    }
    mem_free(is_input);
    return status;
}

int graph_measure(struct graph_size *out, const struct graph *g, struct err *e) {
    *out = (struct graph_size){0};
    for (int v = 0; v < g->n_values; v++)
        if (g->values[v].constant && dtype_is_real(g->values[v].type) && g->values[v].trainable)
            out->parameters += (int64_t)g->values[v].constant->count;
    for (int i = 0; i < g->n_nodes; i++)
        for (int k = 0; k < g->nodes[i].n_inputs; k++) {
            int v = g->nodes[i].inputs[k];
            if (v != VALUE_NONE && g->values[v].constant && op_takes(k, g->nodes[i].op->statistics))
                out->parameters += (int64_t)g->values[v].constant->count;
        }
    if (g->n_free_axes) {
        out->macs = MACS_UNKNOWN;
        return 0;
    }
    struct inferred *known = NULL;
    int status = graph_infer(&known, g, 1, e);
    for (int i = 0; i < g->n_nodes && !status; i++) {
        const struct node *n = &g->nodes[i];
        if (!n->op->macs) continue;
        const struct shape *in[OP_KEEP_INPUTS] = {0}, *made[OP_KEEP_INPUTS] = {0};
        for (int k = 0; k < n->n_inputs && k < OP_KEEP_INPUTS; k++)
            if (n->inputs[k] != VALUE_NONE) in[k] = &known->values[n->inputs[k]].shape;
        for (int k = 0; k < n->n_outputs && k < OP_KEEP_INPUTS; k++)
            if (n->outputs[k] != VALUE_NONE) made[k] = &known->values[n->outputs[k]].shape;
        out->macs += n->op->macs(n, in, made);
    }
    inferred_free(known);
    return status;
}
