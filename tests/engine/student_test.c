/* Channel groups, students made from them, and fresh weights. */
#define TEST_SECONDS 30
#include "engine/transfer/student.h"

#include "engine/surgery/channels.h"
#include "engine/transfer/init.h"
#include "engine/transfer/layers.h"
#include "tests/base/starve.h"
#include "tests/engine/memory_host.h"

/* ---- a small language for building graphs ---- */

static struct graph *g;
static int counter;

static int constant(int rank, const int64_t *dim, bool positive) {
    struct shape shape = {.rank = rank};
    for (int i = 0; i < rank; i++) shape.dim[i] = dim[i];
    struct array *a;
    char name[32];
    snprintf(name, sizeof name, "w%d", counter++);
    int value = -1;
    array_new(&a, DT_FLOAT32, &shape, NULL);
    struct random r = random_seed((uint64_t)counter);
    for (size_t i = 0; i < a->count; i++)
        ((float *)a->data)[i] = (float)(positive ? 0.5 + random_unit(&r) : 0.4 * random_normal(&r));
    graph_add_constant_take(&value, g, name, a, NULL);
    return value;
}
#define DIMS(...) \
    sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t), (int64_t[]) { \
        __VA_ARGS__ \
    }

static int add(const char *op, int n, const int *inputs) {
    int out = -1;
    char name[32];
    snprintf(name, sizeof name, "%s%d", op, counter++);
    struct err e = {0};
    graph_add_value(&out, g, NULL, name, NULL);
    ok(graph_add_node(NULL, g, op, name, inputs, n, &out, 1, &e) == 0, "%s", e.text);
    return out;
}
#define NODE(op, ...) add(op, sizeof((int[]){__VA_ARGS__}) / sizeof(int), (int[]){__VA_ARGS__})

static void set_int(const char *name, int64_t x) {
    graph_set_int(g, g->n_nodes - 1, name, x, NULL);
}

static int conv(int x, int64_t in, int64_t out, int64_t kernel, int64_t groups) {
    int y = NODE("Conv", x, constant(DIMS(out, in / groups, kernel, kernel), false), constant(DIMS(out), false));
    int64_t pads[4] = {kernel / 2, kernel / 2, kernel / 2, kernel / 2};
    graph_set_ints(g, g->n_nodes - 1, "pads", pads, 4, NULL);
    if (groups > 1) set_int("group", groups);
    return y;
}

static int norm(int x, int64_t n) {
    return NODE("BatchNormalization", x, constant(DIMS(n), true), constant(DIMS(n), false), constant(DIMS(n), false),
                constant(DIMS(n), true));
}

static int start(int64_t channels, int64_t side) {
    int x = -1;
    counter = 0;
    struct shape shape = {.rank = 4, .dim = {DIM_BATCH, channels, side, side}};
    graph_new(&g, "test", 15, NULL);
    graph_add_value(&x, g, "x", NULL, NULL);
    graph_add_input(g, x, DT_FLOAT32, &shape, NULL);
    return x;
}

static struct graph *finish(int out) {
    struct err e = {0};
    graph_add_output(g, out, NULL);
    ok(graph_finish(g, &e) == 0, "%s", e.text);
    return g;
}

static int dense(int x, int64_t in, int64_t out) {
    int y = NODE("Gemm", x, constant(DIMS(out, in), false), constant(DIMS(out), false));
    set_int("transB", 1);
    return y;
}

/* Everything at once: residual sums with projection, BatchNormalization, depthwise, squeeze and excite, concat,
 * scalar and per-channel constants, flatten, two dense layers. */
static struct graph *everything(void) {
    int x = start(3, 8);
    int stem = NODE("Relu", norm(conv(x, 3, 8, 3, 1), 8));
    int branch = conv(NODE("Relu", norm(conv(stem, 8, 6, 3, 1), 6)), 6, 8, 3, 1);
    int sum = NODE("Relu", NODE("Add", branch, stem));
    int deep = NODE("HardSwish", conv(sum, 8, 8, 3, 8)); /* depthwise */
    int squeeze = NODE("GlobalAveragePool", deep);
    int gate = NODE("Sigmoid", conv(NODE("Relu", conv(squeeze, 8, 4, 1, 1)), 4, 8, 1, 1));
    int gated = NODE("Mul", deep, gate);
    int both = NODE("Concat", gated, conv(x, 3, 5, 1, 1));
    set_int("axis", 1);
    int shifted = NODE("Add", both, constant(DIMS(1, 13, 1, 1), false));
    int pooled = NODE("MaxPool", shifted);
    graph_set_ints(g, g->n_nodes - 1, "kernel_shape", (int64_t[]){2, 2}, 2, NULL);
    graph_set_ints(g, g->n_nodes - 1, "strides", (int64_t[]){2, 2}, 2, NULL);
    int flat = NODE("Flatten", pooled);
    return finish(dense(NODE("Relu", dense(flat, 13 * 16, 12)), 12, 4));
}

static void run_net(const struct graph *graph, int batch, real *out, size_t width) {
    struct crew *crew;
    struct net *net;
    struct err e = {0};
    struct net_options options = {.batch = batch};
    need(crew_new(&crew, 1, NULL) == 0, "crew");
    need(net_new(&net, graph, crew, &options, &e) == 0, "%s", e.text);
    struct shape s = net_input_shape(net, 0);
    size_t count = 1;
    for (int d = 0; d < s.rank; d++) count *= (size_t)s.dim[d];
    struct random r = random_seed(99);
    for (size_t i = 0; i < count; i++) net_input(net, 0)[i] = (real)random_normal(&r);
    net_forward(net, batch, r, NULL, NULL);
    memcpy(out, net_output(net, 0), (size_t)batch * width * sizeof *out);
    net_free(net);
    crew_free(crew);
}

/* ---- groups ---- */

TEST(groups_follow_the_graph) {
    struct graph *all = everything();
    struct channels *c;
    struct err e = {0};
    need(channels_find(&c, all, &e) == 0, "%s", e.text);
    /* input 3, stem 8 (with the sum, the depthwise and the gate), branch 6, squeeze 4, side 5, dense 12, output 4 */
    ok(c->n_groups == 7, "%d groups", c->n_groups);
    int fixed = 0;
    for (int i = 0; i < c->n_groups; i++) fixed += c->groups[i].fixed_by != CHANNELS_FREE;
    ok(fixed == 2, "%d fixed: input and output", fixed);
    channels_free(c);
    graph_free(all);
}

/* Every free channel twice, the second copy with the same weights, readers sharing one half each. */
TEST(duplicated_channels_keep_the_function) {
    struct graph *all = everything(), *wide = NULL;
    struct channels *c;
    struct err e = {0};
    need(channels_find(&c, all, &e) == 0, "%s", e.text);
    struct channel_map maps[16] = {0};
    static int32_t from[16][64];
    static double share[16][64];
    for (int i = 0; i < c->n_groups; i++) {
        int64_t n = c->groups[i].size;
        if (c->groups[i].fixed_by != CHANNELS_FREE) continue;
        for (int64_t j = 0; j < 2 * n; j++) from[i][j] = (int32_t)(j % n), share[i][j] = j < n ? 0.25 : 0.75;
        maps[i] = (struct channel_map){2 * n, from[i], share[i]};
    }
    need(channels_resize(&wide, c, all, maps, &e) == 0, "%s", e.text);
    struct graph_size before, after;
    graph_measure(&before, all, NULL);
    graph_measure(&after, wide, NULL);
    ok(after.parameters > 2 * before.parameters, "%lld parameters, then %lld", (long long)before.parameters,
       (long long)after.parameters);
    ok(channels_elements(c, all, maps) - (double)after.parameters == 0, "%g elements foreseen, %lld made",
       channels_elements(c, all, maps), (long long)after.parameters);
    real one[5 * 4], two[5 * 4];
    run_net(all, 5, one, 4);
    run_net(wide, 5, two, 4);
    for (int i = 0; i < 20; i++)
        ok(fabs((double)(one[i] - two[i])) < 1e-4 * (1 + fabs((double)one[i])), "output %d: %g, then %g", i,
           (double)one[i], (double)two[i]);
    channels_free(c);
    graph_free(wide);
    graph_free(all);
}

TEST(borders_that_differ_split_groups) { /* conv of 8 + concat of 3 and 5 */
    int x = start(2, 4);
    int both = NODE("Concat", conv(x, 2, 3, 1, 1), conv(x, 2, 5, 1, 1));
    set_int("axis", 1);
    struct graph *sum = finish(conv(NODE("Add", conv(x, 2, 8, 3, 1), both), 8, 2, 1, 1));
    struct channels *c;
    need(channels_find(&c, sum, NULL) == 0, "find");
    ok(c->n_groups == 4, "%d groups", c->n_groups);
    struct graph *half = NULL;
    struct err e = {0};
    ok(student_scale(&half, sum, 0.5, 1000000, &e) == 0, "%s", e.text);
    real out[2 * 2 * 16];
    if (half) run_net(half, 2, out, 2 * 16);
    for (int v = 0; half && v < half->n_values; v++) {
        const struct array *a = half->values[v].constant;
        if (a && a->shape.rank == 4 && a->shape.dim[2] == 3)
            ok(a->shape.dim[0] == 5, "2 + 3 channels, not 4: %d", (int)a->shape.dim[0]);
    }
    channels_free(c);
    graph_free(half);
    graph_free(sum);
}

TEST(scaling_fits_everywhere) {
    struct graph *all = everything();
    const double widths[] = {0.01, 0.25, 0.4, 0.5, 1, 1.5};
    for (size_t i = 0; i < sizeof widths / sizeof *widths; i++) {
        struct graph *student = NULL;
        struct err e = {0};
        real out[5 * 4];
        ok(student_scale(&student, all, widths[i], 1000000, &e) == 0, "width %g: %s", widths[i], e.text);
        if (!student) continue;
        run_net(student, 5, out, 4);
        int weights = graph_find_value(student, "w0");
        ok(student->values[weights].constant->shape.dim[0] == (int64_t)ceil(8 * widths[i] - 1e-9), "stem at width %g",
           widths[i]);
        graph_free(student);
    }
    graph_free(all);
}

TEST(grouped_convolutions_stay_divisible) {
    int x = start(4, 4);
    struct graph *grouped = finish(conv(NODE("Relu", conv(conv(x, 4, 12, 1, 1), 12, 8, 3, 4)), 8, 3, 1, 1)),
                 *student = NULL;
    struct err e = {0};
    need(student_scale(&student, grouped, 0.2, 100000, &e) == 0, "%s", e.text);
    real out[2 * 3 * 16];
    run_net(student, 2, out, 3 * 16);
    ok(student->values[graph_find_value(student, "w0")].constant->shape.dim[0] == 4, "12 * 0.2 = 3, rounded up to 4");
    graph_free(student);
    graph_free(grouped);
}

TEST(reshapes_are_followed) {
    int x = start(3, 4);
    int hidden = NODE("Relu", conv(x, 3, 6, 3, 1)), target = -1;
    struct array *a;
    array_new(&a, DT_INT64, &(struct shape){.rank = 1, .dim = {2}}, NULL);
    ((int64_t *)a->data)[0] = -1;
    ((int64_t *)a->data)[1] = 96;
    graph_add_constant_take(&target, g, "target", a, NULL);
    struct graph *flat = finish(dense(NODE("Reshape", hidden, target), 96, 2)), *student = NULL;
    struct err e = {0};
    need(student_scale(&student, flat, 0.5, 100000, &e) == 0, "%s", e.text);
    real out[3 * 2];
    run_net(student, 3, out, 2);
    ok(array_int(student->values[graph_find_value(student, "target")].constant, 1) == 48, "target");
    graph_free(student);
    graph_free(flat);
}

TEST(nothing_to_scale_is_said) {
    struct graph *student = NULL;
    struct err e = {0};
    int x = start(3, 4);
    struct graph *flat = finish(dense(NODE("Flatten", x), 48, 5));
    ok(student_scale(&student, flat, 0.5, 100000, &e) != 0 && !strcmp(e.pointer, "/student/width"), "%s", e.text);
    graph_free(flat);
    err_clear(&e);
    struct graph *all = everything();
    ok(student_scale(&student, all, 4, 1000, &e) == E_TOO_LARGE, "%s", e.text);
    graph_free(all);
}

/* ---- chains ---- */

static int parse_student(struct student_spec *s, const char *json, struct err *e) {
    struct json *root;
    int status = json_parse(&root, json, strlen(json), e);
    if (status) return status;
    status = param_parse(s, student_params, root, "/student", e);
    json_free(root);
    return status ? status : student_check(s, e);
}

TEST(chains_are_built_and_refused) {
    static const struct {
        const char *json;
        bool good;
        int64_t parameters;
        const char *pointer;
    } cases[] = {
        {"{\"layers\":[{\"conv\":32,\"kernel\":3,\"stride\":1,\"pad\":\"same\"},\"relu\",{\"maxpool\":2},\"batchnorm\","
         "\"flatten\",{\"dense\":10}]}",
         true, 32 * 9 + 32 + 4 * 32 + 14 * 14 * 32 * 10 + 10, ""},
        {"{\"layers\":[{\"conv\":8},\"batchnorm\",\"relu\",\"global_avgpool\",{\"dense\":10}]}", true,
         8 * 9 + 4 * 8 + 8 * 10 + 10, ""},
        {"{\"layers\":[{\"conv\":8,\"stride\":2,\"kernel\":4},\"leaky_relu\",{\"avgpool\":2},{\"dropout\":0.5},"
         "\"tanh\",\"hardswish\",\"sigmoid\",{\"dense\":10},\"softmax\"]}",
         true, 8 * 16 + 8 + 7 * 7 * 8 * 10 + 10, ""},
        {"{\"layers\":[{\"dense\":10}]}", true, 7850, ""},
        {"{\"layers\":[{\"dense\":10},{\"conv\":3}]}", false, 0, "/student/layers/1"},
        {"{\"layers\":[{\"conv\":3,\"dense\":3}]}", false, 0, "/student/layers/0"},
        {"{\"layers\":[{\"kernel\":3}]}", false, 0, "/student/layers/0"},
        {"{\"layers\":[{\"maxpool\":30},{\"dense\":10}]}", false, 0, "/student/layers/0"},
        {"{\"layers\":[{\"conv\":3,\"groups\":2},{\"dense\":10}]}", false, 0, "/student/layers/0"},
        {"{\"layers\":[{\"dense\":11}]}", false, 0, "/student"},
        {"{\"layers\":[{\"dense\":16000000},{\"dense\":16000000},{\"dense\":10}]}", false, 0, "/student/layers/0"},
        {"{}", false, 0, "/student"},
        {"{\"width\":0.5,\"layers\":[\"relu\"]}", false, 0, "/student"},
        {"{\"width\":0.5,\"init\":\"keep\"}", false, 0, "/student/init"},
        {"{\"width\":0.5}", false, 0, "/student/width"},
        {"{\"layers\":[\"reluu\"]}", false, 0, "/student/layers/0"},
    };
    struct memory_host world = {0};
    struct host host = memory_host_open(&world, 1);
    host.memory = (size_t)1 << 30;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct student_spec s;
        struct network n = {0};
        struct err e = {0};
        struct student_origin origin = {.input = {.rank = 4, .dim = {DIM_BATCH, 1, 28, 28}}, .classes = 10, .seed = 1};
        int status = parse_student(&s, cases[i].json, &e);
        if (!status) status = student_build(&n, &s, &origin, &host, &e);
        ok((status == 0) == cases[i].good, "%s: %s", cases[i].json, e.text);
        if (!status)
            ok(n.size.parameters == cases[i].parameters, "%s: %lld", cases[i].json, (long long)n.size.parameters);
        else
            ok(!strncmp(e.pointer, cases[i].pointer, strlen(cases[i].pointer)), "%s at %s", cases[i].json, e.pointer);
        network_fini(&n);
    }
}

/* ---- weights ---- */

TEST(fresh_weights_keep_the_scale) {
    struct graph *all = everything();
    struct err e = {0};
    need(init_graph(all, 1, &e) == 0, "%s", e.text);
    const struct array *w = all->values[graph_find_value(all, "w0")].constant;
    double sum = 0;
    for (size_t i = 0; i < w->count; i++) sum += (double)((float *)w->data)[i] * (double)((float *)w->data)[i];
    ok(fabs(sum / (double)w->count / (2.0 / 27) - 1) < 0.4, "variance %g, expected %g", sum / (double)w->count,
       2.0 / 27);
    struct graph *again = everything(), *other = everything();
    init_graph(again, 1, NULL);
    init_graph(other, 2, NULL);
    ok(same_weights(all, again) && !same_weights(all, other), "the seed decides");
    graph_free(all);
    graph_free(again);
    graph_free(other);
}

/* ---- networks ---- */

TEST(softmax_is_left_out_and_comes_back) {
    int x = start(3, 4);
    int logits = dense(NODE("Flatten", x), 48, 5);
    struct graph *soft = finish(NODE("Softmax", logits));
    int answer = soft->outputs[0];
    struct network n;
    struct err e = {0};
    need(network_take(&n, soft, &e) == 0, "%s", e.text);
    ok(n.graph->outputs[0] == logits && n.classes == 5, "logits");
    need(layers_new_head(&n, 7, 1, &e) == 0, "%s", e.text);
    ok(n.classes == 7 && n.graph->outputs[0] != n.answer, "new head");
    real out[2 * 7];
    run_net(n.graph, 2, out, 7);
    struct graph *back = NULL;
    need(network_restore(&back, &n, &e) == 0, "%s", e.text);
    ok(!strcmp(back->values[back->outputs[0]].name, back->values[answer].name), "softmax");
    run_net(back, 2, out, 7);
    double sum = 0;
    for (int i = 0; i < 7; i++) sum += (double)out[i];
    ok(fabs(sum - 1) < 1e-5, "probabilities add up to %g", sum);
    graph_free(back);
}

TEST(a_fixed_batch_is_freed) {
    int x = start(3, 4), target = -1;
    struct array *a;
    array_new(&a, DT_INT64, &(struct shape){.rank = 1, .dim = {2}}, NULL);
    ((int64_t *)a->data)[0] = 2;
    ((int64_t *)a->data)[1] = -1;
    graph_add_constant_take(&target, g, "target", a, NULL);
    g->values[x].shape.dim[0] = 2;
    struct graph *fixed = finish(dense(NODE("Reshape", x, target), 48, 5));
    struct network n;
    struct err e = {0};
    need(network_take(&n, fixed, &e) == 0, "%s", e.text);
    real out[7 * 5];
    run_net(n.graph, 7, out, 5);
    network_fini(&n);
}

TEST(freezing_takes_layers_out) {
    struct graph *all = everything();
    struct err e = {0};
    ok(layers_freeze(all, "nothing*", "/freeze/0", &e) == E_INVALID && strstr(e.text, "Conv"), "%s", e.text);
    err_clear(&e);
    ok(layers_freeze(all, "Conv*", "/freeze/0", &e) == 0 && !all->values[graph_find_value(all, "w0")].trainable,
       "by name of node");
    ok(layers_check_trainable(all, &e) == 0, "%s", e.text);
    ok(layers_freeze(all, "w*", "/freeze/0", &e) == 0 && layers_check_trainable(all, &e) == E_INVALID,
       "by name of parameter");
    graph_free(all);
}

/* ---- out of memory ---- */

static struct graph *starved;

static int scale_once(void) {
    struct graph *out = NULL;
    struct err e = {0};
    int status = student_scale(&out, starved, 0.5, 100000, &e);
    graph_free(out);
    return status;
}

static int chain_once(void) {
    static const char json[] =
        "{\"layers\":[{\"conv\":2},\"batchnorm\",\"relu\",{\"dropout\":0.1},{\"maxpool\":2},{\"dense\":3}]}";
    struct student_spec s;
    struct network n = {0};
    struct err e = {0};
    struct memory_host world = {0};
    struct host host = memory_host_open(&world, 1);
    struct student_origin origin = {.input = {.rank = 4, .dim = {DIM_BATCH, 1, 4, 4}}, .classes = 3, .seed = 1};
    int status = parse_student(&s, json, &e);
    if (!status) status = student_build(&n, &s, &origin, &host, &e);
    network_fini(&n);
    return status;
}

TEST(memory_may_run_out) {
    starved = everything();
    starve("scaling", scale_once);
    graph_free(starved);
    starve("a chain", chain_once);
}

TEST_MAIN
