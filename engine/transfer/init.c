/* init.c - fresh weights, node by node. */
#include "engine/transfer/init.h"

#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "base/random.h"
#include "engine/nn/op.h"

static bool is_op(const struct node *n, const char *name) {
    return strcmp(n->op->name, name) == 0;
}

static bool is_any(const struct node *n, const char *const *names) {
    for (; *names; names++)
        if (is_op(n, *names)) return true;
    return false;
}

/* Per value the first node that reads it, or -1. To be freed with mem_free. */
static int find_readers(int **out, const struct graph *g, struct err *e) {
    int *reader = mem_alloc(((size_t)g->n_values + 1) * sizeof *reader);
    if (!reader) return err_memory(e, (size_t)g->n_values * sizeof *reader);
    for (int v = 0; v < g->n_values; v++) reader[v] = -1;
    for (int i = g->n_nodes - 1; i >= 0; i--)
        for (int k = 0; k < g->nodes[i].n_inputs; k++)
            if (g->nodes[i].inputs[k] != VALUE_NONE) reader[g->nodes[i].inputs[k]] = i;
    *out = reader;
    return 0;
}

static int activations_of(const struct graph *g, const struct node *n) {
    int count = 0;
    for (int k = 0; k < n->n_inputs; k++) count += n->inputs[k] != VALUE_NONE && !g->values[n->inputs[k]].constant;
    return count;
}

enum { FAR = 1000 }; /* nodes that are walked along: what comes later does not belong to a layer any more */

/* The variance of weights times fan_in, from what happens to the node's output. */
static double gain_after(const struct graph *g, const int *reader, int value) {
    static const char *const rectifiers[] = {"Relu", "LeakyRelu", "PRelu", "Clip", "HardSwish", "Elu", NULL};
    static const char *const passing[] = {"BatchNormalization", "Identity", "Dropout", "MaxPool", "AveragePool", NULL};
    bool normalised = false;
    double gain = 1;
    int walked = 0;
    for (int node = reader[value]; node >= 0 && walked++ < FAR; node = reader[g->nodes[node].outputs[0]]) {
        const struct node *n = &g->nodes[node];
        if (is_any(n, rectifiers)) return 2 * gain;
        normalised = normalised || is_op(n, "BatchNormalization");
        if (is_op(n, "Add")) {
            if (!normalised && activations_of(g, n) == 2) gain /= 2;
            normalised = true; /* a second sum further on is not this layer's */
        } else if (!is_any(n, passing)) {
            break;
        }
    }
    return gain;
}

static double fan_in(const struct node *n, const struct shape *w) {
    if (is_op(n, "Conv")) {
        double fan = 1;
        for (int d = 1; d < w->rank; d++) fan *= (double)w->dim[d];
        return fan;
    }
    if (is_op(n, "Gemm") && node_int(n, "transB", 0)) return (double)w->dim[1];
    return w->rank > 1 ? (double)w->dim[w->rank - 2] : (double)w->dim[0];
}

/* The constant of input k as floats to be written, or NULL when there is none to change. */
static int writable(float **out, size_t *count, struct graph *g, const struct node *n, int k, struct err *e) {
    *out = NULL;
    if (k >= n->n_inputs || n->inputs[k] == VALUE_NONE) return 0;
    struct value *v = &g->values[n->inputs[k]];
    if (!v->constant || !dtype_is_real(v->type)) return 0;
    if (v->constant->type != DT_FLOAT32) {
        struct array *fresh;
        int status = array_new(&fresh, DT_FLOAT32, &v->constant->shape, e);
        if (status) return status;
        array_free(v->constant);
        v->constant = fresh;
        v->type = DT_FLOAT32;
    }
    int status = array_own(v->constant, e);
    *out = v->constant->data;
    *count = v->constant->count;
    return status;
}

static int fill(struct graph *g, const struct node *n, int k, float value, struct err *e) {
    float *p;
    size_t count;
    int status = writable(&p, &count, g, n, k, e);
    for (size_t i = 0; p && i < count; i++) p[i] = value;
    return status;
}

static int draw_weights(struct graph *g, const int *reader, const struct node *n, uint64_t seed, struct err *e) {
    float *w;
    size_t count;
    int status = writable(&w, &count, g, n, 1, e);
    if (status || !w) return status;
    int value = n->inputs[1];
    double deviation = sqrt(gain_after(g, reader, n->outputs[0]) / fan_in(n, &g->values[value].constant->shape));
    struct random all = random_seed(seed), random = random_split(&all, (uint64_t)value);
    for (size_t i = 0; i < count; i++) w[i] = (float)(deviation * random_normal(&random));
    return fill(g, n, 2, 0, e);
}

static int fill_norm(struct graph *g, const struct node *n, struct err *e) {
    static const float standard[] = {0, 1, 0, 0, 1}; /* data, scale, shift, mean, variance */
    int status = 0;
    for (int k = 1; k < 5 && !status; k++) status = fill(g, n, k, standard[k], e);
    return status;
}

static int fill_added(struct graph *g, const struct node *n, struct err *e) {
    int status = 0;
    for (int k = 0; k < 2 && !status; k++)
        if (g->values[n->inputs[k]].trainable) status = fill(g, n, k, 0, e);
    return status;
}

static int init_one(struct graph *g, const int *reader, int node, uint64_t seed, struct err *e) {
    const struct node *n = &g->nodes[node];
    if (is_op(n, "Conv") || is_op(n, "Gemm") || is_op(n, "MatMul")) return draw_weights(g, reader, n, seed, e);
    if (is_op(n, "BatchNormalization")) return fill_norm(g, n, e);
    if (is_op(n, "PRelu")) return fill(g, n, 1, 0.25f, e);
    if (is_op(n, "Add")) return fill_added(g, n, e);
    return 0;
}

int init_node(struct graph *g, int node, uint64_t seed, struct err *e) {
    int *reader, status = find_readers(&reader, g, e);
    if (status) return status;
    status = init_one(g, reader, node, seed, e);
    mem_free(reader);
    return status;
}

int init_graph(struct graph *g, uint64_t seed, struct err *e) {
    int *reader, status = find_readers(&reader, g, e);
    if (status) return status;
    for (int i = 0; i < g->n_nodes && !status; i++) status = init_one(g, reader, i, seed, e);
    mem_free(reader);
    return status;
}
