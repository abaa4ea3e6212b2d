/* linear.c - linear layers as plain numbers, and back. */
#include "engine/surgery/linear.h"

#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "engine/nn/op.h"

enum { DATA, WEIGHTS, BIAS };

/* ---- recognising ---- */

static int input_of(const struct node *n, int k) {
    return k < n->n_inputs ? n->inputs[k] : VALUE_NONE;
}

static bool is_op(const struct node *n, const char *name) {
    return strcmp(n->op->name, name) == 0;
}

/* -1 for what is no linear layer. */
static int kind_of(const struct node *n) {
    if (is_op(n, "Conv")) return LINEAR_CONV;
    if (is_op(n, "ConvTranspose")) return LINEAR_TRANSPOSED;
    return is_op(n, "Gemm") || is_op(n, "MatMul") ? LINEAR_DENSE : -1;
}

static const struct array *constant_of(const struct graph *g, int value) {
    return value == VALUE_NONE ? NULL : g->values[value].constant;
}

/* One number for each of `out` columns, or one for all. */
static bool is_row(const struct shape *s, int64_t out) {
    for (int d = 0; d + 1 < s->rank; d++)
        if (s->dim[d] != 1) return false;
    return s->rank == 0 || s->dim[s->rank - 1] == 1 || s->dim[s->rank - 1] == out;
}

static int64_t outputs_of(const struct node *n, const struct shape *w) {
    switch ((enum linear_kind)kind_of(n)) {
        case LINEAR_CONV: return w->dim[0];
        case LINEAR_TRANSPOSED: return w->dim[1] * node_int(n, "group", 1);
        case LINEAR_DENSE: break;
    }
    return w->dim[node_int(n, "transB", 0) ? 0 : 1];
}

static int check_ranks(const struct graph *g, const struct node *n, const struct array *w, struct err *e) {
    int rank = g->values[n->inputs[DATA]].shape.rank;
    if (kind_of(n) != LINEAR_DENSE) {
        if (w->shape.rank == 3 || w->shape.rank == 4) return 0;
        return err_set(e, E_UNSUPPORTED, "its kernel has %d axes, not one or two", w->shape.rank - 2);
    }
    if (node_int(n, "transA", 0)) return err_set(e, E_UNSUPPORTED, "it multiplies its data transposed");
    if (w->shape.rank != 2 || rank != 2)
        return err_set(e, E_UNSUPPORTED, "a product of rank %d by rank %d is not one row per sample", rank,
                       w->shape.rank);
    return 0;
}

int linear_check(const struct graph *g, int node, struct err *e) {
    const struct node *n = &g->nodes[node];
    if (kind_of(n) < 0)
        return err_set(e, E_UNSUPPORTED, "%s %s is no linear layer (Conv, ConvTranspose, Gemm, MatMul)",
                       edit_article(n->op->name), n->op->name);
    const struct array *w = constant_of(g, n->inputs[WEIGHTS]), *b = constant_of(g, input_of(n, BIAS));
    if (!w || !dtype_is_real(w->type) || constant_of(g, n->inputs[DATA]))
        return err_set(e, E_UNSUPPORTED, "it does not multiply computed data by constant weights");
    int status = check_ranks(g, n, w, e);
    if (status || input_of(n, BIAS) == VALUE_NONE) return status;
    if (!b || !dtype_is_real(b->type)) return err_set(e, E_UNSUPPORTED, "its bias is computed");
    if (!is_row(&b->shape, outputs_of(n, &w->shape)))
        return err_set(e, E_UNSUPPORTED, "its bias is not one number per channel");
    return 0;
}

/* Names another reader of one of its constants. */
static int refuse_shared(const struct graph *g, int node, int value, struct err *e) {
    for (int i = 0; i < g->n_nodes; i++)
        for (int k = 0; k < g->nodes[i].n_inputs && i != node; k++)
            if (g->nodes[i].inputs[k] == value)
                return err_set(e, E_UNSUPPORTED, "'%s' also reads its '%s': shared weights stay as they are",
                               g->nodes[i].name, g->values[value].name);
    return err_set(e, E_UNSUPPORTED, "its '%s' is used twice", g->values[value].name);
}

int linear_check_own(const struct graph *g, const struct uses *u, int node, struct err *e) {
    const struct node *n = &g->nodes[node];
    int status = linear_check(g, node, e);
    for (int k = WEIGHTS; k < n->n_inputs && !status; k++)
        if (n->inputs[k] != VALUE_NONE && u->readers[n->inputs[k]] != 1)
            status = refuse_shared(g, node, n->inputs[k], e);
    return status;
}

/* ---- reading ---- */

void linear_fini(struct linear *l) {
    mem_free(l->weights);
    mem_free(l->bias);
    l->weights = l->bias = NULL;
}

/* Where weight [o][i][tap] of the layer is in the node's constant. */
static size_t place_of(const struct linear *l, bool by_rows, int64_t o, int64_t i, int64_t tap) {
    int64_t taps = l->kernel[0] * l->kernel[1], per_group = l->out / l->groups;
    switch (l->kind) {
        case LINEAR_CONV: return (size_t)((o * l->in + i) * taps + tap);
        case LINEAR_TRANSPOSED: return (size_t)(((o / per_group * l->in + i) * per_group + o % per_group) * taps + tap);
        case LINEAR_DENSE: break;
    }
    return (size_t)(by_rows ? o * l->in + i : i * l->out + o);
}

static bool is_by_rows(const struct node *n) {
    return node_int(n, "transB", 0) != 0;
}

void linear_describe(struct linear *l, const struct graph *g, int node) {
    const struct node *n = &g->nodes[node];
    const struct shape *w = &g->values[n->inputs[WEIGHTS]].constant->shape;
    *l = (struct linear){.kind = (enum linear_kind)kind_of(n), .node = node, .groups = 1, .kernel = {1, 1}};
    if (l->kind != LINEAR_DENSE) l->groups = node_int(n, "group", 1);
    l->axes = w->rank - 2;
    l->out = outputs_of(n, w);
    l->in = l->kind == LINEAR_CONV         ? w->dim[1]
            : l->kind == LINEAR_TRANSPOSED ? w->dim[0] / l->groups
                                           : w->dim[is_by_rows(n) ? 1 : 0];
    if (l->axes == 2) l->kernel[0] = w->dim[2];
    if (l->axes) l->kernel[1] = w->dim[w->rank - 1];
    l->data = n->inputs[DATA];
    l->made = n->outputs[0];
    l->has_bias = input_of(n, BIAS) != VALUE_NONE;
    l->columns = l->kind == LINEAR_DENSE && !is_by_rows(n);
}

static void read_bias(struct linear *l, const struct node *n, const struct array *b) {
    double beta = l->kind == LINEAR_DENSE ? node_real(n, "beta", 1) : 1;
    for (int64_t o = 0; o < l->out; o++) {
        array_to_double(&l->bias[o], b, b->count == 1 ? 0 : (size_t)o, 1);
        l->bias[o] *= beta;
    }
}

int linear_read(struct linear *l, const struct graph *g, int node, struct err *e) {
    *l = (struct linear){.node = node};
    int status = linear_check(g, node, e);
    if (status) return status;
    linear_describe(l, g, node);
    const struct node *n = &g->nodes[node];
    const struct array *w = constant_of(g, n->inputs[WEIGHTS]), *b = constant_of(g, input_of(n, BIAS));
    if (w->count > LINEAR_WEIGHTS_MOST) return err_set(e, E_TOO_LARGE, "it has %zu weights", w->count);
    double *raw = mem_calloc(w->count + 1, sizeof *raw);
    l->weights = mem_calloc(w->count + 1, sizeof *l->weights);
    l->bias = mem_calloc((size_t)l->out + 1, sizeof *l->bias);
    if (raw && l->weights && l->bias) {
        double alpha = l->kind == LINEAR_DENSE ? node_real(n, "alpha", 1) : 1, *to = l->weights;
        array_to_double(raw, w, 0, w->count);
        for (int64_t o = 0; o < l->out; o++)
            for (int64_t i = 0; i < l->in; i++)
                for (int64_t tap = 0; tap < l->kernel[0] * l->kernel[1]; tap++)
                    *to++ = alpha * raw[place_of(l, is_by_rows(n), o, i, tap)];
        if (b) read_bias(l, n, b);
    } else {
        status = err_memory(e, 2 * w->count * sizeof *raw);
        linear_fini(l);
    }
    mem_free(raw);
    return status;
}

/* ---- writing ---- */

int linear_set_input(struct graph *g, int node, int k, int value, struct err *e) {
    struct node *n = &g->nodes[node];
    if (k >= n->n_inputs) {
        int *longer = mem_resize(n->inputs, (size_t)k + 1, sizeof *longer);
        if (!longer) return err_memory(e, ((size_t)k + 1) * sizeof *longer);
        n->inputs = longer;
        while (n->n_inputs <= k) longer[n->n_inputs++] = VALUE_NONE;
    }
    n->inputs[k] = value;
    return 0;
}

static struct shape shape_of(const struct linear *l, bool by_rows) {
    struct shape s = {.rank = 2 + l->axes};
    s.dim[0] = l->kind == LINEAR_CONV || (l->kind == LINEAR_DENSE && by_rows) ? l->out : l->in * l->groups;
    s.dim[1] = l->kind == LINEAR_CONV         ? l->in
               : l->kind == LINEAR_TRANSPOSED ? l->out / l->groups
               : by_rows                      ? l->in
                                              : l->out;
    if (l->axes == 2) s.dim[2] = l->kernel[0];
    if (l->axes) s.dim[1 + l->axes] = l->kernel[1];
    return s;
}

int linear_write_bias(struct graph *g, const struct linear *l, struct err *e) {
    char name[GRAPH_MAX_NAME];
    struct array *b;
    struct shape shape = {.rank = 1, .dim = {l->out}};
    int value, old = input_of(&g->nodes[l->node], BIAS);
    int status = array_new(&b, DT_FLOAT64, &shape, e);
    if (status) return status;
    memcpy(b->data, l->bias, (size_t)l->out * sizeof *l->bias);
    if (old != VALUE_NONE) {
        graph_replace_constant_take(g, old, b);
        return 0;
    }
    text_print(name, sizeof name, "%.*s_bias", GRAPH_MAX_NAME - 8, g->nodes[l->node].name);
    status = graph_add_constant_take(&value, g, graph_find_value(g, name) == VALUE_NONE ? name : NULL, b, e);
    if (!status) status = linear_set_input(g, l->node, BIAS, value, e);
    if (!status && is_op(&g->nodes[l->node], "MatMul")) g->nodes[l->node].op = op_find("Gemm");
    return status;
}

int linear_write(struct graph *g, const struct linear *l, struct err *e) {
    struct node *n = &g->nodes[l->node];
    bool by_rows = is_by_rows(n), bias = l->has_bias;
    struct shape shape = shape_of(l, by_rows);
    struct array *w;
    int status = array_new(&w, DT_FLOAT64, &shape, e);
    if (status) return status;
    const double *from = l->weights;
    for (int64_t o = 0; o < l->out; o++)
        for (int64_t i = 0; i < l->in; i++)
            for (int64_t tap = 0; tap < l->kernel[0] * l->kernel[1]; tap++)
                ((double *)w->data)[place_of(l, by_rows, o, i, tap)] = *from++;
    graph_replace_constant_take(g, n->inputs[WEIGHTS], w);
    graph_drop_attribute(g, l->node, "alpha");
    graph_drop_attribute(g, l->node, "beta");
    if (l->kind != LINEAR_DENSE) status = graph_set_int(g, l->node, "group", l->groups, e);
    for (int64_t o = 0; o < l->out; o++) bias = bias || l->bias[o] != 0;
    return status || !bias ? status : linear_write_bias(g, l, e);
}

int linear_sweep(struct graph *g, struct err *e) {
    bool *read = mem_calloc((size_t)g->n_values + 1, sizeof *read);
    if (!read) return err_memory(e, (unsigned long long)g->n_values);
    for (int i = 0; i < g->n_nodes; i++)
        for (int k = 0; k < g->nodes[i].n_inputs; k++)
            if (g->nodes[i].inputs[k] != VALUE_NONE) read[g->nodes[i].inputs[k]] = true;
    for (int i = 0; i < g->n_outputs; i++) read[g->outputs[i]] = true;
    for (int v = 0; v < g->n_values; v++) {
        if (read[v] || !g->values[v].constant) continue;
        array_free(g->values[v].constant);
        g->values[v].constant = NULL;
        value_forget_training(&g->values[v]);
    }
    mem_free(read);
    return 0;
}

/* ---- windows ---- */

int linear_window(struct edit_window *w, const struct graph *g, int node, const int64_t kernel[2], struct err *e) {
    struct edit_layer l = {
        .node = node, .axes = edit_axes(g, g->nodes[node].inputs[DATA]), .kernel = {kernel[0], kernel[1]}};
    if (l.axes < 1 || l.axes > 2)
        return err_set(e, E_UNSUPPORTED, "its data has no axis or more than two to slide over");
    return edit_window(w, g, &l, e);
}

bool linear_is_padded(const struct edit_window *w) {
    return w->begin[0] || w->begin[1] || w->end[0] || w->end[1];
}
