/* Networks in half or double precision: what jobs publish has one element type, and loses nothing. */
#define TEST_SECONDS 120
#include "tests/test.h"

#include "engine/formats/onnx.h"
#include "engine/nn/outputs.h"
#include "tests/base/starve.h"
#include "tests/engine/memory_host.h"
#include "tests/engine/small_net.h"

enum { ONNX_FLOAT = 1, ONNX_HALF = 10, ONNX_DOUBLE = 11 };

/* ---- networks ---- */

static uint16_t half_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    int exponent = (int)(bits >> 23 & 255) - 112;
    return (uint16_t)((bits >> 16 & 0x8000) | (exponent <= 0 ? 0 : (uint32_t)exponent << 10 | (bits >> 13 & 1023)));
}

/* The value in another type; constants with their numbers as far as it has them. */
static void retype(struct graph *g, int value, enum dtype type) {
    struct value *v = &g->values[value];
    struct array *a = NULL;
    v->type = type;
    if (!v->constant) return;
    need(!array_new(&a, type, &v->constant->shape, NULL), "array");
    for (size_t i = 0; i < a->count; i++) {
        float x;
        array_to_float(&x, v->constant, i, 1);
        if (type == DT_FLOAT64) ((double *)a->data)[i] = (double)x * (1 + 1e-12);
        if (type == DT_FLOAT32) ((float *)a->data)[i] = x;
        if (type == DT_FLOAT16) ((uint16_t *)a->data)[i] = half_of(x);
    }
    graph_correct_constant_take(g, value, a);
}

/* Inputs and real constants in that type, finished. */
static struct graph *retyped(struct graph *g, enum dtype type) {
    struct err e = {0};
    for (int v = 0; v < g->n_values; v++)
        if (g->values[v].producer < 0 && dtype_is_real(g->values[v].type)) retype(g, v, type);
    ok(!graph_finish(g, &e), "%s", e.text);
    return g;
}

/* x [N,2,5,6] - conv - relu - gemm -> [N,3]; the input is value 0. */
static struct graph *plain(void) {
    struct small s = small_new(2, 5, 6);
    int x = small_act(&s, small_conv(&s, s.x, 2, 4, 3, 1, 1, 1, true), "Relu");
    x = small_act(&s, small_gemm(&s, small_act(&s, x, "Flatten"), 120, 6, true), "Relu");
    return small_finish(&s, small_gemm(&s, x, 6, 3, true)) ? s.g : NULL;
}

static int weights_of(const struct graph *g, const char *node) {
    return g->nodes[graph_find_node(g, node)].inputs[1];
}

/* The first real value of another type, NULL when there is none. */
static const char *other_than(const struct graph *g, enum dtype type) {
    for (int v = 0; v < g->n_values; v++) {
        const struct value *at = &g->values[v];
        if (dtype_is_real(at->type) && at->type != type && (at->constant || at->shape.rank >= 0)) return at->name;
        if (at->constant && at->constant->type != at->type) return at->name;
    }
    return NULL;
}

static void unifies(struct graph *g, enum dtype type, const char *what) {
    struct err e = {0};
    struct graph *before = NULL;
    need(!graph_clone(&before, g, &e) && !graph_unify_types(g, &e), "%s: %s", what, e.text);
    ok(!other_than(g, type), "%s: '%s' is no %s", what, other_than(g, type), dtype_name(type));
    for (int v = 0; v < g->n_values; v++) {
        const struct array *a = before->values[v].constant, *b = g->values[v].constant;
        for (size_t i = 0; a && i < a->count; i++) {
            double x, y;
            array_to_double(&x, a, i, 1);
            array_to_double(&y, b, i, 1);
            if (x < y || x > y) ok(false, "%s: %.17g became %.17g", what, x, y);
        }
    }
    graph_free(before);
}

/* ---- alone ---- */

TEST(half_precision_beside_float32_becomes_float32) {
    struct graph *g = retyped(plain(), DT_FLOAT16);
    retype(g, weights_of(g, "gemm6"), DT_FLOAT32);
    need(!graph_finish(g, NULL) && other_than(g, DT_FLOAT32), "it mixes");
    unifies(g, DT_FLOAT32, "half");
    ok(g->values[g->inputs[0]].type == DT_FLOAT32 && g->values[g->outputs[0]].type == DT_FLOAT32, "its ends");
    graph_free(g);
}

TEST(float32_beside_float64_becomes_float64) {
    for (int ends = 0; ends < 2; ends++) { /* a constant in double, or the input alone as after a training */
        struct graph *g = retyped(plain(), ends ? DT_FLOAT32 : DT_FLOAT64);
        retype(g, ends ? g->inputs[0] : weights_of(g, "gemm6"), ends ? DT_FLOAT64 : DT_FLOAT32);
        need(!graph_finish(g, NULL) && other_than(g, DT_FLOAT64), "it mixes");
        unifies(g, DT_FLOAT64, ends ? "input" : "weights");
        graph_free(g);
    }
}

TEST(where_nothing_mixes_nothing_happens) {
    static const enum dtype types[] = {DT_FLOAT16, DT_FLOAT32, DT_FLOAT64};
    for (int i = 0; i < 3; i++) {
        struct graph *g = retyped(plain(), types[i]);
        unifies(g, types[i], dtype_name(types[i]));
        graph_free(g);
    }
}

static int cast(struct small *s, int x, int64_t to) {
    int y = small_act(s, x, "Cast");
    small_int(s, "to", to);
    return y;
}

/* x - Cast to half - gemm - Cast to float: the first dense layer in half precision. */
static struct graph *casting(void) {
    struct small s = small_new(6, 0, 0);
    int x = small_gemm(&s, cast(&s, s.x, ONNX_HALF), 6, 5, true);
    x = small_gemm(&s, cast(&s, small_act(&s, x, "Relu"), ONNX_FLOAT), 5, 3, true);
    struct graph *g = s.g;
    for (int k = 1; k < 3 && !s.status; k++) retype(g, g->nodes[graph_find_node(g, "gemm2")].inputs[k], DT_FLOAT16);
    return small_finish(&s, cast(&s, x, ONNX_HALF)) ? g : NULL;
}

TEST(casts_keep_types_apart_until_there_is_one) {
    struct graph *g = casting();
    struct err e = {0};
    need(g && !graph_unify_types(g, &e), "%s", e.text);
    ok(g->values[weights_of(g, "gemm2")].type == DT_FLOAT16, "half precision of its own goes");
    retype(g, weights_of(g, "gemm2"), DT_FLOAT32);
    need(!graph_finish(g, &e), "%s", e.text);
    unifies(g, DT_FLOAT32, "a new weight in the half");
    for (int i = 0; i < g->n_nodes; i++)
        ok(node_int(&g->nodes[i], "to", ONNX_FLOAT) == ONNX_FLOAT, "'%s' casts to less", g->nodes[i].name);
    graph_free(g);
}

TEST(a_cast_to_double_makes_what_follows_double) {
    struct small s = small_new(6, 0, 0);
    int x = small_gemm(&s, cast(&s, s.x, ONNX_DOUBLE), 6, 5, true);
    need(small_finish(&s, cast(&s, x, ONNX_FLOAT)), "%s", s.e.text);
    need(!graph_unify_types(s.g, &s.e), "%s", s.e.text);
    ok(s.g->values[weights_of(s.g, "gemm2")].type == DT_FLOAT64, "its weights");
    ok(s.g->values[s.x].type == DT_FLOAT32 && s.g->values[s.g->outputs[0]].type == DT_FLOAT32,
       "what is before and after");
    graph_free(s.g);
}

/* x + Constant + ConstantOfShape, and x in half precision. */
TEST(attributes_that_hold_numbers_follow) {
    struct small s = small_new(4, 0, 0);
    struct array *filling = NULL, *size = NULL;
    int two = VALUE_NONE, sum = small_node(&s, "Constant", NULL, 0);
    need(!s.status && !graph_set_real(s.g, small_last(&s), "value_float", 1.5, &s.e), "%s", s.e.text);
    need(!array_new(&size, DT_INT64, &(struct shape){1, {1}}, &s.e), "%s", s.e.text);
    *(int64_t *)size->data = 4;
    need(!graph_add_constant_take(&two, s.g, "two", size, &s.e), "%s", s.e.text);
    int filled = small_act(&s, two, "ConstantOfShape");
    need(!array_new(&filling, DT_FLOAT16, &(struct shape){1, {1}}, &s.e), "%s", s.e.text);
    *(uint16_t *)filling->data = half_of(0.25F);
    need(!graph_set_array_take(s.g, small_last(&s), "value", filling, &s.e), "%s", s.e.text);
    int zeros = small_act(&s, two, "ConstantOfShape");
    sum = small_add(&s, small_add(&s, small_add(&s, s.x, sum), filled), zeros);
    s.g->values[s.x].type = DT_FLOAT64;
    need(small_finish(&s, sum), "%s", s.e.text);
    unifies(s.g, DT_FLOAT64, "constants in attributes");
    size_t n;
    real *y = small_outputs(&n, s.g, 1, 3, 0);
    for (size_t i = 0; i < n; i++) ok(fabs((double)y[i] - 1.75) < 1e-6, "%g", (double)y[i]);
    mem_free(y);
    graph_free(s.g);
}

TEST(scales_of_a_resize_stay_float32) {
    struct small s = small_new(2, 5, 6);
    int scales = small_constant(&s, (struct shape){1, {4}}, 1, 0);
    int x = small_conv(&s, s.x, 2, 3, 3, 1, 1, 1, true);
    x = small_node(&s, "Resize", (int[]){x, VALUE_NONE, scales}, 3);
    s.g->values[s.x].type = DT_FLOAT64;
    need(small_finish(&s, x) && !graph_unify_types(s.g, &s.e), "%s", s.e.text);
    ok(s.g->values[scales].constant->type == DT_FLOAT32, "ONNX takes no others");
    ok(s.g->values[s.g->outputs[0]].type == DT_FLOAT64, "the data");
    graph_free(s.g);
}

static struct graph *starved;

static int unify_copy(void) {
    struct err e = {0};
    struct graph *g = NULL;
    int status = graph_clone(&g, starved, &e);
    if (!status) status = graph_unify_types(g, &e);
    graph_free(g);
    return status;
}

TEST(memory_may_run_out) {
    starved = casting();
    retype(starved, weights_of(starved, "gemm2"), DT_FLOAT32);
    need(!graph_finish(starved, NULL), "graph");
    starve("types", unify_copy);
    graph_free(starved);
}

/* ---- in jobs ---- */

enum { SAMPLES = 64, CLASSES = 3, ROW = 2 * 5 * 6 };

static struct host open_world(struct memory_host *world) {
    static float inputs[SAMPLES * ROW];
    static int64_t labels[SAMPLES];
    struct random r = random_seed(3);
    for (int i = 0; i < SAMPLES * ROW; i++) inputs[i] = (float)random_normal(&r);
    for (int i = 0; i < SAMPLES; i++) labels[i] = (int64_t)random_below(&r, CLASSES);
    *world = (struct memory_host){0};
    memory_host_add_model(world, "half", retyped(plain(), DT_FLOAT16));
    memory_host_add_model(world, "double", retyped(plain(), DT_FLOAT64));
    memory_host_add_array(world, "data", "inputs", DT_FLOAT32, inputs, (int64_t[4]){SAMPLES, 2, 5, 6});
    memory_host_add_array(world, "data", "labels", DT_INT64, labels, (int64_t[4]){SAMPLES});
    return memory_host_open(world, 1);
}

static int run(struct outcome *out, const struct host *host, const char *name, const char *json, struct err *e) {
    const struct method *method = method_find(name);
    void *spec = mem_calloc(1, method->spec_size);
    struct json *root = NULL;
    *out = (struct outcome){0};
    int status = json_parse(&root, json, strlen(json), e);
    if (!status) status = param_parse(spec, method->params, root, "", e);
    if (!status) status = method->check(spec, host, NULL, e);
    if (!status) status = method->run(out, spec, host, e);
    json_free(root);
    mem_free(spec);
    return status;
}

enum { DISTILL = 7 };
static const char *const jobs[][2] = {
    {"morph", "\"steps\":[\"deepen\"]"},
    {"morph", "\"steps\":[{\"op\":\"deepen\",\"mode\":\"netmorph\"},{\"op\":\"widen\",\"factor\":1.5}]"},
    {"morph", "\"steps\":[{\"op\":\"module\",\"recipe\":\"1c1\"}]"},
    {"morph", "\"steps\":[{\"op\":\"widen\",\"factor\":1.5}],\"dataset\":\"data\",\"train\":{\"epochs\":1}"},
    {"train", "\"dataset\":\"data\",\"train\":{\"epochs\":1}"},
    {"train", "\"dataset\":\"data\",\"freeze\":[\"conv1\"],\"train\":{\"epochs\":1}"},
    {"train", "\"dataset\":\"data\",\"new_head\":{\"classes\":4},\"train\":{\"epochs\":1}"},
    {"distill", "\"dataset\":\"data\",\"student\":{\"width\":0.5},\"train\":{\"epochs\":1}"},
};

TEST(what_jobs_publish_has_one_type) {
    struct memory_host world;
    struct host host = open_world(&world);
    for (size_t i = 0; i < 2 * sizeof jobs / sizeof *jobs; i++) {
        bool wide = i % 2;
        char json[512];
        struct outcome o;
        struct err e = {0};
        snprintf(json, sizeof json, "{\"%s\":\"%s\",%s}", i / 2 == DISTILL ? "teacher" : "model",
                 wide ? "double" : "half", jobs[i / 2][1]);
        need(!run(&o, &host, jobs[i / 2][0], json, &e), "%s: %s", json, e.text);
        const char *other = other_than(o.student, wide ? DT_FLOAT64 : DT_FLOAT32);
        ok(!other, "%s: '%s' is of another type", json, other);
        outcome_free(&o);
    }
    memory_host_close(&world);
}

/* A layer of its own takes half of what its parent computes: rounded to float32 the two would be off by more. */
TEST(a_child_in_double_is_exact_in_double) {
    struct memory_host world;
    struct host host = open_world(&world);
    struct outcome o;
    struct err e = {0};
    need(!run(&o, &host, "morph", "{\"model\":\"double\",\"steps\":[{\"op\":\"deepen\",\"mode\":\"netmorph\"}]}", &e),
         "%s", e.text);
    double x[ROW], before[CLASSES], after[CLASSES];
    const double *inputs[] = {x};
    struct graph *parent = retyped(plain(), DT_FLOAT64);
    for (int i = 0; i < ROW; i++) x[i] = sin(i);
    for (int i = 0; i < 2; i++) {
        const struct graph *g = i ? o.student : parent;
        double *out[] = {i ? after : before};
        struct outputs_task task = {
            .graph = g, .batch = 1, .inputs = inputs, .threads = 1, .values = g->outputs, .n_values = 1, .out = out};
        need(!outputs_double(&task, &e), "%s", e.text);
    }
    for (int i = 0; i < CLASSES; i++)
        ok(fabs(before[i] - after[i]) < 1e-12 * fabs(before[i]), "%.17g and %.17g", before[i], after[i]);
    graph_free(parent);
    outcome_free(&o);
    memory_host_close(&world);
}

TEST_MAIN
