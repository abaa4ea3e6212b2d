/* Graphs: built, sorted, checked, copied, folded, measured; broken ones refused with a reason; and what
 * the planner makes of unusual ones. */
#define TEST_SECONDS 60
#include "tests/test.h"

#include "base/memory.h"
#include "base/text.h"
#include "engine/nn/graph.h"
#include "engine/nn/infer.h"
#include "engine/nn/net.h"
#include "engine/nn/op.h"
#include "tests/base/starve.h"

/* ---- building in few words ---- */

static struct graph *new_graph(void) {
    struct graph *g = NULL;
    ok(!graph_new(&g, "test", 17, NULL), "no graph");
    return g;
}

static int add_input(struct graph *g, const char *name, struct shape shape) {
    int v = VALUE_NONE;
    ok(!graph_add_value(&v, g, name, NULL, NULL) && !graph_add_input(g, v, DT_FLOAT32, &shape, NULL), "input %s", name);
    return v;
}

static int add_constant(struct graph *g, const char *name, struct shape shape) {
    struct array *a = NULL;
    int v = VALUE_NONE;
    ok(!array_new(&a, DT_FLOAT32, &shape, NULL), "array");
    for (size_t i = 0; i < a->count; i++) ((float *)a->data)[i] = (float)sin((double)i + 1);
    ok(!graph_add_constant_take(&v, g, name, a, NULL), "constant %s", name);
    return v;
}

static int add_value(struct graph *g, const char *name) {
    int v = VALUE_NONE;
    ok(!graph_add_value(&v, g, name, "y", NULL), "value");
    return v;
}

static int add_ints(struct graph *g, const int64_t *values, int64_t n) {
    struct array *a = NULL;
    int v = VALUE_NONE;
    ok(!array_new(&a, DT_INT64, &(struct shape){1, {n}}, NULL), "array");
    memcpy(a->data, values, (size_t)n * sizeof *values);
    ok(!graph_add_constant_take(&v, g, NULL, a, NULL), "constant");
    return v;
}

/* A node with one output, which it returns. */
static int add_node(struct graph *g, const char *op, const char *output, int a, int b) {
    int inputs[] = {a, b}, out = add_value(g, output);
    ok(!graph_add_node(NULL, g, op, output, inputs, b == VALUE_NONE ? 1 : 2, &out, 1, NULL), "%s", op);
    return out;
}

#define RANK1(n) ((struct shape){1, {n}})
#define RANK2(n, m) ((struct shape){2, {n, m}})

static bool refused(struct graph *g, int code, const char *words) {
    struct err e = {0};
    int status = graph_finish(g, &e);
    bool good =
        ok(status == code && strstr(e.text, words), "wanted %d with '%s', got %d: %s", code, words, status, e.text);
    graph_free(g);
    return good;
}

/* x [N, 4] -> w [4, 3] -> + b -> relu */
static struct graph *small(void) {
    struct graph *g = new_graph();
    int x = add_input(g, "x", RANK2(DIM_BATCH, 4)), w = add_constant(g, "w", RANK2(4, 3)),
        b = add_constant(g, "b", RANK1(3));
    int y = add_node(g, "Relu", "y", add_node(g, "Add", "sum", add_node(g, "MatMul", "product", x, w), b), VALUE_NONE);
    ok(!graph_add_output(g, y, NULL), "output");
    return g;
}

/* ---- good graphs ---- */

TEST(finished_graphs_know_their_shapes) {
    struct graph *g = small();
    struct err e = {0};
    struct graph_size size;
    char text[96];
    need(!graph_finish(g, &e), "%s", e.text);
    shape_print(text, sizeof text, &g->values[graph_find_value(g, "y")].shape);
    ok(strcmp(text, "[N,3]") == 0, "%s", text);
    ok(g->values[graph_find_value(g, "w")].trainable && g->values[graph_find_value(g, "b")].trainable, "parameters");
    need(!graph_measure(&size, g, &e), "%s", e.text);
    ok(size.parameters == 15 && size.macs == 12, "%lld parameters, %lld macs", (long long)size.parameters,
       (long long)size.macs);
    graph_free(g);
}

TEST(nodes_are_sorted) {
    struct graph *g = new_graph();
    enum { LENGTH = 50 };
    int v[LENGTH + 1];
    struct err e = {0};
    v[0] = add_input(g, "x", RANK2(DIM_BATCH, 2));
    for (int i = 1; i <= LENGTH; i++) v[i] = add_value(g, NULL);
    for (int i = LENGTH; i > 0; i--) ok(!graph_add_node(NULL, g, "Tanh", NULL, &v[i - 1], 1, &v[i], 1, NULL), "node");
    ok(!graph_add_output(g, v[LENGTH], NULL), "output");
    need(!graph_finish(g, &e), "%s", e.text);
    for (int i = 0; i < g->n_nodes; i++) {
        ok(g->nodes[i].outputs[0] == v[i + 1] && g->values[v[i + 1]].producer == i, "node %d is out of place", i);
        ok(graph_find_node(g, g->nodes[i].name) == i, "node %d is not found by its name", i);
    }
    graph_free(g);
}

TEST(long_graphs_take_no_time) {
    struct graph *g = new_graph();
    enum { LENGTH = 100000 };
    struct err e = {0};
    int *v = mem_calloc(LENGTH + 1, sizeof *v);
    v[0] = add_input(g, "x", RANK2(DIM_BATCH, 1));
    for (int i = 1; i <= LENGTH; i++) v[i] = add_value(g, NULL);
    for (int i = LENGTH; i > 0; i--) graph_add_node(NULL, g, "Neg", NULL, &v[i - 1], 1, &v[i], 1, NULL);
    graph_add_output(g, v[LENGTH], NULL);
    ok(!graph_finish(g, &e), "%s", e.text);
    mem_free(v);
    graph_free(g);
}

TEST(names_are_kept_or_made_up) {
    struct graph *g = new_graph();
    int x = add_input(g, "x", RANK2(DIM_BATCH, 2)), y = add_value(g, "y"), z = add_value(g, NULL), first, second;
    ok(!graph_add_node(&first, g, "Relu", "same", &x, 1, &y, 1, NULL), "first");
    ok(!graph_add_node(&second, g, "Relu", "same", &y, 1, &z, 1, NULL), "ONNX allows the name twice");
    ok(strcmp(g->nodes[first].name, "same") == 0 && strcmp(g->nodes[second].name, "same") != 0, "%s",
       g->nodes[second].name);
    ok(graph_find_node(g, g->nodes[second].name) == second, "found by the name made up");
    ok(graph_find_value(g, "nobody") == VALUE_NONE && graph_find_node(g, "nobody") == -1, "found nobody");
    graph_free(g);
}

/* A name that is made up from the longest there are is no longer, and still text. */
TEST(names_made_up_are_not_too_long) {
    char longest[GRAPH_MAX_NAME + 1];
    for (int i = 0; i < GRAPH_MAX_NAME; i += 2) memcpy(longest + i, "\u00e9", 3);
    struct graph *g = new_graph(), *copy = NULL;
    struct err e = {0};
    int v = add_input(g, "x", RANK2(DIM_BATCH, 2)), y;
    for (int i = 0; i < 3; i++, v = y) {
        ok(!graph_add_value(&y, g, NULL, longest, &e), "%s", e.text);
        ok(!graph_add_node(NULL, g, "Relu", longest, &v, 1, &y, 1, &e), "%s", e.text);
        ok(text_is_utf8(g->values[y].name, strlen(g->values[y].name)), "'%s'", g->values[y].name);
    }
    ok(!graph_add_output(g, v, &e) && !graph_finish(g, &e) && !graph_clone(&copy, g, &e), "%s", e.text);
    graph_free(g);
    graph_free(copy);
}

TEST(clones_are_equal_and_apart) {
    struct graph *g = small(), *copy;
    struct err e = {0};
    need(!graph_finish(g, &e), "%s", e.text);
    need(!graph_clone(&copy, g, &e), "%s", e.text);
    ok(copy->n_nodes == g->n_nodes && copy->n_values == g->n_values && copy->opset == g->opset, "sizes");
    for (int i = 0; i < g->n_values; i++) {
        const struct value *a = &g->values[i], *b = &copy->values[i];
        ok(strcmp(a->name, b->name) == 0 && a->trainable == b->trainable && shape_equal(&a->shape, &b->shape), "%s",
           a->name);
        ok(!a->constant ||
               (a->constant != b->constant && !memcmp(a->constant->data, b->constant->data, a->constant->count * 4)),
           "%s", a->name);
    }
    struct array *w = g->values[graph_find_value(g, "w")].constant;
    need(!array_own(w, &e), "%s", e.text);
    ((float *)w->data)[0] = 99;
    ok(((float *)copy->values[graph_find_value(copy, "w")].constant->data)[0] < 99, "the copy has its own weights");
    ok(!graph_finish(copy, &e), "%s", e.text);
    graph_free(g);
    graph_free(copy);
}

static struct graph *to_starve;

static int finish_starved(void) {
    struct graph *copy = NULL;
    int status = graph_clone(&copy, to_starve, NULL);
    if (!status) status = graph_finish(copy, NULL);
    if (!status) status = graph_fold(copy, NULL);
    graph_free(copy);
    return status;
}

TEST(starved_graphs_leave_nothing) {
    to_starve = small();
    need(!graph_finish(to_starve, NULL), "finish");
    starve("clone, finish, fold", finish_starved);
    graph_free(to_starve);
}

/* ---- broken graphs ---- */

TEST(cycles_are_refused) {
    struct graph *g = new_graph();
    int x = add_input(g, "x", RANK2(DIM_BATCH, 2)), a = add_value(g, "a"), b = add_value(g, "b");
    int in_a[] = {x, b};
    ok(!graph_add_node(NULL, g, "Add", "first", in_a, 2, &a, 1, NULL), "first");
    ok(!graph_add_node(NULL, g, "Relu", "second", &a, 1, &b, 1, NULL), "second");
    graph_add_output(g, b, NULL);
    refused(g, E_INVALID, "cycle");
    g = new_graph();
    a = add_value(g, "a");
    ok(!graph_add_node(NULL, g, "Relu", "alone", &a, 1, &a, 1, NULL), "alone");
    graph_add_output(g, a, NULL);
    refused(g, E_INVALID, "alone");
}

TEST(values_that_nothing_makes_are_refused) {
    struct graph *g = new_graph();
    int y = add_node(g, "Relu", "y", add_value(g, "ghost"), VALUE_NONE);
    graph_add_output(g, y, NULL);
    refused(g, E_INVALID, "ghost");
    g = new_graph();
    add_node(g, "Relu", "y", add_input(g, "x", RANK2(DIM_BATCH, 2)), VALUE_NONE);
    graph_add_output(g, add_value(g, "nowhere"), NULL);
    refused(g, E_INVALID, "nowhere");
    g = new_graph();
    add_input(g, "x", RANK2(DIM_BATCH, 2));
    refused(g, E_INVALID, "no output");
}

TEST(two_makers_or_owners_are_refused) {
    struct graph *g = new_graph();
    struct err e = {0};
    int x = add_input(g, "x", RANK2(DIM_BATCH, 2)), y = add_node(g, "Relu", "y", x, VALUE_NONE), other,
        w = add_constant(g, "w", RANK1(2));
    ok(graph_add_node(NULL, g, "Tanh", "second", &x, 1, &y, 1, &e) == E_INVALID && strstr(e.text, "'y'"), "%s", e.text);
    err_clear(&e);
    ok(graph_add_node(NULL, g, "Tanh", "third", &x, 1, &w, 1, &e) == E_INVALID && strstr(e.text, "'w'"), "%s", e.text);
    err_clear(&e);
    ok(graph_add_value(&other, g, "y", NULL, &e) == E_INVALID && strstr(e.text, "'y'"), "%s", e.text);
    graph_free(g);
}

TEST(operators_and_their_settings_are_checked) {
    struct graph *g = new_graph();
    struct err e = {0};
    int x = add_input(g, "x", RANK2(DIM_BATCH, 2)), y = add_value(g, "y"), node;
    ok(graph_add_node(NULL, g, "Frobnicate", "it", &x, 1, &y, 1, &e) == E_UNSUPPORTED, "unknown operator");
    ok(strstr(e.text, "Frobnicate") && strstr(e.text, "'it'"), "%s", e.text);
    ok(!graph_add_node(&node, g, "Relu", "relu", &x, 1, &y, 1, NULL) && !graph_set_int(g, node, "speed", 3, NULL),
       "node");
    graph_add_output(g, y, NULL);
    refused(g, E_UNSUPPORTED, "speed");
    g = new_graph();
    x = add_input(g, "x", RANK2(DIM_BATCH, 2));
    graph_add_output(g, add_node(g, "Relu", "y", x, x), NULL);
    refused(g, E_INVALID, "2 inputs");
    g = new_graph();
    int inputs[] = {add_input(g, "x", RANK2(DIM_BATCH, 2)), VALUE_NONE};
    y = add_value(g, "y");
    ok(!graph_add_node(NULL, g, "Add", "sum", inputs, 2, &y, 1, NULL), "node");
    graph_add_output(g, y, NULL);
    refused(g, E_INVALID, "sum");
}

TEST(shapes_that_do_not_fit_are_shown) {
    struct graph *g = new_graph();
    int x = add_input(g, "x", RANK2(DIM_BATCH, 5)), w = add_constant(g, "w", RANK2(4, 3));
    graph_add_output(g, add_node(g, "Gemm", "y", x, w), NULL);
    refused(g, E_INVALID, "4");
    g = new_graph();
    graph_add_output(g, add_node(g, "Relu", "y", add_input(g, "x", RANK2(DIM_BATCH, -7)), VALUE_NONE), NULL);
    refused(g, E_INVALID, "free dimension");
    g = new_graph();
    graph_add_output(
        g, add_node(g, "Relu", "y", add_input(g, "x", RANK2(INT64_C(1) << 40, INT64_C(1) << 40)), VALUE_NONE), NULL);
    refused(g, E_TOO_LARGE, "");
}

/* ---- free axes ---- */

/* image [N,2,H,W] -> conv -> mean over the pixels -> [N,3] */
static struct graph *any_size(const char *height, const char *width) {
    struct graph *g = new_graph();
    int x = add_input(g, "image", (struct shape){4, {DIM_BATCH, 2, 1, 1}}),
        w = add_constant(g, "w", (struct shape){4, {3, 2, 3, 3}});
    ok(!graph_free_axis(g, 0, 2, height, NULL) && !graph_free_axis(g, 0, 3, width, NULL), "free");
    int pooled = add_node(g, "GlobalAveragePool", "pooled", add_node(g, "Conv", "conv", x, w), VALUE_NONE);
    graph_add_output(g, add_node(g, "Flatten", "y", pooled, VALUE_NONE), NULL);
    return g;
}

static bool bind_refused(struct graph *g, struct shape given, const char *words) {
    struct err e = {0};
    struct graph *copy = NULL;
    bool good = ok(!graph_clone(&copy, g, NULL), "clone");
    int status = graph_bind_input(copy, 0, &given, "data set small", &e);
    good = ok(status == E_INVALID && strstr(e.text, words), "wanted '%s', got %d: %s", words, status, e.text) && good;
    graph_free(copy);
    return good;
}

TEST(free_axes_wait_for_data) {
    struct graph *g = any_size("H", "W");
    struct crew *crew;
    struct net *n = NULL;
    struct inferred *known;
    struct graph_size size;
    struct err e = {0};
    need(!graph_finish(g, &e) && !graph_fold(g, &e) && !crew_new(&crew, 1, &e), "%s", e.text);
    ok(g->values[graph_find_value(g, "y")].shape.rank == -1, "no shape");
    ok(!graph_measure(&size, g, &e) && size.parameters == 54 && size.macs == MACS_UNKNOWN, "%s", e.text);
    const char *words = "dimension 2 ('H') of its input 'image' [N,2,H,W]";
    ok(graph_infer(&known, g, 1, &e) == E_INVALID && strstr(e.text, words), "%s", e.text);
    err_clear(&e);
    ok(net_new(&n, g, crew, &(struct net_options){.batch = 1}, &e) == E_INVALID && strstr(e.text, words), "%s", e.text);
    err_clear(&e);
    bind_refused(g, (struct shape){2, {10, 72}}, "shape [N,2,H,W], which data set small of shape [10,72] does not fit");
    bind_refused(g, (struct shape){4, {10, 3, 6, 6}}, "does not fit");
    bind_refused(g, (struct shape){4, {10, 2, 6, 0}}, "dimension 3 of data set small is 0");
    bind_refused(g, (struct shape){4, {10, 2, 2, 6}}, "with data set small of shape [10,2,2,6]: node 'conv' (Conv)");
    need(!graph_bind_input(g, 0, &(struct shape){4, {10, 2, 6, 5}}, "data set small", &e), "%s", e.text);
    ok(!graph_measure(&size, g, &e) && size.macs == 54 * 4 * 3, "%lld macs", (long long)size.macs);
    need(!net_new(&n, g, crew, &(struct net_options){.batch = 2}, &e), "%s", e.text);
    net_free(n);
    crew_free(crew);
    graph_free(g);
}

TEST(axes_of_one_name_have_one_size) {
    struct graph *g = any_size("side", "side");
    struct err e = {0};
    need(!graph_finish(g, &e), "%s", e.text);
    bind_refused(
        g, (struct shape){4, {10, 2, 6, 5}},
        "dimensions 2 and 3 are both called 'side' and must be equal, but data set small of shape [10,2,6,5] has "
        "6 and 5 there");
    ok(!graph_bind_input(g, 0, &(struct shape){4, {10, 2, 6, 6}}, "data set small", &e), "%s", e.text);
    graph_free(g);
    g = any_size("", "");
    ok(!graph_bind_input(g, 0, &(struct shape){4, {10, 2, 6, 5}}, "data set small", &e), "without names: %s", e.text);
    graph_free(g);
}

/* tokens [N,length,4] + positions [N,length,4]; the length as exporters take it, from the shape of the first. */
TEST(inputs_share_axes_and_shape_arithmetic_waits) {
    struct graph *g = new_graph();
    struct err e = {0};
    int ends[2];
    for (int i = 0; i < 2; i++) {
        ends[i] = add_input(g, i ? "positions" : "tokens", (struct shape){3, {DIM_BATCH, 1, 4}});
        ok(!graph_free_axis(g, i, 1, "length", NULL), "free");
    }
    int sum = add_node(g, "Add", "sum", ends[0], ends[1]), shape = add_node(g, "Shape", "shape", ends[0], VALUE_NONE);
    int length = add_node(g, "Gather", "length", shape, add_ints(g, (int64_t[]){0, 1}, 2)),
        whole = add_value(g, "whole");
    int parts[] = {length, add_ints(g, (int64_t[]){2, 2}, 2)}, node;
    ok(!graph_add_node(&node, g, "Concat", "whole", parts, 2, &whole, 1, NULL) &&
           !graph_set_int(g, node, "axis", 0, NULL),
       "concat");
    graph_add_output(g, add_node(g, "Reshape", "y", sum, whole), NULL);
    need(!graph_finish(g, &e) && !graph_fold(g, &e), "%s", e.text);
    need(!graph_bind_input(g, 0, &(struct shape){3, {1, 7, 4}}, "this", &e), "%s", e.text);
    char text[96];
    ok(g->n_free_axes == 0 && g->values[ends[1]].shape.dim[1] == 7, "both inputs");
    shape_print(text, sizeof text, &g->values[graph_find_value(g, "y")].shape);
    ok(strcmp(text, "[N,7,2,2]") == 0, "%s", text);
    graph_free(g);
}

static int bind_starved(void) {
    struct graph *copy = NULL;
    int status = graph_clone(&copy, to_starve, NULL);
    if (!status) status = graph_bind_input(copy, 0, &(struct shape){4, {1, 2, 4, 4}}, "this", NULL);
    graph_free(copy);
    return status;
}

TEST(starved_bindings_leave_nothing) {
    to_starve = any_size("H", "");
    need(!graph_finish(to_starve, NULL), "finish");
    starve("bind", bind_starved);
    graph_free(to_starve);
}

/* ---- folding ---- */

static void run(float *out, const struct graph *g, size_t n_in, size_t n_out) {
    struct crew *crew = NULL;
    struct net *n = NULL;
    struct err e = {0};
    bool good = !crew_new(&crew, 2, &e) && !net_new(&n, g, crew, &(struct net_options){.batch = 3}, &e);
    if (ok(good, "%s", e.text)) {
        for (size_t i = 0; i < n_in; i++) net_input(n, 0)[i] = (real)cos((double)i);
        net_forward(n, 3, random_seed(1), NULL, NULL);
        for (size_t i = 0; i < n_out; i++) out[i] = (float)net_output(n, 0)[i];
    }
    net_free(n);
    crew_free(crew);
}

TEST(weights_that_are_made_from_weights_become_weights) {
    struct graph *g = new_graph();
    struct err e = {0};
    float before[9], after[9];
    int x = add_input(g, "x", RANK2(DIM_BATCH, 4)), w = add_constant(g, "w", RANK2(3, 4)),
        b = add_constant(g, "b", RANK1(3));
    int turned = add_node(g, "Transpose", "turned", w, VALUE_NONE),
        copy = add_node(g, "Identity", "copy", b, VALUE_NONE);
    int product = add_node(g, "MatMul", "product", x, turned), sum = add_node(g, "Add", "sum", product, copy);
    graph_add_output(g, add_node(g, "Add", "y", sum, b), NULL);
    need(!graph_finish(g, &e), "%s", e.text);
    run(before, g, 12, 9);
    need(!graph_fold(g, &e), "%s", e.text);
    run(after, g, 12, 9);
    for (int i = 0; i < 9; i++) ok(before[i] == after[i], "%g became %g", (double)before[i], (double)after[i]);
    ok(g->n_nodes == 3 && graph_find_node(g, "turned") == -1, "%d nodes", g->n_nodes);
    ok(g->values[turned].constant && g->values[turned].trainable && g->values[copy].trainable, "new weights");
    ok(!g->values[w].constant && g->values[b].constant, "weights that nobody reads are freed, others stay");
    graph_free(g);
}

/* A mask of infinities stays what it was, part of the formula; NaN is nothing to keep. */
TEST(odd_numbers_are_not_made_weights) {
    struct graph *g = new_graph();
    struct err e = {0};
    int x = add_input(g, "x", RANK2(DIM_BATCH, 3)), zeros = add_constant(g, "zeros", RANK1(3)),
        minus = add_constant(g, "minus", RANK1(3));
    for (int i = 0; i < 3; i++) ((float *)g->values[zeros].constant->data)[i] = 0;
    for (int i = 0; i < 3; i++) ((float *)g->values[minus].constant->data)[i] = -1;
    int infinite = add_node(g, "Log", "infinite", zeros, VALUE_NONE),
        nan = add_node(g, "Log", "nan", minus, VALUE_NONE);
    graph_add_output(g, add_node(g, "Add", "y", add_node(g, "Add", "masked", x, infinite), nan), NULL);
    need(!graph_finish(g, &e) && !graph_fold(g, &e), "%s", e.text);
    ok(g->values[infinite].constant && g->values[infinite].literal && !g->values[infinite].trainable, "a mask");
    ok(!g->values[nan].constant && graph_find_node(g, "nan") >= 0, "still computed");
    graph_free(g);
}

/* ---- what the planner makes of it ---- */

TEST(outputs_may_be_anything) {
    struct graph *g = new_graph();
    struct err e = {0};
    float out[6];
    int x = add_input(g, "x", RANK2(DIM_BATCH, 2)), y = add_node(g, "Identity", "y", x, VALUE_NONE),
        w = add_constant(g, "w", RANK2(1, 2));
    int relu = add_node(g, "Relu", "relu", y, VALUE_NONE);
    int outputs[] = {y, relu, w, add_node(g, "Neg", "neg", relu, VALUE_NONE)};
    for (int i = 0; i < 4; i++) graph_add_output(g, outputs[i], NULL);
    need(!graph_finish(g, &e), "%s", e.text);
    run(out, g, 6, 6);
    for (int i = 0; i < 6; i++) ok(out[i] == (float)cos(i), "%g", (double)out[i]);
    graph_free(g);
}

TEST(samples_that_meet_stay_together) {
    struct graph *g = new_graph();
    struct err e = {0};
    float out[6];
    int x = add_input(g, "x", RANK2(DIM_BATCH, 2)), ints = add_ints(g, (int64_t[]){-1}, 1),
        axes = add_ints(g, (int64_t[]){0}, 1);
    int end = add_ints(g, (int64_t[]){INT64_MIN}, 1), step = ints, y = add_value(g, "y");
    int inputs[] = {x, ints, end, axes, step};
    ok(!graph_add_node(NULL, g, "Slice", "backwards", inputs, 5, &y, 1, NULL), "slice");
    graph_add_output(g, y, NULL);
    need(!graph_finish(g, &e), "%s", e.text);
    run(out, g, 6, 6);
    for (int i = 0; i < 6; i++) ok(out[i] == (float)cos(4 - i / 2 * 2 + i % 2), "element %d is %g", i, (double)out[i]);
    graph_free(g);
}

/* Attention as exporters write it: the shape is taken from the data, put together again, and reshaped to. */
static struct graph *attention(void) {
    struct graph *g = new_graph();
    int x = add_input(g, "x", (struct shape){3, {DIM_BATCH, 6, 8}}), w = add_constant(g, "w", RANK2(8, 8)), node;
    int zero = add_ints(g, (int64_t[]){0}, 1), rest = add_ints(g, (int64_t[]){6, 2, 4}, 3);
    int first = add_node(g, "Gather", "first", add_node(g, "Shape", "shape", x, VALUE_NONE), zero), shape, heads, keys;
    int pair[] = {first, rest};
    shape = add_value(g, "whole");
    ok(!graph_add_node(&node, g, "Concat", "whole", pair, 2, &shape, 1, NULL) &&
           !graph_set_int(g, node, "axis", 0, NULL),
       "concat");
    heads = add_node(g, "Reshape", "split", add_node(g, "MatMul", "queries", x, w), shape);
    heads = add_node(g, "Transpose", "heads", heads, VALUE_NONE);
    graph_set_ints(g, graph_find_node(g, "heads"), "perm", (int64_t[]){0, 2, 1, 3}, 4, NULL);
    keys = add_node(g, "Transpose", "keys", heads, VALUE_NONE);
    graph_set_ints(g, graph_find_node(g, "keys"), "perm", (int64_t[]){0, 1, 3, 2}, 4, NULL);
    int weights = add_node(g, "Softmax", "weights", add_node(g, "MatMul", "scores", heads, keys), VALUE_NONE);
    int mixed = add_node(g, "Transpose", "back", add_node(g, "MatMul", "mixed", weights, heads), VALUE_NONE);
    graph_set_ints(g, graph_find_node(g, "back"), "perm", (int64_t[]){0, 2, 1, 3}, 4, NULL);
    graph_add_output(g, add_node(g, "Reshape", "y", mixed, add_ints(g, (int64_t[]){0, 6, 8}, 3)), NULL);
    return g;
}

TEST(shape_arithmetic_follows_the_batch) {
    enum { BATCH = 9, EACH = 6 * 8 };
    struct graph *g = attention();
    struct crew *crew;
    struct net *one, *many;
    struct err e = {0};
    need(!graph_finish(g, &e) && !graph_fold(g, &e) && !crew_new(&crew, 2, &e), "%s", e.text);
    need(!net_new(&one, g, crew, &(struct net_options){.batch = 1}, &e), "%s", e.text);
    need(!net_new(&many, g, crew, &(struct net_options){.batch = BATCH, .training = true}, &e), "%s", e.text);
    for (int i = 0; i < BATCH * EACH; i++) net_input(many, 0)[i] = (real)cos(i);
    net_forward(many, BATCH, random_seed(1), NULL, NULL);
    for (int k = 0; k < BATCH; k++) {
        double worst = 0;
        memcpy(net_input(one, 0), net_input(many, 0) + k * EACH, EACH * sizeof(real));
        net_forward(one, 1, random_seed(1), NULL, NULL);
        for (int i = 0; i < EACH; i++)
            worst = fmax(worst, fabs((double)(net_output(one, 0)[i] - net_output(many, 0)[k * EACH + i])));
        ok(worst < 1e-5, "sample %d differs by %g", k, worst);
    }
    net_free(one);
    net_free(many);
    crew_free(crew);
    graph_free(g);
}

TEST(budgets_are_kept) {
    struct graph *g = small();
    struct crew *crew;
    struct net *n = NULL;
    struct err e = {0};
    need(!graph_finish(g, &e) && !crew_new(&crew, 1, &e), "%s", e.text);
    ok(net_new(&n, g, crew, &(struct net_options){.batch = 1000, .memory = 20000}, &e) == E_TOO_LARGE &&
           strstr(e.text, "20000"),
       "%s", e.text);
    ok(net_new(&n, g, crew, &(struct net_options){.batch = 0}, NULL) == E_INVALID, "no batch");
    crew_free(crew);
    graph_free(g);
}

static struct crew *crew_to_starve;

static int plan_starved(void) {
    struct net *n = NULL;
    int status = net_new(&n, to_starve, crew_to_starve,
                         &(struct net_options){.batch = 5, .training = true, .input_gradient = true}, NULL);
    if (!status) net_free(n);
    return status;
}

TEST(starved_plans_leave_nothing) {
    to_starve = small();
    need(!graph_finish(to_starve, NULL) && !crew_new(&crew_to_starve, 1, NULL), "start");
    starve("planning", plan_starved);
    crew_free(crew_to_starve);
    graph_free(to_starve);
}

TEST(fewer_samples_give_the_same) {
    struct graph *g = small();
    struct crew *crew;
    struct net *n;
    struct err e = {0};
    real all[60];
    need(!graph_finish(g, &e) && !crew_new(&crew, 2, &e), "%s", e.text);
    need(!net_new(&n, g, crew, &(struct net_options){.batch = 20}, &e), "%s", e.text);
    for (int i = 0; i < 80; i++) net_input(n, 0)[i] = (real)cos(i);
    net_forward(n, 20, random_seed(1), NULL, NULL);
    memcpy(all, net_output(n, 0), sizeof all);
    for (int samples = 19; samples > 0; samples -= 3) {
        memset((void *)(size_t)net_output(n, 0), 0, sizeof all);
        net_forward(n, samples, random_seed(1), NULL, NULL);
        ok(memcmp(all, net_output(n, 0), (size_t)samples * 3 * sizeof(real)) == 0, "%d samples", samples);
    }
    net_free(n);
    crew_free(crew);
    graph_free(g);
}

TEST(parameters_are_shared_and_stored) {
    struct graph *g = small();
    struct crew *crew;
    struct net *a, *b, *c;
    struct err e = {0};
    real answers[6];
    need(!graph_finish(g, &e) && !crew_new(&crew, 1, &e), "%s", e.text);
    need(!net_new(&a, g, crew, &(struct net_options){.batch = 4, .training = true}, &e), "%s", e.text);
    need(!net_new(&b, g, crew, &(struct net_options){.batch = 2, .beside = a}, &e), "%s", e.text);
    ok(net_parameter_count(a) == 15 && net_trainable_count(a) == 15 && net_parameter_count(b) == 15, "15 parameters");
    for (int i = 0; i < 15; i++) net_parameters(a)[i] = (real)i;
    ok(net_parameters(a) == net_parameters(b), "shared");
    net_empty_graph(a, g);
    for (int i = 0; i < 8; i++) net_input(b, 0)[i] = 1;
    net_forward(b, 2, random_seed(1), NULL, NULL);
    memcpy(answers, net_output(b, 0), sizeof answers);
    need(!net_store(a, g, &e), "%s", e.text);
    need(!net_new(&c, g, crew, &(struct net_options){.batch = 2}, &e), "%s", e.text);
    for (int i = 0; i < 8; i++) net_input(c, 0)[i] = 1;
    net_forward(c, 2, random_seed(1), NULL, NULL);
    ok(memcmp(answers, net_output(c, 0), sizeof answers) == 0, "the one beside computes as one by itself");
    ok(net_memory(c).taken < net_memory(a).taken, "and weights are read where they are");
    const struct net_parameter *list;
    for (int k = 0; k < net_parameter_list(a, &list); k++)
        for (size_t i = 0; i < list[k].count; i++)
            ok(((float *)g->values[list[k].value].constant->data)[i] == (float)(list[k].start + i), "stored");
    net_free(c);
    net_free(b);
    net_free(a);
    crew_free(crew);
    graph_free(g);
}

TEST_MAIN
