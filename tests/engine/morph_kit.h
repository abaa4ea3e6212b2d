/* morph_kit.h - for tests of single morph steps: networks made by hand whose output is a map, so that its border can be told
 * from its interior, and steps that are proved, in double and single precision, in use and in training; what is new has to
 * learn. Include after tests/test.h. */
#ifndef TESTS_ENGINE_MORPH_KIT_H
#define TESTS_ENGINE_MORPH_KIT_H

#include "base/memory.h"
#include "engine/nn/op.h"
#include "engine/surgery/proof.h"
#include "tests/engine/morph_data.h"
#include "tests/engine/morph_step.h"
#include "tests/engine/random_graph.h"

/* ---- networks ---- */

/* x [N,3,9,8] goes in, a map comes out, so that its border can be told from its interior. */
static inline struct rg start(uint64_t seed, struct rg_value *x) {
    static struct err e;
    struct rg b = {.r = random_seed(seed), .e = &e};
    struct shape shape = {.rank = 4, .dim = {DIM_BATCH, 3, 9, 8}};
    err_clear(&e);
    b.status = graph_new(&b.g, "trap", 17, b.e);
    *x = (struct rg_value){.c = 3, .h = 9, .w = 8, .gain = 1};
    if (!b.status) b.status = graph_add_value(&x->index, b.g, "x", NULL, b.e);
    if (!b.status) b.status = graph_add_input(b.g, x->index, DT_FLOAT32, &shape, b.e);
    return b;
}

static inline struct graph *finish(struct rg *b, struct rg_value x) {
    if (!b->status) b->status = graph_add_output(b->g, x.index, b->e);
    if (!b->status) b->status = graph_finish(b->g, b->e);
    return ok(!b->status, "%s", b->e->text) ? b->g : NULL;
}

/* A constant of integers: axes, sizes, pads. */
static inline int whole_numbers(struct rg *b, int64_t n, const int64_t *list) {
    struct array *a;
    int value = VALUE_NONE;
    if (!b->status) b->status = array_new(&a, DT_INT64, &(struct shape){.rank = 1, .dim = {n}}, b->e);
    if (b->status) return value;
    memcpy(a->data, list, (size_t)n * sizeof *list);
    b->status = graph_add_constant_take(&value, b->g, NULL, a, b->e);
    return value;
}

static inline struct rg_window window(int64_t kernel, int64_t stride, int64_t dilation, int64_t pad) {
    return (struct rg_window){{kernel, kernel}, {stride, stride}, {dilation, dilation}, {pad, pad, pad, pad}, NULL};
}

/* "conv1", with a bias unless `bare`, to five channels. */
static inline struct rg_value conv(struct rg *b, struct rg_value x, struct rg_window w, bool bare) {
    b->o.with = bare ? RG_NO_BIAS : 0;
    b->o.without = bare ? 0 : RG_NO_BIAS;
    struct rg_value y = rg_conv(b, x, w, 5, 1, VALUE_NONE);
    if (bare && !b->status) b->g->nodes[b->g->n_nodes - 1].n_inputs = 2;
    return y;
}

static inline struct rg_value last(struct rg *b, struct rg_value x) {
    return rg_conv(b, x, window(3, 1, 1, 1), 4, 1, VALUE_NONE);
}

/* conv1 - [norm] - activation - convN: the usual pattern. */
static inline struct graph *usual(uint64_t seed, struct rg_window w, bool norm, const char *activation) {
    struct rg_value x;
    struct rg b = start(seed, &x);
    x = conv(&b, x, w, norm);
    if (norm) x = rg_norm(&b, x);
    if (activation) x = rg_simple(&b, x, activation, "act", 1);
    return finish(&b, last(&b, x));
}

/* Two residual blocks, sum1 and sum2. */
static inline struct graph *residual(void) {
    struct rg_value x, y;
    struct rg b = start(26, &x);
    x = rg_simple(&b, conv(&b, x, window(3, 1, 1, 1), false), "Relu", "relu", 1);
    for (int i = 0; i < 2; i++) {
        y = rg_simple(&b, rg_norm(&b, conv(&b, x, window(3, 1, 1, 1), true)), "Relu", "relu", 1);
        y = rg_norm(&b, conv(&b, y, window(3, 1, 1, 1), true));
        x.index = rg_node(&b, "Add", i ? "sum2" : "sum1", (int[]){y.index, x.index}, 2);
        x = rg_simple(&b, x, "Relu", "relu", 1);
    }
    return finish(&b, last(&b, x));
}

/* ---- steps ---- */

/* The child, NULL with the reason in *e. */
static inline struct graph *grown(const struct graph *parent, const char *text, const struct morph_data *data,
                                  struct text *report, struct err *e) {
    struct morph_step s;
    struct morphing m;
    struct graph *copy, *child = NULL;
    struct json_writer w;
    if (!parent || !parse_step(&s, text) || graph_clone(&copy, parent, e)) return NULL;
    morphing_init(&m, copy, 5, data);
    if (report) w = json_writer(report);
    if (report) json_open_object(&w, NULL);
    int status = morph_apply(&m, &s, report ? &w : NULL, e);
    if (report) json_close_object(&w);
    if (!status) {
        child = m.graph;
        m.graph = NULL;
    }
    morphing_fini(&m);
    return child;
}

/* Exact everywhere, and what is new learns. */
static inline void prove(const struct graph *parent, const struct graph *child, bool training, const char *what) {
    struct proof p;
    struct err e = {0};
    struct proof_options o = {.seed = 3, .threads = 1, .training_expected = training};
    need(parent && child, "%s: no network", what);
    need(!proof_run(&p, parent, child, &o, &e), "%s: %s", what, e.text);
    const struct deviation *d = &p.worst[PROOF_INFERENCE][PROOF_DOUBLE];
    ok(p.exact, "%s: off by %.2g of %.2g, border %.2g, interior %.2g, single %.2g, training %.2g; at '%s'", what,
       d->max, d->largest, d->border_max, d->interior_max, p.worst[PROOF_INFERENCE][PROOF_SINGLE].max,
       p.worst[PROOF_TRAINING][PROOF_DOUBLE].max, p.first.node ? p.first.node : "?");
    for (int i = 0; i < p.n_gradients; i++)
        ok(!p.gradients[i].dead, "%s: '%s' never gets a gradient", what, p.gradients[i].parameter);
    proof_free(&p);
}

/* Grows, proves; the child is yours. */
static inline struct graph *proved(const struct graph *parent, const char *text) {
    struct err e = {0};
    struct graph *child = grown(parent, text, NULL, NULL, &e);
    if (ok(child != NULL, "%s: %s", text, e.text)) prove(parent, child, true, text);
    return child;
}

static inline void proves(struct graph *parent, const char *text) {
    graph_free(proved(parent, text));
    graph_free(parent);
}

/* Refuses, and the reason has the word. */
static inline void refuses(struct graph *parent, const char *text, const struct morph_data *data, const char *word) {
    struct err e = {0};
    struct graph *child = grown(parent, text, data, NULL, &e);
    ok(!child && strstr(e.text, word), "%s should be refused with '%s': %s", text, word, e.text);
    graph_free(child);
    graph_free(parent);
}

static inline const struct node *node_named(const struct graph *g, const char *name) {
    int i = g ? graph_find_node(g, name) : -1;
    return ok(i >= 0, "no node '%s'", name) ? &g->nodes[i] : NULL;
}

static inline const struct array *weights_of(const struct graph *g, const char *name) {
    const struct node *n = node_named(g, name);
    return n ? g->values[n->inputs[1]].constant : NULL;
}

static inline int64_t listed(const struct node *n, const char *name, size_t at) {
    const struct attribute *a = n ? node_attribute(n, name) : NULL;
    return a && at < a->count ? a->integers[at] : -1;
}

#endif
