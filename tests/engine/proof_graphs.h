/* proof_graphs.h - a few words for building graphs by hand. */
#ifndef TESTS_ENGINE_PROOF_GRAPHS_H
#define TESTS_ENGINE_PROOF_GRAPHS_H

#include "engine/nn/op.h"
#include "tests/engine/random_graph.h"
#include "tests/test.h"

static struct graph *g; /* being built */
static struct random r;

static struct array *array_of(struct shape shape, double mean, double deviation) {
    struct array *a = NULL;
    array_new(&a, DT_FLOAT32, &shape, NULL);
    for (size_t i = 0; i < a->count; i++) ((float *)a->data)[i] = (float)(mean + deviation * random_normal(&r));
    return a;
}

static int constant(const char *name, struct shape shape, double mean, double deviation) {
    int v = -1;
    graph_add_constant_take(&v, g, name, array_of(shape, mean, deviation), NULL);
    return v;
}

/* The node and its value get the same name. */
static int node(const char *op, const char *name, int n, const int *inputs) {
    int out = -1;
    struct err e = {0};
    graph_add_value(&out, g, name, NULL, NULL);
    ok(!graph_add_node(NULL, g, op, name, inputs, n, &out, 1, &e), "%s", e.text);
    return out;
}
#define NODE(op, name, ...) node(op, name, sizeof((int[]){__VA_ARGS__}) / sizeof(int), (int[]){__VA_ARGS__})
#define SHAPE(...) \
    (struct shape) { \
        sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t), { \
            __VA_ARGS__ \
        } \
    }

static int start(struct shape shape) {
    int x = -1;
    r = random_seed(test_seed());
    graph_new(&g, "test", 17, NULL);
    graph_add_value(&x, g, "x", NULL, NULL);
    graph_add_input(g, x, DT_FLOAT32, &shape, NULL);
    return x;
}

static struct graph *finish(int out) {
    struct err e = {0};
    graph_add_output(g, out, NULL);
    ok(!graph_finish(g, &e), "%s", e.text);
    return g;
}

static int conv(const char *name, int x, int64_t in, int64_t out, int64_t kernel, double deviation) {
    char weight[64], bias[64];
    snprintf(weight, sizeof weight, "%s_w", name), snprintf(bias, sizeof bias, "%s_b", name);
    int y = NODE("Conv", name, x, constant(weight, SHAPE(out, in, kernel, kernel), 0, deviation),
                 constant(bias, SHAPE(out), 0, deviation));
    int64_t pads[4] = {kernel / 2, kernel / 2, kernel / 2, kernel / 2};
    graph_set_ints(g, g->n_nodes - 1, "pads", pads, 4, NULL);
    return y;
}

static inline int norm(const char *name, int x, int64_t n) {
    static const char *const parts[] = {"scale", "shift", "mean", "variance"};
    int in[5] = {x};
    for (int k = 0; k < 4; k++) {
        char part[64];
        snprintf(part, sizeof part, "%s_%s", name, parts[k]);
        in[k + 1] = constant(part, SHAPE(n), k == 0 || k == 3 ? 1 : 0, k == 3 ? 0.1 : 0.4);
    }
    return node("BatchNormalization", name, 5, in);
}

static struct graph *clone(const struct graph *from) {
    struct graph *out = NULL;
    struct err e = {0};
    ok(!graph_clone(&out, from, &e) && !graph_finish(out, &e), "%s", e.text);
    for (int v = 0; v < out->n_values; v++) /* tests write to it */
        if (out->values[v].constant) ok(!array_own(out->values[v].constant, &e), "%s", e.text);
    return out;
}

static inline struct graph *draw(unsigned long long seed, const struct random_graph_options *o) {
    struct random_graph drawn = {0};
    struct err e = {0};
    ok(!random_graph(&drawn, seed, o, &e), "seed %llu: %s", seed, e.text);
    return drawn.graph;
}

static bool is_op(const struct node *n, const char *op) {
    return strcmp(n->op->name, op) == 0;
}

static inline int any_node(const struct graph *from, const char *op, uint64_t which) {
    int found[256], n = 0;
    for (int i = 0; i < from->n_nodes && n < 256; i++)
        if (is_op(&from->nodes[i], op)) found[n++] = i;
    return n ? found[which % (uint64_t)n] : -1;
}

#endif
