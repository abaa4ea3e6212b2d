/* One pass at either precision: against the engine's own network, against formulas in double, against each other. */
#define TEST_SECONDS 60
#include "engine/nn/outputs.h"

#include "base/memory.h"
#include "engine/nn/infer.h"
#include "engine/nn/net.h"
#include "engine/nn/op.h"
#include "tests/base/starve.h"
#include "tests/engine/random_graph.h"
#include "tests/test.h"

enum { BATCH = 5, VALUES = 256 };

typedef int outputs_function(const struct outputs_task *t, struct err *e);

static size_t count_of(const struct shape *s) {
    size_t n = 1;
    for (int d = 0; d < s->rank; d++) n *= (size_t)s->dim[d];
    return n;
}

/* All values of a graph with a single input that some node makes, or the outputs alone. */
struct pass {
    struct graph *graph;
    struct inferred *known;
    double *input;
    int values[VALUES];
    double *out[VALUES]; /* by number in `values` */
    double *of[VALUES];  /* the same by value */
    int n;
};

static bool pass_open(struct pass *p, struct graph *g, bool all, uint64_t seed) {
    struct random r = random_seed(seed);
    *p = (struct pass){.graph = g};
    if (!ok(g->n_values <= VALUES && !graph_infer(&p->known, g, BATCH, NULL), "%d values", g->n_values)) return false;
    size_t n = count_of(&p->known->values[g->inputs[0]].shape);
    p->input = mem_alloc(n * sizeof(double));
    for (size_t i = 0; i < n; i++) p->input[i] = (double)(float)random_normal(&r);
    for (int v = 0; v < g->n_values; v++) {
        if (all ? g->values[v].producer < 0 : g->outputs[0] != v) continue;
        p->of[v] = p->out[p->n] = mem_alloc(count_of(&p->known->values[v].shape) * sizeof(double));
        p->values[p->n++] = v;
    }
    p->of[g->inputs[0]] = p->input;
    return true;
}

static void pass_close(struct pass *p) {
    for (int i = 0; i < p->n; i++) mem_free(p->out[i]);
    mem_free(p->input);
    inferred_free(p->known);
}

static struct outputs_task pass_task(const struct pass *p, bool training, int threads) {
    static const double *inputs[1];
    inputs[0] = p->input;
    return (struct outputs_task){.graph = p->graph,
                                 .batch = BATCH,
                                 .inputs = inputs,
                                 .training = training,
                                 .threads = threads,
                                 .values = p->values,
                                 .n_values = p->n,
                                 .out = p->out};
}

static bool pass_run(struct pass *p, outputs_function *run, bool training, int threads) {
    struct outputs_task t = pass_task(p, training, threads);
    struct err e = {0};
    return ok(!run(&t, &e), "%s", e.text);
}

static struct graph *draw(uint64_t seed, const struct random_graph_options *o) {
    struct random_graph r = {0};
    struct err e = {0};
    ok(!random_graph(&r, seed, o, &e), "seed %llu: %s", (unsigned long long)seed, e.text);
    return r.graph;
}

/* Largest difference and largest number. */
static double apart(const double *a, const double *b, size_t n, double *most) {
    double worst = 0;
    *most = 0;
    for (size_t i = 0; i < n; i++) {
        if (isnan(a[i]) || isnan(b[i])) return NAN;
        worst = fmax(worst, fabs(a[i] - b[i]));
        *most = fmax(*most, fabs(a[i]));
    }
    return worst;
}

/* ---- against the network that everything else runs ---- */

static void same_as_net(struct pass *p, outputs_function *own, bool training, unsigned long long seed) {
    struct crew *crew;
    struct net *n;
    struct net_options options = {.batch = BATCH, .training = training};
    need(!crew_new(&crew, 1, NULL) && !net_new(&n, p->graph, crew, &options, NULL), "net");
    struct shape in = net_input_shape(n, 0), out = net_output_shape(n, 0);
    for (size_t i = 0; i < count_of(&in); i++) net_input(n, 0)[i] = (real)p->input[i];
    net_forward(n, BATCH, random_seed(0), NULL, NULL);
    if (pass_run(p, own, training, 2))
        for (size_t i = 0; i < count_of(&out); i++)
            if (!ok((double)net_output(n, 0)[i] == p->out[0][i], "seed %llu, element %zu", seed, i)) break;
    net_free(n);
    crew_free(crew);
}

TEST(outputs_at_the_engines_own_precision_are_the_networks) {
    outputs_function *own = sizeof(real) == sizeof(float) ? outputs_single : outputs_double;
    for (unsigned long long seed = 1; seed <= 20; seed++) {
        struct pass p;
        struct graph *g = draw(seed, NULL);
        if (pass_open(&p, g, false, seed)) same_as_net(&p, own, false, seed), same_as_net(&p, own, true, seed);
        pass_close(&p);
        graph_free(g);
    }
}

/* ---- the two precisions ---- */

static void compare_precisions(unsigned long long seed, bool training, int *different) {
    struct pass one, two;
    struct graph *g = draw(seed, NULL);
    if (!pass_open(&one, g, true, seed) || !pass_open(&two, g, true, seed)) return;
    if (pass_run(&one, outputs_single, training, 1) && pass_run(&two, outputs_double, training, 1))
        for (int i = 0; i < one.n; i++) {
            size_t n = count_of(&one.known->values[one.values[i]].shape);
            double most, worst = apart(one.out[i], two.out[i], n, &most);
            ok(worst <= 1e-4 * fmax(1, most), "seed %llu, %s: %g apart, numbers to %g", seed,
               g->values[one.values[i]].name, worst, most);
            *different += worst > 1e-9;
        }
    pass_close(&one), pass_close(&two);
    graph_free(g);
}

TEST(single_and_double_agree_to_single_precision_and_no_further) {
    int different = 0;
    for (unsigned long long seed = 1; seed <= 60; seed++) compare_precisions(seed, seed % 2, &different);
    ok(different > 200, "only %d values differ at all", different);
}

TEST(marking_values_changes_no_more_than_rounding) {
    for (unsigned long long seed = 1; seed <= 40; seed++) {
        struct pass one, all;
        struct graph *g = draw(seed, NULL);
        double most;
        if (!pass_open(&one, g, false, seed) || !pass_open(&all, g, true, seed)) return;
        if (pass_run(&one, outputs_double, false, 1) && pass_run(&all, outputs_double, false, 2)) {
            size_t n = count_of(&one.known->values[g->outputs[0]].shape);
            double worst = apart(one.out[0], all.of[g->outputs[0]], n, &most);
            ok(worst <= 1e-13 * fmax(1, most), "seed %llu: %g apart", seed, worst);
        }
        pass_close(&one), pass_close(&all);
        graph_free(g);
    }
}

TEST(threads_do_not_change_a_bit) {
    for (unsigned long long seed = 1; seed <= 20; seed++) {
        struct pass one, two;
        struct graph *g = draw(seed, NULL);
        if (!pass_open(&one, g, false, seed) || !pass_open(&two, g, false, seed)) return;
        if (pass_run(&one, outputs_double, seed % 2, 1) && pass_run(&two, outputs_double, seed % 2, 2))
            ok(!memcmp(one.out[0], two.out[0], count_of(&one.known->values[g->outputs[0]].shape) * sizeof(double)),
               "seed %llu", seed);
        pass_close(&one), pass_close(&two);
        graph_free(g);
    }
}

/* ---- double against formulas, node by node ---- */

static double constant(const struct pass *p, int value, size_t i) {
    double x;
    array_to_double(&x, p->graph->values[value].constant, i, 1);
    return x;
}

/* Element i of a tensor [n, c, ...]. */
static size_t channel_of(const struct shape *s, size_t i) {
    size_t plane = 1;
    for (int d = 2; d < s->rank; d++) plane *= (size_t)s->dim[d];
    return i / plane % (size_t)s->dim[1];
}

static double norm_formula(const struct pass *p, const struct node *n, size_t i, bool training) {
    const struct shape *s = &p->known->values[n->inputs[0]].shape;
    const double *x = p->of[n->inputs[0]];
    size_t c = channel_of(s, i), count = 0;
    double mean = constant(p, n->inputs[3], c), variance = constant(p, n->inputs[4], c), sum = 0, squares = 0;
    for (size_t j = 0; j < count_of(s); j++)
        if (channel_of(s, j) == c) sum += x[j], count++;
    if (training) mean = sum / (double)count;
    for (size_t j = 0; j < count_of(s); j++)
        if (channel_of(s, j) == c) squares += (x[j] - mean) * (x[j] - mean);
    if (training) variance = squares / (double)count;
    return (x[i] - mean) / sqrt(variance + node_real(n, "epsilon", 1e-5)) * constant(p, n->inputs[1], c) +
           constant(p, n->inputs[2], c);
}

/* x [batch, in, h, w], any stride, pads, groups. */
static double conv_formula(const struct pass *p, const struct node *n, size_t i) {
    const struct shape *x = &p->known->values[n->inputs[0]].shape, *y = &p->known->values[n->outputs[0]].shape,
                       *k = &p->graph->values[n->inputs[1]].shape;
    const struct attribute *strides = node_attribute(n, "strides"), *pads = node_attribute(n, "pads");
    int64_t sh = strides ? strides->integers[0] : 1, sw = strides ? strides->integers[1] : 1;
    int64_t at = (int64_t)i, w = at % y->dim[3], h = at / y->dim[3] % y->dim[2];
    int64_t o = at / y->dim[3] / y->dim[2] % y->dim[1], sample = at / y->dim[3] / y->dim[2] / y->dim[1];
    int64_t first = o / (y->dim[1] / node_int(n, "group", 1)) * k->dim[1];
    double sum = n->n_inputs > 2 ? constant(p, n->inputs[2], (size_t)o) : 0;
    for (int64_t c = 0; c < k->dim[1]; c++)
        for (int64_t u = 0; u < k->dim[2]; u++)
            for (int64_t v = 0; v < k->dim[3]; v++) {
                int64_t r = h * sh + u - pads->integers[0], q = w * sw + v - pads->integers[1];
                if (r < 0 || q < 0 || r >= x->dim[2] || q >= x->dim[3]) continue;
                size_t from = (size_t)(((sample * x->dim[1] + first + c) * x->dim[2] + r) * x->dim[3] + q);
                size_t weight = (size_t)(((o * k->dim[1] + c) * k->dim[2] + u) * k->dim[3] + v);
                sum += p->of[n->inputs[0]][from] * constant(p, n->inputs[1], weight);
            }
    return sum;
}

static double gemm_formula(const struct pass *p, const struct node *n, size_t i) {
    const struct shape *x = &p->known->values[n->inputs[0]].shape, *y = &p->known->values[n->outputs[0]].shape;
    size_t in = (size_t)x->dim[1], width = (size_t)y->dim[1], o = i % width, sample = i / width;
    bool turned = node_int(n, "transB", 0);
    double sum = n->n_inputs > 2 ? constant(p, n->inputs[2], o) : 0;
    for (size_t k = 0; k < in; k++)
        sum += p->of[n->inputs[0]][sample * in + k] * constant(p, n->inputs[1], turned ? o * in + k : k * width + o);
    return sum;
}

/* NaN for what is not checked here. */
static double formula(const struct pass *p, const struct node *n, size_t i, bool training) {
    const char *op = n->op->name;
    double x = p->of[n->inputs[0]][i % count_of(&p->known->values[n->inputs[0]].shape)];
    if (!strcmp(op, "Conv")) return conv_formula(p, n, i);
    if (!strcmp(op, "Gemm") || !strcmp(op, "MatMul")) return gemm_formula(p, n, i);
    if (!strcmp(op, "BatchNormalization")) return norm_formula(p, n, i, training);
    if (!strcmp(op, "Relu")) return x > 0 ? x : 0;
    if (!strcmp(op, "LeakyRelu")) return x > 0 ? x : node_real(n, "alpha", 0.01) * x;
    if (!strcmp(op, "Tanh")) return tanh(x);
    if (!strcmp(op, "Sigmoid")) return 1 / (1 + exp(-x));
    if (!strcmp(op, "Add") && p->of[n->inputs[1]]) return x + p->of[n->inputs[1]][i];
    return NAN;
}

static void check_formulas(const struct pass *p, bool training, unsigned long long seed, int *checked) {
    for (int k = 0; k < p->graph->n_nodes; k++) {
        const struct node *n = &p->graph->nodes[k];
        size_t count = count_of(&p->known->values[n->outputs[0]].shape);
        for (size_t i = 0; i < count; i++) {
            double right = formula(p, n, i, training), here = p->of[n->outputs[0]][i];
            if (isnan(right)) break;
            (*checked)++;
            if (!ok(test_relative(here, right) < 1e-13, "seed %llu, %s, element %zu: %.17g; the formula says %.17g",
                    seed, n->name, i, here, right))
                break;
        }
    }
}

TEST(values_in_double_are_what_the_formulas_say) {
    int checked = 0;
    struct random_graph_options o = {.side = 8, .blocks = 3};
    for (unsigned long long seed = 1; seed <= 24; seed++) {
        struct pass p;
        struct graph *g = draw(seed, &o);
        if (pass_open(&p, g, true, seed) && pass_run(&p, outputs_double, seed % 2, 1))
            check_formulas(&p, seed % 2, seed, &checked);
        pass_close(&p);
        graph_free(g);
    }
    ok(checked > 20000, "%d numbers checked", checked);
}

/* Inputs, constants, and the same value twice can be had as well. */
TEST(any_value_can_be_wanted) {
    struct graph *g = draw(2, NULL);
    struct pass p;
    need(pass_open(&p, g, false, 2), "pass");
    int weight = g->nodes[0].inputs[1];
    size_t n_in = count_of(&p.known->values[g->inputs[0]].shape), n = g->values[weight].constant->count;
    size_t n_out = count_of(&p.known->values[g->outputs[0]].shape);
    double *x = mem_calloc(n_in, sizeof *x), *w = mem_calloc(n, sizeof *w), *y = mem_calloc(n_out, sizeof *y);
    struct outputs_task t = pass_task(&p, false, 1);
    t.values = (int[]){g->inputs[0], weight, g->outputs[0], g->outputs[0]};
    t.out = (double *[]){x, w, y, p.out[0]};
    t.n_values = 4;
    ok(!outputs_double(&t, NULL), "runs");
    ok(!memcmp(x, p.input, n_in * sizeof *x), "the input");
    ok(w[n - 1] == constant(&p, weight, n - 1), "a weight");
    ok(!memcmp(y, p.out[0], n_out * sizeof *y) && y[0] != 0, "the output twice");
    mem_free(x), mem_free(w), mem_free(y);
    pass_close(&p);
    graph_free(g);
}

/* A second pass gives what a network of its own gives, also after batch statistics. */
static void check_passes(unsigned long long seed, bool training) {
    struct graph *g = draw(seed, NULL);
    struct pass one, two;
    if (!pass_open(&one, g, false, seed) || !pass_open(&two, g, false, seed + 1)) return;
    size_t n = count_of(&one.known->values[g->outputs[0]].shape);
    double *y[2] = {mem_calloc(n, sizeof(double)), mem_calloc(n, sizeof(double))};
    struct outputs_task t = pass_task(&one, training, 1);
    t.passes = 2;
    t.inputs = (const double *[]){one.input, two.input};
    t.out = y;
    ok(!outputs_double(&t, NULL), "seed %llu", seed);
    if (pass_run(&one, outputs_double, training, 1) && pass_run(&two, outputs_double, training, 1)) {
        ok(!memcmp(y[0], one.out[0], n * sizeof(double)), "seed %llu, first pass", seed);
        ok(!memcmp(y[1], two.out[0], n * sizeof(double)), "seed %llu, second pass", seed);
        ok(memcmp(y[0], y[1], n * sizeof(double)), "seed %llu, the inputs differ", seed);
    }
    mem_free(y[0]), mem_free(y[1]);
    pass_close(&one), pass_close(&two);
    graph_free(g);
}

TEST(passes_know_nothing_of_each_other) {
    for (unsigned long long seed = 1; seed <= 20; seed++) check_passes(seed, seed % 2);
}

/* ---- gradients ---- */

/* sum of c[i] y[i] */
static double functional(struct pass *p, const double *c, bool training) {
    double sum = 0;
    pass_run(p, outputs_double, training, 1);
    for (size_t i = 0; i < count_of(&p->known->values[p->values[0]].shape); i++) sum += c[i] * p->out[0][i];
    return sum;
}

static struct array *as_double(const struct array *a) {
    struct array *out = NULL;
    array_new(&out, DT_FLOAT64, &a->shape, NULL);
    array_to_double(out->data, a, 0, a->count);
    return out;
}

static struct gradient_size differences(struct pass *p, int v, const double *c) {
    struct array *float32 = p->graph->values[v].constant, *moved = as_double(float32);
    struct gradient_size size = {0};
    double *x = moved->data, step = 1e-5;
    p->graph->values[v].constant = moved;
    for (size_t i = 0; i < moved->count; i++) {
        double before = x[i], slope;
        x[i] = before + step;
        slope = functional(p, c, true);
        x[i] = before - step;
        slope = (slope - functional(p, c, true)) / (2 * step);
        x[i] = before;
        size.norm += slope * slope;
        size.largest = fmax(size.largest, fabs(slope));
    }
    p->graph->values[v].constant = float32;
    array_free(moved);
    size.norm = sqrt(size.norm);
    return size;
}

static double *numbers(size_t n, uint64_t seed) {
    struct random r = random_seed(seed);
    double *x = mem_alloc(n * sizeof *x);
    for (size_t i = 0; i < n; i++) x[i] = random_normal(&r);
    return x;
}

static void check_gradients(unsigned long long seed) {
    /* without kinks, which differences meet */
    struct random_graph_options o = {.side = 6,
                                     .blocks = 2,
                                     .channels = 4,
                                     .without = RG_RELU | RG_LEAKY | RG_PRELU | RG_CLIP | RG_MAX_POOL | RG_ELU};
    struct graph *g = draw(seed, &o);
    struct pass p;
    need(pass_open(&p, g, false, seed), "pass");
    double *c = numbers(count_of(&p.known->values[g->outputs[0]].shape), seed);
    struct gradient_size *single = mem_calloc((size_t)g->n_values, sizeof *single),
                         *sizes = mem_calloc((size_t)g->n_values, sizeof *sizes);
    struct outputs_task t = pass_task(&p, true, 2);
    t.output_gradients = (const double *[]){c};
    t.gradients = sizes;
    ok(!outputs_double(&t, NULL), "seed %llu", seed);
    t.gradients = single;
    ok(!outputs_single(&t, NULL), "seed %llu", seed);
    for (int v = 0; v < g->n_values; v++) {
        if (!g->values[v].trainable) {
            ok(isnan(sizes[v].norm) && isnan(sizes[v].largest), "%s is not trained", g->values[v].name);
            continue;
        }
        struct gradient_size right = differences(&p, v, c);
        ok(test_relative(right.norm, sizes[v].norm) < 1e-7 && test_relative(right.largest, sizes[v].largest) < 1e-7,
           "seed %llu, %s: %.12g, %.12g; by differences %.12g, %.12g", seed, g->values[v].name, sizes[v].norm,
           sizes[v].largest, right.norm, right.largest);
        ok(test_relative(single[v].norm, sizes[v].norm) < 1e-4, "seed %llu, %s: %g in float, %g in double", seed,
           g->values[v].name, single[v].norm, sizes[v].norm);
    }
    mem_free(c), mem_free(sizes), mem_free(single);
    pass_close(&p);
    graph_free(g);
}

TEST(gradients_have_the_length_of_the_slopes) {
    for (unsigned long long seed = 1; seed <= 8; seed++) check_gradients(seed);
}

/* y = W2 (W1 x), with both or W2 alone 0. */
static struct graph *two_layers(bool both) {
    struct graph *g;
    int x = -1, w[2], y[2];
    struct shape in = {2, {DIM_BATCH, 4}}, square = {2, {4, 4}};
    graph_new(&g, "two", 17, NULL);
    graph_add_value(&x, g, "x", NULL, NULL);
    graph_add_input(g, x, DT_FLOAT32, &in, NULL);
    for (int k = 0; k < 2; k++) {
        struct array *a;
        array_new(&a, DT_FLOAT32, &square, NULL);
        for (int i = 0; i < 16 && !both && k == 0; i++) ((float *)a->data)[i] = (float)(i % 5 - 2);
        graph_add_constant_take(&w[k], g, k ? "w2" : "w1", a, NULL);
        graph_add_value(&y[k], g, NULL, "y", NULL);
        graph_add_node(NULL, g, "MatMul", NULL, (int[]){k ? y[0] : x, w[k]}, 2, &y[k], 1, NULL);
    }
    graph_add_output(g, y[1], NULL);
    ok(!graph_finish(g, NULL), "two layers");
    return g;
}

static void check_steps(bool both, double rate) {
    enum { STEPS = 2 };
    struct graph *g = two_layers(both);
    struct pass p;
    struct gradient_size sizes[STEPS + 1][8];
    need(pass_open(&p, g, false, 1) && g->n_values <= 8, "pass");
    double *c = numbers(BATCH * 4, 5);
    struct outputs_task t = pass_task(&p, true, 1);
    t.output_gradients = (const double *[]){c};
    t.gradients = mem_calloc((STEPS + 1) * (size_t)g->n_values, sizeof *t.gradients);
    t.steps = STEPS;
    t.rate = rate;
    ok(!outputs_double(&t, NULL), "steps");
    for (int s = 0; s <= STEPS; s++)
        memcpy(sizes[s], t.gradients + s * g->n_values, sizeof(struct gradient_size) * (size_t)g->n_values);
    mem_free(t.gradients);
    int w1 = graph_find_value(g, "w1"), w2 = graph_find_value(g, "w2");
    ok(sizes[0][w1].norm == 0, "the first layer has no gradient yet");
    ok(both ? sizes[0][w2].norm == 0 : sizes[0][w2].norm > 0, "the second has one if the first is not 0");
    ok(sizes[0][w1].idle == 16 && sizes[0][w2].idle == (both ? 16 : 0), "idle at first");
    for (int s = 1; s <= STEPS; s++) {
        bool alive = !both && rate > 0;
        ok(sizes[s][w1].idle == (alive ? 0 : 16), "step %d: %zu idle", s, sizes[s][w1].idle);
        ok((sizes[s][w1].norm > 0) == alive, "step %d: %g, both %d, rate %g", s, sizes[s][w1].norm, both, rate);
        ok((sizes[s][w2].norm == sizes[0][w2].norm) == (!alive || s == 1), "step %d", s);
    }
    for (int i = 0; i < 16; i++) ok(constant(&p, w2, (size_t)i) == 0, "the graph is as it was");
    mem_free(c);
    pass_close(&p);
    graph_free(g);
}

TEST(steps_bring_the_gradient_of_what_fed_zeros) {
    check_steps(false, 0.1);
    check_steps(true, 0.1);
    check_steps(false, 0);
}

/* y = relu(x w): one long step and y is 0 for good; but the parameter has had its gradient. */
TEST(a_gradient_once_met_counts) {
    struct graph *f;
    struct array *a = NULL;
    struct pass p;
    int x = -1, w = -1, y[2] = {-1, -1};
    graph_new(&f, "dies", 17, NULL);
    graph_add_value(&x, f, "x", NULL, NULL);
    graph_add_input(f, x, DT_FLOAT32, &(struct shape){2, {DIM_BATCH, 1}}, NULL);
    array_new(&a, DT_FLOAT32, &(struct shape){2, {1, 1}}, NULL);
    ((float *)a->data)[0] = 0.1f;
    graph_add_constant_take(&w, f, "w", a, NULL);
    graph_add_value(&y[0], f, "product", NULL, NULL), graph_add_value(&y[1], f, "y", NULL, NULL);
    graph_add_node(NULL, f, "MatMul", NULL, (int[]){x, w}, 2, &y[0], 1, NULL);
    graph_add_node(NULL, f, "Relu", NULL, &y[0], 1, &y[1], 1, NULL);
    graph_add_output(f, y[1], NULL);
    need(!graph_finish(f, NULL) && pass_open(&p, f, false, 1), "graph");
    double ones[BATCH] = {1, 1, 1, 1, 1};
    struct gradient_size sizes[2][4];
    struct outputs_task t = pass_task(&p, true, 1);
    for (int i = 0; i < BATCH; i++) p.input[i] = i + 1;
    t.output_gradients = (const double *[]){ones};
    t.gradients = sizes[0];
    t.steps = 1;
    t.rate = 1;
    ok(f->n_values == 4 && !outputs_double(&t, NULL), "steps");
    ok(sizes[0][w].norm == 15 && sizes[1][w].norm == 0, "%g, then %g", sizes[0][w].norm, sizes[1][w].norm);
    ok(sizes[0][w].idle == 0 && sizes[1][w].idle == 0, "not idle");
    pass_close(&p);
    graph_free(f);
}

/* ---- refusals and hunger ---- */

TEST(what_cannot_be_is_refused) {
    struct graph *g = draw(1, NULL);
    struct pass p;
    struct err e = {0};
    need(pass_open(&p, g, false, 1), "pass");
    struct outputs_task t = pass_task(&p, false, 1);
    for (int v = -1; v <= g->n_values; v += g->n_values + 1) {
        t.values = &v;
        t.n_values = 1;
        ok(outputs_double(&t, NULL) == E_INVALID && outputs_single(&t, NULL) == E_INVALID, "value %d", v);
    }
    t = pass_task(&p, false, 1);
    t.memory = 5000;
    ok(outputs_double(&t, &e) == E_TOO_LARGE && strstr(e.text, "5000"), "%s", e.text);
    pass_close(&p);
    graph_free(g);
}

static struct pass hungry;
static const double *hungry_gradients[1];
static struct gradient_size hungry_sizes[2 * VALUES];

static int run_hungry(outputs_function *run) {
    struct outputs_task t = pass_task(&hungry, true, 1);
    t.output_gradients = hungry_gradients;
    t.gradients = hungry_sizes;
    t.steps = 1;
    t.rate = 0.1;
    return run(&t, NULL);
}
static int run_single(void) {
    return run_hungry(outputs_single);
}
static int run_double(void) {
    return run_hungry(outputs_double);
}

TEST(starved_passes_leave_nothing) {
    struct random_graph_options o = {.with = RG_NORM | RG_ADD, .blocks = 2};
    struct graph *g = draw(1, &o);
    need(pass_open(&hungry, g, true, 1), "pass");
    double *c = numbers(count_of(&hungry.known->values[g->outputs[0]].shape), 5);
    hungry_gradients[0] = c;
    starve("outputs_single", run_single);
    starve("outputs_double", run_double);
    mem_free(c);
    pass_close(&hungry);
    graph_free(g);
}

TEST_MAIN
