/* What training takes beside the least that it could take, by the plan's own account and by that of the
 * operating system; and what importing and running a network takes. */
#define TEST_SECONDS 120
#include "engine/nn/train.h"

#include "engine/formats/onnx.h"
#include "engine/transfer/init.h"
#include "tests/engine/memory_host.h"
#include "tests/peak.h"

#define LIMIT 1.3 /* of what a run needs, it may take */

/* ---- building in few words ---- */

struct bench {
    struct graph *graph;
    int made;
};

static int constant(struct bench *b, int rank, const int64_t *dims) {
    struct shape shape = {.rank = rank};
    struct array *a = NULL;
    int v = VALUE_NONE;
    memcpy(shape.dim, dims, (size_t)rank * sizeof *dims);
    ok(!array_new(&a, DT_FLOAT32, &shape, NULL), "array");
    for (size_t i = 0; i < a->count; i++) ((float *)a->data)[i] = 0.01f;
    ok(!graph_add_constant_take(&v, b->graph, NULL, a, NULL), "constant");
    return v;
}
#define CONSTANT(b, ...) \
    constant(b, (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (int64_t[]){__VA_ARGS__})

static int whole_numbers(struct bench *b, int64_t n, const int64_t *numbers) {
    struct array *a = NULL;
    int v = VALUE_NONE;
    ok(!array_new(&a, DT_INT64, &(struct shape){1, {n}}, NULL), "array");
    memcpy(a->data, numbers, (size_t)n * sizeof *numbers);
    ok(!graph_add_constant_take(&v, b->graph, NULL, a, NULL), "constant");
    return v;
}

static int node(struct bench *b, const char *op, int n, const int *inputs) {
    int out = VALUE_NONE;
    ok(!graph_add_value(&out, b->graph, NULL, op, NULL), "value");
    ok(!graph_add_node(&b->made, b->graph, op, NULL, inputs, n, &out, 1, NULL), "%s", op);
    return out;
}
#define NODE(b, op, ...) node(b, op, (int)(sizeof((int[]){__VA_ARGS__}) / sizeof(int)), (int[]){__VA_ARGS__})

static int conv(struct bench *b, int x, int64_t in, int64_t out, int64_t kernel, int64_t stride) {
    int y = NODE(b, "Conv", x, CONSTANT(b, out, in, kernel, kernel), CONSTANT(b, out));
    graph_set_ints(b->graph, b->made, "pads", (int64_t[]){kernel / 2, kernel / 2, kernel / 2, kernel / 2}, 4, NULL);
    graph_set_ints(b->graph, b->made, "strides", (int64_t[]){stride, stride}, 2, NULL);
    return y;
}

static int norm(struct bench *b, int x, int64_t n) {
    return NODE(b, "BatchNormalization", x, CONSTANT(b, n), CONSTANT(b, n), CONSTANT(b, n), CONSTANT(b, n));
}

static int pool(struct bench *b, int x) {
    int y = NODE(b, "MaxPool", x);
    graph_set_ints(b->graph, b->made, "kernel_shape", (int64_t[]){2, 2}, 2, NULL);
    graph_set_ints(b->graph, b->made, "strides", (int64_t[]){2, 2}, 2, NULL);
    return y;
}

static int dense(struct bench *b, int x, int64_t in, int64_t out) {
    return NODE(b, "Add", NODE(b, "MatMul", x, CONSTANT(b, in, out)), CONSTANT(b, out));
}

static int start(struct bench *b, int rank, const int64_t *dims) {
    struct shape shape = {.rank = rank + 1, .dim = {DIM_BATCH}};
    int x = VALUE_NONE;
    memcpy(&shape.dim[1], dims, (size_t)rank * sizeof *dims);
    *b = (struct bench){0};
    ok(!graph_new(&b->graph, "bench", 13, NULL), "graph");
    ok(!graph_add_value(&x, b->graph, "x", NULL, NULL) && !graph_add_input(b->graph, x, DT_FLOAT32, &shape, NULL),
       "input");
    return x;
}

static struct graph *finish(struct bench *b, int y) {
    struct err e = {0};
    ok(!graph_add_output(b->graph, y, &e) && !graph_finish(b->graph, &e) && !init_graph(b->graph, 1, &e), "%s", e.text);
    return b->graph;
}

/* ---- networks ---- */

static struct graph *lenet(void) {
    struct bench b;
    int x = start(&b, 3, (int64_t[]){1, 28, 28});
    x = pool(&b, NODE(&b, "Relu", conv(&b, x, 1, 32, 3, 1)));
    x = pool(&b, NODE(&b, "Relu", conv(&b, x, 32, 64, 3, 1)));
    x = NODE(&b, "Relu", dense(&b, NODE(&b, "Flatten", x), 3136, 128));
    return finish(&b, dense(&b, x, 128, 10));
}

/* Many weights on small images: what lanes gather would be several times the weights. */
static struct graph *vgg(void) {
    static const int64_t channels[] = {3, 64, 128, 256, 256, 512, 512};
    struct bench b;
    int x = start(&b, 3, (int64_t[]){3, 32, 32});
    for (int i = 0; i < 6; i++) {
        x = NODE(&b, "Relu", conv(&b, x, channels[i], channels[i + 1], 3, 1));
        if (i != 2 && i != 4) x = pool(&b, x);
    }
    return finish(&b, dense(&b, NODE(&b, "Flatten", x), 2048, 10));
}

static int block(struct bench *b, int x, int64_t in, int64_t out, int64_t stride) {
    int y = NODE(b, "Relu", norm(b, conv(b, x, in, out, 3, stride), out));
    y = norm(b, conv(b, y, out, out, 3, 1), out);
    if (in != out) x = norm(b, conv(b, x, in, out, 1, stride), out);
    return NODE(b, "Relu", NODE(b, "Add", y, x));
}

/* Residual, with as many channels as `wide` times those of ResNet-20. */
static struct graph *resnet(int64_t wide) {
    struct bench b;
    int x = start(&b, 3, (int64_t[]){3, 32, 32});
    x = NODE(&b, "Relu", norm(&b, conv(&b, x, 3, 16 * wide, 3, 1), 16 * wide));
    for (int64_t in = 16 * wide, stage = 0; stage < 3; stage++) {
        int64_t out = (16 << stage) * wide;
        for (int k = 0; k < 3; k++, in = out) x = block(&b, x, in, out, k == 0 && stage ? 2 : 1);
    }
    x = NODE(&b, "Flatten", NODE(&b, "GlobalAveragePool", x));
    return finish(&b, dense(&b, x, 64 * wide, 10));
}

static struct graph *resnet_narrow(void) {
    return resnet(1);
}
static struct graph *resnet_wide(void) {
    return resnet(6);
}

static struct graph *perceptron(void) {
    struct bench b;
    int x = start(&b, 1, (int64_t[]){784});
    x = NODE(&b, "Relu", dense(&b, x, 784, 1024));
    x = NODE(&b, "Relu", dense(&b, x, 1024, 1024));
    return finish(&b, dense(&b, x, 1024, 10));
}

enum { WIDTH = 64, HEADS = 4, TOKENS = 32 };

static int heads(struct bench *b, int x, const int64_t *order) {
    int y = NODE(b, "Reshape", x, whole_numbers(b, 4, (int64_t[]){-1, TOKENS, HEADS, WIDTH / HEADS}));
    y = NODE(b, "Transpose", y);
    graph_set_ints(b->graph, b->made, "perm", order, 4, NULL);
    return y;
}

static int attention(struct bench *b, int x) {
    static const int64_t turned[] = {0, 2, 1, 3}, keys[] = {0, 2, 3, 1};
    int q = heads(b, dense(b, x, WIDTH, WIDTH), turned), k = heads(b, dense(b, x, WIDTH, WIDTH), keys);
    int v = heads(b, dense(b, x, WIDTH, WIDTH), turned);
    int a = NODE(b, "Softmax", NODE(b, "MatMul", q, k));
    graph_set_int(b->graph, b->made, "axis", 3, NULL);
    a = NODE(b, "Transpose", NODE(b, "MatMul", a, v));
    graph_set_ints(b->graph, b->made, "perm", turned, 4, NULL);
    a = NODE(b, "Reshape", a, whole_numbers(b, 3, (int64_t[]){-1, TOKENS, WIDTH}));
    return dense(b, a, WIDTH, WIDTH);
}

static struct graph *transformer(void) {
    struct bench b;
    int x = start(&b, 2, (int64_t[]){TOKENS, WIDTH});
    for (int layer = 0; layer < 3; layer++) {
        x = NODE(&b, "Add", x, attention(&b, x));
        int y = NODE(&b, "Relu", dense(&b, x, WIDTH, 4 * WIDTH));
        x = NODE(&b, "Add", x, dense(&b, y, 4 * WIDTH, WIDTH));
    }
    return finish(&b, dense(&b, NODE(&b, "Flatten", x), TOKENS * WIDTH, 10));
}

static const struct {
    const char *name;
    struct graph *(*make)(void);
    int batch;
} nets[] = {
    {"lenet", lenet, 128},
    {"lenet", lenet, 33},
    {"vgg", vgg, 128},

    {"vgg", vgg, 16},
    {"resnet", resnet_narrow, 128},
    {"wide resnet", resnet_wide, 8},
    {"wide resnet", resnet_wide, 64},
    {"perceptron", perceptron, 64},
    {"transformer", transformer, 32},
};

/* ---- by the plan's account ---- */

TEST(plans_take_little_more_than_is_needed) {
    struct crew *crew;
    struct err e = {0};
    need(!crew_new(&crew, 2, &e), "%s", e.text);
    for (size_t i = 0; i < sizeof nets / sizeof *nets; i++) {
        struct net *n;
        struct graph *g = nets[i].make();
        need(!net_new(&n, g, crew, &(struct net_options){.batch = nets[i].batch, .training = true}, &e), "%s", e.text);
        struct net_memory m = net_memory(n);
        size_t adam = 2 * net_trainable_count(n) * sizeof(real);
        double ratio = (double)(m.taken + adam) / (double)(m.parameters + adam + m.live);
        ok(ratio <= LIMIT, "%s, batch %d: takes %zu bytes, %.2f times what is needed", nets[i].name, nets[i].batch,
           m.taken + adam, ratio);
        ok(m.taken >= m.parameters + m.activations + m.workspace, "%s: the whole is less than its parts", nets[i].name);
        if (getenv("TEST_VERBOSE"))
            printf("# %-12s %4d %.2f: live %zu activations %zu workspace %zu parameters %zu\n", nets[i].name,
                   nets[i].batch, ratio, m.live, m.activations, m.workspace, m.parameters);
        net_free(n);
        graph_free(g);
    }
    crew_free(crew);
}

/* x [N,8] . w [8,4] -> Relu, by hand: the input, the sum and the output; backward the gradients of both,
 * the input again. Relu is merged into the product where it can be, then there is no sum. */
TEST(the_least_is_what_is_alive_at_once) {
    struct bench b;
    struct crew *crew;
    struct net *n;
    struct err e = {0};
    int x = start(&b, 1, (int64_t[]){8});
    struct graph *g = finish(&b, NODE(&b, "Sigmoid", NODE(&b, "MatMul", x, CONSTANT(&b, 8, 4))));
    need(!crew_new(&crew, 1, &e), "%s", e.text);
    need(!net_new(&n, g, crew, &(struct net_options){.batch = 16, .training = true}, &e), "%s", e.text);
    /* at Sigmoid's backward: x for the weights, y, dy, and the gradient of the product */
    ok(net_memory(n).live == 16 * (8 + 4 + 4 + 4) * sizeof(real), "%zu bytes", net_memory(n).live);
    net_free(n);
    need(!net_new(&n, g, crew, &(struct net_options){.batch = 16}, &e), "%s", e.text);
    ok(net_memory(n).live == 16 * (8 + 4) * sizeof(real), "%zu bytes without training", net_memory(n).live);
    net_free(n);
    graph_free(g);
    /* a second input waits for its reader: at Sigmoid there are z, and 32 twice */
    int z;
    x = start(&b, 1, (int64_t[]){8});
    need(!graph_add_value(&z, b.graph, "z", NULL, NULL) &&
             !graph_add_input(b.graph, z, DT_FLOAT32, &(struct shape){2, {DIM_BATCH, 8}}, NULL),
         "input");
    int y = NODE(&b, "MatMul", NODE(&b, "Sigmoid", NODE(&b, "MatMul", x, CONSTANT(&b, 8, 32))), CONSTANT(&b, 32, 8));
    g = finish(&b, NODE(&b, "Sub", y, z));
    need(!net_new(&n, g, crew, &(struct net_options){.batch = 16}, &e), "%s", e.text);
    ok(net_memory(n).live == 16 * (32 + 32 + 8) * sizeof(real), "%zu bytes while the input waits", net_memory(n).live);
    net_free(n);
    graph_free(g);
    crew_free(crew);
}

/* ---- a run, by the system's account ---- */

#define SAMPLES 96

struct rows {
    float *inputs;
    int32_t *labels;
    struct dataset data;
};

static void make_rows(struct rows *r, const struct shape *input) {
    struct dataset_spec spec = {.ref = "rows", .scale = 1, .limit = PARAM_ABSENT};
    struct shape stored = *input;
    struct err e = {0};
    size_t n;
    stored.dim[0] = SAMPLES;
    shape_count(&n, &stored, NULL);
    r->inputs = mem_calloc(n, sizeof *r->inputs);
    r->labels = mem_calloc(SAMPLES, sizeof *r->labels);
    for (size_t i = 0; i < n; i++) r->inputs[i] = (float)(i % 7) / 7;
    for (int i = 0; i < SAMPLES; i++) r->labels[i] = i % 10;
    struct data_array x = {.type = DT_FLOAT32, .data = r->inputs, .shape = stored};
    struct data_array y = {.type = DT_INT32, .data = r->labels, .shape = {.rank = 1, .dim = {SAMPLES}}};
    ok(!dataset_open(&r->data, &spec, &x, &y, input, 10, &e), "%s", e.text);
}

static int train(struct train_result *result, struct graph *g, const struct rows *rows, struct memory_host *world,
                 size_t memory, struct err *e) {
    struct train_spec spec;
    struct loss_plan loss;
    struct loss_spec ce = {.kind = LOSS_CE, .weight = 1, .temperature = 1};
    struct crew *crew;
    loss_plan(&loss, &ce, 1, true, false, NULL);
    param_parse(&spec, train_params, NULL, "", NULL);
    spec.epochs = 1;
    spec.batch = 32;
    struct selection all = {&rows->data, NULL, SAMPLES};
    struct train_task task = {
        .spec = &spec, .loss = &loss, .train = all, .eval = all, .memory = memory, .keep_memory = true};
    struct host host = memory_host_open(world, 2);
    struct train_hooks hooks = {.context = world,
                                .progress = host.progress,
                                .log = host.log,
                                .checkpoint_due = host.checkpoint_due,
                                .checkpoint_save = host.checkpoint_save};
    int status = train_check(&spec, true, false, e);
    if (!status) status = crew_new(&crew, 2, e);
    if (status) return status;
    status = train_run(result, g, crew, &task, &hooks, e);
    crew_free(crew);
    return status;
}

/* Libraries, threads and the code that oneDNN writes are there before anything is measured. */
static void warm_up(const struct rows *rows) {
    struct memory_host world = {0};
    struct train_result result;
    struct err e = {0};
    struct graph *g = vgg();
    ok(!train(&result, g, rows, &world, 0, &e), "%s", e.text);
    graph_free(g);
}

TEST(a_run_keeps_to_what_it_said) {
    const struct shape input = {.rank = 4, .dim = {DIM_BATCH, 3, 32, 32}};
    struct rows rows;
    mem_return_large();
    make_rows(&rows, &input);
    warm_up(&rows);
    struct graph *(*const makes[])(void) = {vgg, resnet_wide};
    for (int i = 0; i < 2; i++) {
        struct memory_host world = {0};
        struct train_result result;
        struct err e = {0};
        need(peak_forget(), "/proc/self/clear_refs");
        size_t before = peak_now();
        struct graph *g = makes[i]();
        need(!train(&result, g, &rows, &world, 0, &e), "%s", e.text);
        double needed = (double)result.memory_needed, peak = (double)(peak_most() - before);
        ok((double)result.memory_taken <= LIMIT * needed, "%d: %zu bytes taken", i, result.memory_taken);
        ok(!PEAK_TRUE || peak <= LIMIT * needed, "%d: the peak of %g bytes is %.2f times what is needed", i, peak,
           peak / needed);
        if (getenv("TEST_VERBOSE"))
            printf("# %d: needed %.0f taken %zu peak %.0f\n", i, needed, result.memory_taken, peak);
        graph_free(g);
        memory_host_close(&world);
    }
    mem_free(rows.inputs);
    mem_free(rows.labels);
}

TEST(the_limit_counts_all_of_a_run) {
    const struct shape input = {.rank = 4, .dim = {DIM_BATCH, 1, 28, 28}};
    struct memory_host world = {0};
    struct train_result result;
    struct err e = {0};
    struct rows rows;
    make_rows(&rows, &input);
    struct graph *g = lenet();
    need(!train(&result, g, &rows, &world, 0, &e), "%s", e.text);
    ok(strstr(world.last_log, "memory: needs ") && strstr(world.last_log, "4 copies with adam"), "%s", world.last_log);
    size_t taken = result.memory_taken;
    need(!train(&result, g, &rows, &world, taken, &e), "as much as it takes: %s", e.text);
    ok(train(&result, g, &rows, &world, taken - 1, &e) == E_TOO_LARGE && strstr(e.text, "--memory"), "%s", e.text);
    graph_free(g);
    mem_free(rows.inputs);
    mem_free(rows.labels);
}

/* ---- importing ---- */

static int put_file(void *context, const void *bytes, size_t size, struct err *e) {
    return fwrite(bytes, 1, size, context) == size ? 0 : err_set(e, E_IO, "fwrite");
}

static int read_file(void *to, size_t size, uint64_t offset, void *context, struct err *e) {
    bool good = fseeko(context, (off_t)offset, SEEK_SET) == 0 && fread(to, 1, size, context) == size;
    return good ? 0 : err_set(e, E_IO, "fread");
}

/* 100 MB of weights in a file that goes with the test. */
static FILE *large_file(size_t *size) {
    struct bench b;
    struct err e = {0};
    FILE *f = tmpfile();
    int x = start(&b, 1, (int64_t[]){2500});
    for (int i = 0; i < 4; i++) x = NODE(&b, "Relu", dense(&b, x, 2500, 2500));
    struct graph *g = finish(&b, x);
    ok(f && !onnx_write((struct byte_sink){put_file, f}, g, &e), "%s", e.text);
    graph_free(g);
    *size = (size_t)ftello(f);
    return f;
}

/* Besides weights: the file's window, small messages, libraries that are not there yet. */
#define BESIDES ((size_t)4 << 20)

TEST(an_imported_network_is_in_memory_once) {
    size_t size;
    struct graph *g = NULL;
    struct err e = {0};
    struct crew *crew;
    struct net *n;
    mem_return_large();
    FILE *f = large_file(&size);
    struct byte_origin origin = {size, read_file, f};
    need(!crew_new(&crew, 2, &e) && peak_forget(), "start");
    size_t before = peak_now();
    need(!onnx_read_from(&g, &origin, &e), "%s", e.text);
    fclose(f);
    ok(!PEAK_TRUE || peak_most() - before <= size + BESIDES, "importing %zu bytes took %zu", size,
       peak_most() - before);
    need(!net_new(&n, g, crew, &(struct net_options){.batch = 4}, &e), "%s", e.text);
    net_forward(n, 4, random_seed(1), NULL, NULL);
    ok(!PEAK_TRUE || peak_most() - before <= size + 4 * BESIDES, "running %zu bytes took %zu", size,
       peak_most() - before);
    ok(net_memory(n).taken < BESIDES, "the plan took %zu bytes", net_memory(n).taken);
    net_free(n);
    graph_free(g);
    crew_free(crew);
}

TEST_MAIN
