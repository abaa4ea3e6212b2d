/* The generator of random graphs: what it draws can be planned and run, says something, and has every feature. */
#define TEST_SECONDS 60
#include "tests/engine/random_graph.h"

#include "base/memory.h"
#include "engine/nn/net.h"
#include "engine/nn/op.h"
#include "tests/base/starve.h"
#include "tests/test.h"

enum { SEEDS = 300, BATCH = 6 };

static size_t count_of(struct shape s) {
    size_t n = 1;
    for (int d = 0; d < s.rank; d++) n *= (size_t)s.dim[d];
    return n;
}

/* Deviation over the samples, the largest of any output; NaN when something is not finite. */
static double spread(const real *y, size_t samples, size_t row) {
    double most = 0;
    for (size_t k = 0; k < row; k++) {
        double mean = 0, squares = 0;
        for (size_t i = 0; i < samples; i++) mean += (double)y[i * row + k] / (double)samples;
        for (size_t i = 0; i < samples; i++) squares += pow((double)y[i * row + k] - mean, 2) / (double)samples;
        if (!isfinite(squares)) return NAN;
        most = fmax(most, sqrt(squares));
    }
    return most;
}

static double run(const struct graph *g, struct crew *crew, bool training, unsigned long long seed) {
    struct net *n;
    struct err e = {0};
    struct net_options o = {.batch = BATCH, .training = training};
    if (!ok(!net_new(&n, g, crew, &o, &e), "seed %llu: %s", seed, e.text)) return 0;
    struct random r = random_seed(seed);
    size_t count = count_of(net_input_shape(n, 0)), made = count_of(net_output_shape(n, 0));
    for (size_t i = 0; i < count; i++) net_input(n, 0)[i] = (real)random_normal(&r);
    net_forward(n, BATCH, r, NULL, NULL);
    double s = spread(net_output(n, 0), BATCH, made / BATCH);
    net_free(n);
    return s;
}

TEST(graphs_of_300_seeds_run_and_have_every_feature) {
    struct crew *crew;
    int have[RG_FEATURE_COUNT] = {0};
    double least = INFINITY, most = 0;
    need(!crew_new(&crew, 2, NULL), "crew");
    for (unsigned long long seed = 1; seed <= SEEDS; seed++) {
        struct random_graph r;
        struct err e = {0};
        if (!ok(!random_graph(&r, seed, NULL, &e), "seed %llu: %s", seed, e.text)) continue;
        for (int training = 0; training < 2; training++) {
            double s = run(r.graph, crew, training, seed);
            ok(s > 0.003 && s < 20, "seed %llu: outputs spread over %g, training %d", seed, s, training);
            least = fmin(least, s), most = fmax(most, s);
        }
        for (int i = 0; i < RG_FEATURE_COUNT; i++) have[i] += (int)(r.features >> i & 1);
        ok(!(r.features & RG_RARE), "seed %llu has a rare feature", seed);
        graph_free(r.graph);
    }
    crew_free(crew);
    if (getenv("TEST_VERBOSE")) printf("# outputs spread over %.3g to %.3g\n", least, most);
    for (int i = 0; i < RG_FEATURE_COUNT; i++) {
        char name[64];
        bool rare = RG_RARE >> i & 1;
        random_graph_describe(name, sizeof name, UINT64_C(1) << i);
        if (getenv("TEST_VERBOSE")) printf("# %-16s %3d %%\n", name, have[i] * 100 / SEEDS);
        ok(rare || have[i] * 100 >= 8 * SEEDS, "only %d of %d graphs have %s", have[i], SEEDS, name);
    }
}

TEST(what_is_wished_is_there_and_what_is_not_is_not) {
    for (int i = 0; i < RG_FEATURE_COUNT; i++)
        for (unsigned long long seed = 1; seed <= 4; seed++) {
            struct random_graph r;
            struct err e = {0};
            char name[64];
            uint64_t bit = UINT64_C(1) << i;
            random_graph_describe(name, sizeof name, bit);
            if (ok(!random_graph(&r, seed, &(struct random_graph_options){.with = bit}, &e), "%s: %s", name, e.text)) {
                ok(r.features & bit, "%s was wished", name);
                graph_free(r.graph);
            }
            if (bit == RG_BIAS || bit == RG_CONV) continue; /* every body has one or the other */
            if (ok(!random_graph(&r, seed, &(struct random_graph_options){.without = bit}, &e), "%s: %s", name,
                   e.text)) {
                ok(!(r.features & bit), "%s was not wished", name);
                graph_free(r.graph);
            }
        }
    struct random_graph r;
    struct random_graph_options o = {.with = RG_NORM, .without = RG_NORM};
    ok(random_graph(&r, 1, &o, NULL) == E_NOT_FOUND, "contradiction");
}

/* What the features say is what the nodes say. */
static uint64_t seen(const struct graph *g) {
    static const struct {
        const char *op;
        uint64_t feature;
    } rows[] = {{"Conv", RG_CONV},        {"BatchNormalization", RG_NORM},
                {"Relu", RG_RELU},        {"LeakyRelu", RG_LEAKY},
                {"PRelu", RG_PRELU},      {"Tanh", RG_TANH},
                {"Sigmoid", RG_SIGMOID},  {"Elu", RG_ELU},
                {"Clip", RG_CLIP},        {"Concat", RG_CONCAT},
                {"MaxPool", RG_MAX_POOL}, {"AveragePool", RG_AVERAGE_POOL},
                {"Gemm", RG_GEMM},        {"GlobalAveragePool", RG_GLOBAL_POOL},
                {"MatMul", RG_MATMUL}};
    uint64_t found = 0;
    for (int i = 0; i < g->n_nodes; i++)
        for (size_t k = 0; k < sizeof rows / sizeof *rows; k++)
            if (strcmp(g->nodes[i].op->name, rows[k].op) == 0) found |= rows[k].feature;
    return found;
}

static uint64_t seen_of_convolutions(const struct graph *g) {
    uint64_t found = 0;
    for (int i = 0; i < g->n_nodes; i++) {
        const struct node *n = &g->nodes[i];
        if (strcmp(n->op->name, "Conv") != 0) continue;
        const struct attribute *strides = node_attribute(n, "strides"), *pads = node_attribute(n, "pads");
        int64_t groups = node_int(n, "group", 1), channels = g->values[n->inputs[0]].shape.dim[1];
        const int64_t *kernel = node_attribute(n, "kernel_shape")->integers;
        if (groups > 1) found |= groups == channels ? RG_DEPTHWISE : RG_GROUPS;
        if (strides && strides->integers[0] > 1) found |= RG_STRIDE;
        if (node_attribute(n, "dilations")) found |= RG_DILATION;
        if (node_attribute(n, "auto_pad")) found |= RG_AUTO_PAD;
        if (!pads) continue;
        const int64_t *p = pads->integers;
        if (p[0] != p[2] || p[1] != p[3]) found |= RG_UNEVEN;
        if (kernel[0] * kernel[1] > 1 && p[0] + p[1] + p[2] + p[3] == 0) found |= RG_VALID;
    }
    return found;
}

TEST(features_are_what_the_nodes_say) {
    uint64_t known = RG_DEPTHWISE | RG_GROUPS | RG_STRIDE | RG_DILATION | RG_AUTO_PAD | RG_UNEVEN | RG_VALID, kinds = 0;
    for (unsigned long long seed = 1; seed <= SEEDS; seed++) {
        struct random_graph r;
        char said[512], have[512];
        struct random_graph_options o = {.with = seed % 3 == 0 ? RG_DILATION : seed % 3 == 1 ? RG_AUTO_PAD : 0};
        if (!ok(!random_graph(&r, seed, &o, NULL), "seed %llu", seed)) continue;
        uint64_t found = seen(r.graph);
        kinds |= found;
        ok((r.features & kinds) == (found & kinds), "seed %llu: said %s; has %s", seed,
           random_graph_describe(said, sizeof said, r.features & kinds),
           random_graph_describe(have, sizeof have, found));
        found = seen_of_convolutions(r.graph);
        ok((r.features & known) == found, "seed %llu: said %s; has %s", seed,
           random_graph_describe(said, sizeof said, r.features & known),
           random_graph_describe(have, sizeof have, found));
        graph_free(r.graph);
    }
}

TEST(options_bound_what_is_drawn) {
    struct random_graph_options o = {.channels = 3, .least_side = 5, .side = 7, .blocks = 1, .classes = 4, .batch = 2};
    for (unsigned long long seed = 1; seed <= 100; seed++) {
        struct random_graph r;
        struct err e = {0};
        if (!ok(!random_graph(&r, seed, &o, &e), "seed %llu: %s", seed, e.text)) continue;
        const struct shape *x = &r.graph->values[r.graph->inputs[0]].shape,
                           *y = &r.graph->values[r.graph->outputs[0]].shape;
        ok(x->dim[0] == 2 && y->dim[0] == 2 && y->rank == 2 && y->dim[1] == 4, "seed %llu", seed);
        for (int d = 2; d < x->rank; d++) ok(x->dim[d] >= 5 && x->dim[d] <= 7, "seed %llu", seed);
        graph_free(r.graph);
    }
}

static bool same(const struct graph *a, const struct graph *b) {
    bool good = a->n_values == b->n_values && a->n_nodes == b->n_nodes;
    for (int v = 0; v < a->n_values && good; v++) {
        const struct array *x = a->values[v].constant, *y = b->values[v].constant;
        good = strcmp(a->values[v].name, b->values[v].name) == 0 && !x == !y;
        if (good && x) good = x->count == y->count && !memcmp(x->data, y->data, x->count * dtype_size(x->type));
    }
    return good;
}

TEST(a_seed_determines_the_graph) {
    struct random_graph a, b, c;
    need(!random_graph(&a, 5, NULL, NULL) && !random_graph(&b, 5, NULL, NULL) && !random_graph(&c, 6, NULL, NULL), "-");
    ok(same(a.graph, b.graph), "the same seed");
    ok(!same(a.graph, c.graph), "another seed");
    graph_free(a.graph), graph_free(b.graph), graph_free(c.graph);
}

static int draw_one(void) {
    struct random_graph r;
    int status = random_graph(&r, 3, &(struct random_graph_options){.blocks = 1}, NULL);
    if (!status) graph_free(r.graph);
    return status;
}

TEST(starved_drawing_leaves_nothing) {
    starve("random graph", draw_one);
}

TEST_MAIN
