/* What is computed in another order when nothing is trained. Convolutions of one image, which are cut into bands of rows for the threads, against the same image inside a batch,
 * which is not; and against themselves with another number of threads. Dense layers of flattened images. */
#include "tests/test.h"

#include "base/memory.h"
#include "base/random.h"
#include "engine/nn/net.h"

enum { BATCH = 3 };

/* x is [N, in, height, width]; the result of a first convolution is added to that of a second one and cut at 0. */
static const struct layer {
    int64_t in, height, width, out, kernel[2], stride[2], dilation[2], pads[4], group;
} layers[] = {
    {16, 24, 24, 16, {3, 3}, {1, 1}, {1, 1}, {1, 1, 1, 1}, 1},
    {24, 21, 40, 40, {3, 3}, {1, 1}, {1, 1}, {0, 1, 2, 1}, 1},
    {3, 96, 96, 24, {7, 7}, {2, 2}, {1, 1}, {3, 3, 3, 3}, 1},
    {3, 95, 61, 32, {5, 4}, {3, 2}, {1, 1}, {2, 0, 1, 3}, 1},
    {64, 40, 40, 64, {3, 3}, {1, 1}, {1, 1}, {1, 1, 1, 1}, 64},
    {32, 30, 30, 32, {3, 3}, {2, 2}, {1, 1}, {1, 1, 1, 1}, 4},
    {64, 20, 20, 130, {1, 1}, {1, 1}, {1, 1}, {0, 0, 0, 0}, 1},
    {24, 30, 30, 24, {3, 3}, {1, 1}, {3, 2}, {3, 2, 3, 2}, 1},
    {512, 7, 7, 64, {3, 3}, {1, 1}, {1, 1}, {1, 1, 1, 1}, 1},
};

static int constant(struct graph *g, struct random *r, int rank, const int64_t *dims) {
    struct shape shape = {.rank = rank};
    struct array *a;
    int value;
    for (int d = 0; d < rank; d++) shape.dim[d] = dims[d];
    array_new(&a, DT_FLOAT32, &shape, NULL);
    for (size_t i = 0; i < a->count; i++) ((float *)a->data)[i] = (float)(random_unit(r) - 0.5);
    graph_add_constant_take(&value, g, NULL, a, NULL);
    return value;
}

static int add_conv(struct graph *g, struct random *r, const struct layer *l, int x, int y) {
    int w = constant(g, r, 4, (int64_t[]){l->out, l->in / l->group, l->kernel[0], l->kernel[1]});
    int bias = constant(g, r, 1, &l->out), node;
    graph_add_node(&node, g, "Conv", NULL, (int[]){x, w, bias}, 3, &y, 1, NULL);
    graph_set_ints(g, node, "strides", l->stride, 2, NULL);
    graph_set_ints(g, node, "dilations", l->dilation, 2, NULL);
    graph_set_ints(g, node, "pads", l->pads, 4, NULL);
    return graph_set_int(g, node, "group", l->group, NULL);
}

static struct graph *network(const struct layer *l) {
    struct graph *g;
    struct random r = random_seed(test_seed());
    struct err e = {0};
    int x, a, b, sum, y;
    graph_new(&g, "bands", 13, &e);
    graph_add_value(&x, g, "x", NULL, &e);
    graph_add_value(&a, g, "a", NULL, &e);
    graph_add_value(&b, g, "b", NULL, &e);
    graph_add_value(&sum, g, "sum", NULL, &e);
    graph_add_value(&y, g, "y", NULL, &e);
    graph_add_input(g, x, DT_FLOAT32, &(struct shape){4, {DIM_BATCH, l->in, l->height, l->width}}, &e);
    add_conv(g, &r, l, x, a);
    add_conv(g, &r, l, x, b);
    graph_add_node(NULL, g, "Add", NULL, (int[]){a, b}, 2, &sum, 1, &e);
    graph_add_node(NULL, g, "Relu", NULL, &sum, 1, &y, 1, &e);
    graph_add_output(g, y, &e);
    return ok(graph_finish(g, &e) == 0, "%s", e.text) ? g : NULL;
}

/* The results of one image, and how many they are; the batch repeats it. */
static real *run(size_t *n, const struct graph *g, int batch, int threads) {
    struct crew *crew;
    struct net *net;
    struct err e = {0};
    struct random r = random_seed(7);
    if (!ok(crew_new(&crew, threads, &e) == 0, "%s", e.text)) return NULL;
    if (!ok(net_new(&net, g, crew, &(struct net_options){.batch = batch}, &e) == 0, "%s", e.text)) return NULL;
    struct shape in = net_input_shape(net, 0), out = net_output_shape(net, 0);
    size_t each;
    shape_count(&each, &in, NULL);
    shape_count(n, &out, NULL);
    each /= (size_t)batch, *n /= (size_t)batch;
    real *x = net_input(net, 0);
    for (size_t i = 0; i < each; i++) x[i] = (real)(random_unit(&r) - 0.5);
    for (int b = 1; b < batch; b++) memcpy(x + (size_t)b * each, x, each * sizeof(real));
    net_forward(net, batch, random_seed(1), NULL, NULL);
    real *y = mem_copy(net_output(net, 0) + (size_t)(batch - 1) * *n, *n * sizeof(real));
    net_free(net);
    crew_free(crew);
    return y;
}

TEST(one_image_gives_what_it_gives_in_a_batch) {
    for (size_t l = 0; l < sizeof layers / sizeof *layers; l++) {
        struct graph *g = network(&layers[l]);
        need(g != NULL, "layer %zu", l);
        size_t n = 0;
        real *alone = run(&n, g, 1, 2), *one_thread = run(&n, g, 1, 1), *within = run(&n, g, BATCH, 1);
        double worst = 0, most = 0;
        for (size_t i = 0; i < n; i++) {
            worst = fmax(worst, fabs((double)alone[i] - (double)within[i]));
            most = fmax(most, fabs((double)within[i]));
        }
        ok(most > 0.1 && worst <= 1e-5 * most, "layer %zu: off by %g of %g", l, worst, most);
        ok(memcmp(alone, one_thread, n * sizeof(real)) == 0, "layer %zu: the number of threads changes it", l);
        mem_free(alone);
        mem_free(one_thread);
        mem_free(within);
        graph_free(g);
    }
}

/* ---- flattened images in front of dense layers ---- */

/* Conv, Flatten, then Gemm of either order, or MatMul. */
static struct graph *flattening(const char *op, bool transposed) {
    struct graph *g;
    struct random r = random_seed(test_seed());
    struct err e = {0};
    struct layer conv = {3, 6, 5, 4, {3, 3}, {1, 1}, {1, 1}, {1, 1, 1, 1}, 1};
    int x, a, flat, y, node, k = 4 * 6 * 5, n = 37;
    graph_new(&g, "flattening", 13, &e);
    graph_add_value(&x, g, "x", NULL, &e);
    graph_add_value(&a, g, "a", NULL, &e);
    graph_add_value(&flat, g, "flat", NULL, &e);
    graph_add_value(&y, g, "y", NULL, &e);
    graph_add_input(g, x, DT_FLOAT32, &(struct shape){4, {DIM_BATCH, 3, 6, 5}}, &e);
    add_conv(g, &r, &conv, x, a);
    graph_add_node(NULL, g, "Flatten", NULL, &a, 1, &flat, 1, &e);
    int w = constant(g, &r, 2, transposed ? (int64_t[]){n, k} : (int64_t[]){k, n});
    graph_add_node(&node, g, op, NULL, (int[]){flat, w}, 2, &y, 1, &e);
    if (transposed) graph_set_int(g, node, "transB", 1, &e);
    graph_add_output(g, y, &e);
    return ok(graph_finish(g, &e) == 0, "%s", e.text) ? g : NULL;
}

/* Training takes the image apart in ONNX's order, inference as it lies. */
static void check_flattening(const struct graph *g, int batch, const char *what) {
    struct net *nets[2];
    struct crew *crew;
    struct err e = {0};
    struct random r = random_seed(3);
    need(crew_new(&crew, 2, &e) == 0, "%s", e.text);
    for (int training = 0; training < 2; training++)
        need(net_new(&nets[training], g, crew, &(struct net_options){.batch = batch, .training = training}, &e) == 0,
             "%s", e.text);
    struct shape in = net_input_shape(nets[0], 0), out = net_output_shape(nets[0], 0);
    size_t n, m;
    shape_count(&n, &in, NULL);
    shape_count(&m, &out, NULL);
    for (size_t i = 0; i < n; i++) net_input(nets[0], 0)[i] = net_input(nets[1], 0)[i] = (real)(random_unit(&r) - 0.5);
    double worst = 0;
    for (int k = 0; k < 2; k++) net_forward(nets[k], batch, random_seed(1), NULL, NULL);
    for (size_t i = 0; i < m; i++)
        worst = fmax(worst, fabs((double)(net_output(nets[0], 0)[i] - net_output(nets[1], 0)[i])));
    ok(worst < 1e-5, "%s, batch %d: off by %g", what, batch, worst);
    for (int k = 0; k < 2; k++) net_free(nets[k]);
    crew_free(crew);
}

TEST(flattened_images_are_taken_as_they_lie) {
    static const int batches[] = {1, 2, 3, 4, 17, 80};
    struct graph *all[] = {flattening("Gemm", true), flattening("Gemm", false), flattening("MatMul", false)};
    for (int i = 0; i < 3; i++) {
        for (int b = 0; b < 6 && all[i]; b++) check_flattening(all[i], batches[b], i < 2 ? "Gemm" : "MatMul");
        graph_free(all[i]);
    }
}

TEST_MAIN
