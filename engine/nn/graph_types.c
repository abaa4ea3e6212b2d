/* graph_types.c - one element type where ONNX wants one. Networks in float16 or float64 get new weights in float32, as
 * that is what is computed in; a file in which both meet in one node is none. */
#include <string.h>

#include "base/memory.h"
#include "engine/nn/graph.h"
#include "engine/nn/op.h"

/* ---- which values are of one type ---- */

/* Values tied by nodes, as trees: each points to another of its kind, the last to itself. */
static int kind_of(int *tied, int value) {
    while (tied[value] != value) value = tied[value] = tied[tied[value]];
    return value;
}

/* Ties a value of a node to those before; *first is VALUE_NONE at first. */
static void tie(int *tied, int *first, const struct graph *g, int value) {
    if (value == VALUE_NONE || !dtype_is_real(g->values[value].type)) return;
    if (*first == VALUE_NONE) *first = value;
    tied[kind_of(tied, value)] = kind_of(tied, *first);
}

static void tie_node(int *tied, const struct graph *g, const struct node *n) {
    int first = VALUE_NONE;
    for (int k = 0; k < n->n_inputs; k++)
        if (!op_takes(k, n->op->apart)) tie(tied, &first, g, n->inputs[k]);
    for (int k = 0; k < n->n_outputs; k++) tie(tied, &first, g, n->outputs[k]);
}

/* ---- which type ---- */

static bool is_half(enum dtype type) {
    return type == DT_FLOAT16 || type == DT_BFLOAT16;
}

/* The type that holds the numbers of both: one of them when they are the same, else float32 or float64. */
static enum dtype join(enum dtype a, enum dtype b) {
    if (a == b) return a;
    return a == DT_FLOAT64 || b == DT_FLOAT64 ? DT_FLOAT64 : DT_FLOAT32;
}

struct typing {
    int *tied;          /* by value, see kind_of */
    enum dtype *wanted; /* by value that stands for its kind, DTYPE_COUNT: it has no reals */
    bool *mixed;        /* likewise: there are several types */
};

/* Whether any kind is mixed. Where one gives up half precision, all do: the network computes in float32 then, and a
 * type in between would only lose. */
static bool choose(const struct typing *t, const struct graph *g) {
    bool any = false, widens = false;
    for (int v = 0; v < g->n_values; v++) t->wanted[v] = DTYPE_COUNT;
    for (int v = 0; v < g->n_values; v++) {
        enum dtype type = g->values[v].type;
        int kind = kind_of(t->tied, v);
        if (!dtype_is_real(type)) continue;
        enum dtype before = t->wanted[kind] == DTYPE_COUNT ? type : t->wanted[kind];
        t->wanted[kind] = join(before, type);
        if (before != type) t->mixed[kind] = any = true;
    }
    for (int v = 0; v < g->n_values; v++)
        widens = widens || (is_half(g->values[v].type) && t->mixed[kind_of(t->tied, v)]);
    for (int v = 0; v < g->n_values && widens; v++)
        if (is_half(t->wanted[v])) t->wanted[v] = DT_FLOAT32;
    return any;
}

/* ---- giving it ---- */

static int convert(struct array **out, const struct array *a, enum dtype type, struct err *e) {
    int status = array_new(out, type, &a->shape, e);
    if (status) return status;
    if (type == DT_FLOAT64)
        array_to_double((*out)->data, a, 0, a->count);
    else
        array_to_float((*out)->data, a, 0, a->count);
    return 0;
}

/* The attribute that says what a Constant or ConstantOfShape is filled with, as a tensor of that type. */
static int set_filling(struct graph *g, int node, enum dtype type, struct err *e) {
    struct node *n = &g->nodes[node];
    const struct attribute *a = n->n_attributes ? &n->attributes[0] : NULL;
    struct array *filling;
    int status;
    if (a && a->type == ATTRIBUTE_ARRAY) {
        status = convert(&filling, a->array, type, e);
    } else { /* value_float, value_floats, or nothing, which is one 0 */
        bool list = a && a->type == ATTRIBUTE_REALS;
        struct shape shape = {.rank = !a || list, .dim = {list ? (int64_t)a->count : 1}};
        status = array_new(&filling, type, &shape, e);
        for (size_t i = 0; !status && a && i < filling->count; i++) {
            double x = (double)(float)(list ? a->reals[i] : a->real);
            if (type == DT_FLOAT64)
                ((double *)filling->data)[i] = x;
            else
                ((float *)filling->data)[i] = (float)x;
        }
    }
    if (status) return status;
    if (a) graph_drop_attribute(g, node, a->name);
    return graph_set_array_take(g, node, "value", filling, e);
}

/* What makes a value of a type that it names. */
static int set_maker(struct graph *g, int node, enum dtype type, struct err *e) {
    enum { ONNX_FLOAT = 1, ONNX_DOUBLE = 11 };
    const char *op = g->nodes[node].op->name;
    if (strcmp(op, "Cast") == 0) return graph_set_int(g, node, "to", type == DT_FLOAT64 ? ONNX_DOUBLE : ONNX_FLOAT, e);
    if (strcmp(op, "Constant") == 0 || strcmp(op, "ConstantOfShape") == 0) return set_filling(g, node, type, e);
    return 0; /* the type of what it reads */
}

static int set_type(struct graph *g, int value, enum dtype type, struct err *e) {
    struct value *v = &g->values[value];
    struct array *wider;
    if (!dtype_is_real(v->type) || v->type == type) return 0;
    if (v->producer >= 0) return set_maker(g, v->producer, type, e);
    v->type = type;
    if (!v->constant) return 0;
    int status = convert(&wider, v->constant, type, e);
    if (!status) graph_correct_constant_take(g, value, wider); /* the same numbers: what an optimizer keeps stays */
    return status;
}

int graph_unify_types(struct graph *g, struct err *e) {
    size_t n = (size_t)g->n_values + 1;
    struct typing t = {mem_calloc(n, sizeof *t.tied), mem_calloc(n, sizeof *t.wanted), mem_calloc(n, sizeof *t.mixed)};
    int status = t.tied && t.wanted && t.mixed ? 0 : err_memory(e, n * (sizeof *t.tied + sizeof *t.wanted));
    if (status) goto out;
    for (int v = 0; v < g->n_values; v++) t.tied[v] = v;
    for (int i = 0; i < g->n_nodes; i++) tie_node(t.tied, g, &g->nodes[i]);
    if (!choose(&t, g)) goto out;
    for (int v = 0; v < g->n_values && !status; v++) status = set_type(g, v, t.wanted[kind_of(t.tied, v)], e);
    if (!status) status = graph_finish(g, e);
out:
    mem_free(t.tied);
    mem_free(t.wanted);
    mem_free(t.mixed);
    return status;
}
