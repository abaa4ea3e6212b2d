/* Traps of widening: what tools like this one have got wrong when a layer gets more channels, one test each, on networks
 * made so that the mistake would show. */
#define TEST_SECONDS 120
#include "tests/test.h"

#include "tests/engine/morph_kit.h"

#define WIDER "{\"op\":\"widen\",\"layer\":\"conv1\",\"to\":8}" /* of five channels */
#define SAME window(3, 1, 1, 1)

/* ---- looking at units ---- */

enum { UNITS = 64, NORM_VECTORS = 4 };

static const float *numbers(const struct graph *g, int value) {
    return g->values[value].constant->data;
}

/* Which unit of the parent each unit of a layer that reads as much as before has its weights from. */
static int64_t sources(int64_t from[UNITS], const struct graph *parent, const struct graph *child, const char *layer) {
    const struct array *old = weights_of(parent, layer), *wide = weights_of(child, layer);
    if (!old || !wide || wide->shape.dim[0] > UNITS) return 0;
    size_t each = old->count / (size_t)old->shape.dim[0];
    for (int64_t j = 0; j < wide->shape.dim[0]; j++) {
        const float *row = (const float *)wide->data + (size_t)j * each;
        from[j] = 0;
        while (from[j] < old->shape.dim[0] &&
               memcmp(row, (const float *)old->data + (size_t)from[j] * each, each * sizeof *row) != 0)
            from[j]++;
        ok(from[j] < old->shape.dim[0], "%s: unit %lld is nobody's copy", layer, (long long)j);
        if (from[j] == old->shape.dim[0]) return 0;
    }
    return wide->shape.dim[0];
}

/* Input k of a node has, for every unit, the number of the unit that it copies. */
static void follows(const struct graph *parent, const struct graph *child, const char *name, int k, const int64_t *from,
                    int64_t n) {
    const struct node *old = node_named(parent, name), *wide = node_named(child, name);
    for (int64_t j = 0; old && wide && j < n; j++)
        ok(numbers(child, wide->inputs[k])[j] == numbers(parent, old->inputs[k])[from[j]],
           "%s: input %d of unit %lld, a copy of %lld, is %g", name, k, (long long)j, (long long)from[j],
           (double)numbers(child, wide->inputs[k])[j]);
}

/* Wider in every way that keeps the function; the network is freed. */
static void widens(struct graph *parent, const char *layer) {
    static const char *const modes[] = {"net2wider", "uneven", "random-fanin"};
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        char text[160];
        snprintf(text, sizeof text, "{\"op\":\"widen\",\"layer\":\"%s\",\"factor\":1.6,\"mode\":\"%s\"}", layer,
                 modes[i]);
        graph_free(proved(parent, text));
    }
    graph_free(parent);
}

static struct rg_value relu(struct rg *b, struct rg_value x) {
    return rg_simple(b, x, "Relu", "relu", 1);
}

static struct rg_value joined(struct rg *b, const char *op, struct rg_value x, struct rg_value y) {
    char name[32];
    rg_name(name, b, "joined");
    x.index = rg_node(b, op, name, (int[]){x.index, y.index}, 2);
    return x;
}

static struct rg_value concat(struct rg *b, struct rg_value x, struct rg_value y) {
    struct rg_value z = joined(b, "Concat", x, y);
    rg_int(b, "axis", 1);
    z.c = x.c + y.c;
    return z;
}

/* ---- what a unit has of its own ---- */

TEST(bias_of_copies_left_zero) {
    struct graph *parent = usual(50, SAME, false, "Relu"), *child = proved(parent, WIDER);
    int64_t from[UNITS], n = child ? sources(from, parent, child, "conv1") : 0;
    ok(n == 8, "%lld units", (long long)n);
    follows(parent, child, "conv1", 2, from, n);
    graph_free(child);
    graph_free(parent);
}

TEST(layers_without_bias) {
    struct rg_value x;
    struct rg b = start(51, &x);
    x = conv(&b, x, SAME, true);
    struct graph *parent = finish(&b, last(&b, relu(&b, x))), *child = proved(parent, WIDER);
    ok(child && node_named(child, "conv1")->n_inputs == 2, "there is still none");
    graph_free(child);
    widens(parent, "*");
}

/* Each unit has two or three copies: the first ones count as much as the last. */
TEST(norm_vectors_of_copies_at_default_or_of_the_last_one_only) {
    struct graph *parent = usual(52, SAME, true, "Relu");
    struct graph *child = proved(parent, "{\"op\":\"widen\",\"layer\":\"conv1\",\"to\":17}");
    int64_t from[UNITS], n = child ? sources(from, parent, child, "conv1") : 0;
    ok(n == 17, "%lld units", (long long)n);
    for (int k = 1; k <= NORM_VECTORS; k++) follows(parent, child, "norm2", k, from, n);
    graph_free(child);
    widens(parent, "*");
}

/* What the next layer reads of the copies adds up to what it read of the unit, without rounding. */
TEST(next_layer_copied_from_another_unit) {
    struct graph *parent = usual(53, SAME, false, "Tanh"), *child = proved(parent, WIDER);
    int64_t from[UNITS], n = child ? sources(from, parent, child, "conv1") : 0;
    const struct array *old = weights_of(parent, "conv3"), *wide = weights_of(child, "conv3");
    need(n && old && wide, "no child");
    for (int64_t i = 0; i < 4 * 5 * 9; i++) {
        int64_t o = i / 45, unit = i / 9 % 5, tap = i % 9;
        double sum = 0;
        for (int64_t j = 0; j < n; j++)
            if (from[j] == unit) sum += (double)((const float *)wide->data)[(o * n + j) * 9 + tap];
        ok((float)sum == ((const float *)old->data)[i], "output %lld of unit %lld", (long long)o, (long long)unit);
    }
    graph_free(child);
    graph_free(parent);
}

/* ---- what has to grow together ---- */

TEST(residual_add_with_independent_maps) {
    static const char *const makers[] = {"conv6", "conv12"};
    struct graph *parent = residual(), *child = proved(parent, WIDER);
    int64_t first[UNITS], other[UNITS], n = child ? sources(first, parent, child, "conv1") : 0;
    ok(n == 8, "%lld units", (long long)n);
    for (size_t i = 0; n && i < sizeof makers / sizeof *makers; i++)
        ok(sources(other, parent, child, makers[i]) == n && !memcmp(first, other, (size_t)n * sizeof *first),
           "'%s' copies other units than 'conv1'", makers[i]);
    graph_free(child);
    widens(parent, "*");
}

/* Two layers of five channels, one behind the other in the channels of a third. */
static struct graph *concatenated(void) {
    struct rg_value x, y;
    struct rg b = start(54, &x);
    y = relu(&b, conv(&b, x, SAME, false));
    x = rg_simple(&b, conv(&b, x, window(5, 1, 1, 2), false), "Tanh", "tanh", 1);
    return finish(&b, last(&b, concat(&b, y, x)));
}

TEST(concat_with_new_channels_at_the_end) {
    struct graph *parent = concatenated(), *child = proved(parent, WIDER);
    const struct array *old = weights_of(parent, "conv6"), *wide = weights_of(child, "conv6");
    need(child && old && wide, "no child");
    for (size_t o = 0; o < 4; o++) /* the second layer's five are the last five still */
        ok(!memcmp((float *)wide->data + (o * 13 + 8) * 9, (float *)old->data + (o * 10 + 5) * 9, 45 * sizeof(float)),
           "output %zu", o);
    graph_free(child);
    widens(parent, "*");
}

TEST(concat_of_which_each_input_grows_alone) {
    widens(concatenated(), "conv1");
    widens(concatenated(), "conv3");
    struct rg_value x;
    struct rg b = start(55, &x); /* the network's input keeps its channels */
    x = concat(&b, x, relu(&b, conv(&b, x, SAME, false)));
    widens(finish(&b, last(&b, x)), "conv1");
}

TEST(concat_of_the_same_tensor_twice) {
    struct rg_value x, y;
    struct rg b = start(56, &x);
    y = relu(&b, conv(&b, x, SAME, false));
    x = rg_simple(&b, conv(&b, x, SAME, false), "Tanh", "tanh", 1);
    widens(finish(&b, last(&b, concat(&b, concat(&b, y, x), y))), "*");
}

/* 9 x 8 pixels: neither a square root nor the wrong order of the axes would do. */
TEST(flatten_of_an_oblong_map) {
    static const int64_t targets[3][2] = {
        {0, 0}, {-1, 360}, {0, -1}}; /* Flatten, and Reshape as two exporters write it */
    for (int how = 0; how < 3; how++) {
        struct rg_value x;
        struct rg b = start(57, &x);
        b.o.classes = 4;
        x = relu(&b, conv(&b, x, SAME, false));
        if (how) {
            int view[2] = {x.index, whole_numbers(&b, 2, targets[how])};
            x.index = rg_node(&b, "Reshape", "view", view, 2);
        } else {
            x = rg_simple(&b, x, "Flatten", "view", 1);
        }
        x = (struct rg_value){.index = x.index, .c = 5 * 9 * 8, .gain = 1};
        widens(finish(&b, rg_dense(&b, x, 4, true)), "conv1");
    }
}

/* One filter for every channel, and two. */
TEST(depthwise_kernel_divided) {
    for (int64_t filters = 1; filters <= 2; filters++) {
        struct rg_value x;
        struct rg b = start(58, &x);
        x = relu(&b, conv(&b, x, SAME, false));
        x = relu(&b, rg_conv(&b, x, SAME, filters * 5, 5, VALUE_NONE));
        struct graph *parent = finish(&b, last(&b, x)), *child = proved(parent, WIDER);
        int64_t maker[UNITS], from[UNITS], n = child ? sources(maker, parent, child, "conv1") : 0;
        ok(n == 8 && sources(from, parent, child, "conv3") == filters * n, "units");
        ok(n && node_int(node_named(child, "conv3"), "group", 1) == n, "a group for every channel");
        for (int64_t j = 0; j < n * filters; j++)
            ok(from[j] == maker[j / filters] * filters + j % filters, "filter %lld", (long long)j);
        graph_free(child);
        widens(parent, "*");
    }
}

/* Six channels in three groups: a copy belongs to the group of its original. */
TEST(grouped_convolution_with_copies_across_groups) {
    struct rg_value x;
    struct rg b = start(59, &x);
    x = relu(&b, rg_conv(&b, x, SAME, 6, 1, VALUE_NONE));
    x = relu(&b, rg_conv(&b, x, SAME, 6, 3, VALUE_NONE));
    struct graph *parent = finish(&b, last(&b, x)), *child = proved(parent, WIDER);
    int64_t from[UNITS], n = child ? sources(from, parent, child, "conv1") : 0;
    ok(n == 9, "%lld units: not a multiple of three", (long long)n);
    for (int64_t j = 0; j < n; j++)
        ok(from[j] / 2 == j / 3, "unit %lld copies unit %lld", (long long)j, (long long)from[j]);
    graph_free(child);
    widens(parent, "*");
}

TEST(one_channel_taken_for_depthwise) {
    struct rg_value x;
    struct rg b = start(60, &x);
    x = relu(&b, rg_conv(&b, x, SAME, 1, 1, VALUE_NONE));
    x = relu(&b, rg_conv(&b, x, SAME, 1, 1, VALUE_NONE));
    struct graph *parent = finish(&b, last(&b, x));
    struct graph *child = proved(parent, "{\"op\":\"widen\",\"layer\":\"conv1\",\"to\":3}");
    const struct array *w = weights_of(child, "conv3");
    ok(w && w->shape.dim[0] == 1 && w->shape.dim[1] == 3, "the second layer reads three channels and makes one");
    graph_free(child);
    widens(parent, "*");
}

/* One map that is multiplied with all channels: it cannot have three. */
TEST(one_channel_spread_over_all_others) {
    struct rg_value x, gate;
    struct rg b = start(61, &x);
    gate = rg_simple(&b, rg_conv(&b, x, SAME, 1, 1, VALUE_NONE), "Sigmoid", "gate", 1);
    x = relu(&b, conv(&b, x, SAME, false));
    x = joined(&b, "Mul", x, gate);
    struct graph *parent = finish(&b, last(&b, x)), *child = proved(parent, "{\"op\":\"widen\",\"factor\":1.6}");
    const struct array *w = weights_of(child, "conv1");
    ok(w && w->shape.dim[0] == 1, "the gate grew");
    graph_free(child);
    graph_free(proved(parent, "{\"op\":\"widen\",\"layer\":\"conv3\",\"to\":9}"));
    refuses(parent, "{\"op\":\"widen\",\"layer\":\"conv1\",\"to\":5,\"mode\":\"random-fanin\"}", NULL,
            "node 'joined5' (Mul)");
}

/* A sum over the channels leaves one number, and so does one over the pixels of the only channel. */
TEST(one_channel_summed_away) {
    static const char *const ops[] = {"ReduceSum", "ReduceMax", "ReduceL2"};
    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++) {
        struct rg_value x, sum;
        char word[64];
        struct rg b = start(62, &x);
        sum = rg_simple(&b, rg_conv(&b, x, SAME, 1, 1, VALUE_NONE), "Tanh", "tanh", 1);
        int in[2] = {sum.index, i ? VALUE_NONE : whole_numbers(&b, 3, (int64_t[]){1, -2, 3})};
        sum.index = rg_node(&b, ops[i], "whole", in, i ? 1 : 2); /* ReduceSum has its axes as an input since opset 13 */
        if (i) rg_ints(&b, "axes", (int64_t[]){-3, 2, 3}, 3);
        x = joined(&b, "Sub", rg_conv(&b, x, SAME, 1, 1, VALUE_NONE), sum);
        snprintf(word, sizeof word, "node 'whole' (%s)", ops[i]);
        refuses(finish(&b, last(&b, x)), "{\"op\":\"widen\",\"layer\":\"conv1\",\"to\":3}", NULL, word);
    }
}

/* As many channels as rows: the mean over the channels has as many elements as one over the rows. */
TEST(mean_over_the_wrong_axis_of_a_square) {
    for (int64_t over = 1; over <= 2; over++) {
        struct rg_value x;
        struct rg b = start(63, &x);
        x = rg_conv(&b, x, SAME, 9, 1, VALUE_NONE);
        x.index = rg_node(&b, "ReduceMean", "mean", &x.index, 1);
        rg_ints(&b, "axes", (int64_t[]){over, 3}, 2);
        rg_int(&b, "keepdims", 0);
        x = (struct rg_value){.index = x.index, .c = 9, .gain = 1};
        struct graph *parent = finish(&b, rg_dense(&b, x, 4, true));
        if (over == 1)
            refuses(parent, "{\"op\":\"widen\",\"layer\":\"conv1\",\"to\":12}", NULL, "node 'mean' (ReduceMean)");
        else
            widens(parent, "conv1");
    }
}

/* ---- several readers, several calls ---- */

TEST(one_of_several_consumers_not_rewritten) {
    struct rg_value x, y, z;
    struct rg b = start(63, &x);
    x = relu(&b, conv(&b, x, SAME, false));
    y = last(&b, x);
    z = rg_conv(&b, x, window(1, 1, 1, 0), 4, 1, VALUE_NONE);
    y = joined(&b, "Add", y, z);
    z = last(&b, x);
    widens(finish(&b, joined(&b, "Add", y, z)), "conv1");
}

/* The same weights at two places, which grow together; each place has a bias and a norm of its own. */
TEST(module_called_twice) {
    struct rg_value x, y;
    struct rg b = start(64, &x);
    x = relu(&b, conv(&b, x, SAME, false));
    y = rg_conv(&b, x, SAME, 5, 1, VALUE_NONE);
    int weights = b.g->nodes[b.g->n_nodes - 1].inputs[1];
    y = relu(&b, rg_norm(&b, y));
    y = rg_norm(&b, rg_conv(&b, y, SAME, 5, 1, weights));
    struct graph *parent = finish(&b, last(&b, relu(&b, y)));
    widens(parent, "*");
}

TEST(depthwise_module_called_twice) {
    struct rg_value x, y;
    struct rg b = start(65, &x);
    x = relu(&b, conv(&b, x, SAME, false));
    y = rg_conv(&b, x, SAME, 5, 5, VALUE_NONE);
    int weights = b.g->nodes[b.g->n_nodes - 1].inputs[1];
    y = rg_conv(&b, relu(&b, y), SAME, 5, 5, weights);
    struct graph *parent = finish(&b, last(&b, relu(&b, y)));
    widens(parent, "*");
}

/* A dense layer and its transpose share their weights: what one reads the other makes. */
TEST(weights_tied_to_their_transpose) {
    struct rg_value x;
    struct rg b = start(66, &x);
    x = rg_simple(&b, conv(&b, x, SAME, false), "GlobalAveragePool", "pool", 1);
    x = rg_simple(&b, x, "Flatten", "flat", 1);
    int weights = rg_constant(&b, "tied", "weight", RG_WEIGHTS, 0.5, (struct shape){.rank = 2, .dim = {5, 5}});
    for (int turned = 0; turned < 2; turned++) {
        char name[32];
        rg_name(name, &b, "gemm");
        x.index = rg_node(&b, "Gemm", name, (int[]){x.index, weights}, 2);
        rg_int(&b, "transB", turned);
        x = relu(&b, x);
    }
    x = (struct rg_value){.index = x.index, .c = 5, .gain = 1};
    refuses(finish(&b, rg_dense(&b, x, 3, true)), WIDER, NULL, "node 'gemm");
}

/* ---- layers that widening does not follow ---- */

static void names_the_obstacle(struct graph *parent, const char *op) {
    char word[80];
    snprintf(word, sizeof word, "node 'obstacle' (%s) needs its 5 channels as they are", op);
    refuses(parent, WIDER, NULL, word);
}

/* Copies in uneven numbers would move the mean over the channels, and more of them the gain. */
TEST(layer_norm_with_uneven_copies) {
    struct rg_value x;
    struct rg b = start(67, &x);
    x = conv(&b, x, SAME, false);
    struct shape sample = {.rank = 3, .dim = {5, 9, 8}};
    int in[] = {x.index, rg_constant(&b, "ln", "scale", RG_SCALES, 0, sample),
                rg_constant(&b, "ln", "shift", RG_BIASES, 0, sample)};
    x.index = rg_node(&b, "LayerNormalization", "obstacle", in, 3);
    rg_int(&b, "axis", 1);
    names_the_obstacle(finish(&b, last(&b, x)), "LayerNormalization");
}

/* x / sqrt(mean(x^2) + epsilon) * gain, over the channels, as it is exported. */
TEST(rms_norm_whose_gain_is_not_rescaled) {
    struct rg_value x, y;
    struct rg b = start(68, &x);
    x = conv(&b, x, SAME, false);
    y = joined(&b, "Mul", x, x);
    y.index = rg_node(&b, "ReduceMean", "obstacle", &y.index, 1);
    rg_ints(&b, "axes", (int64_t[]){1}, 1);
    y.index = rg_node(&b, "Add", "safe", (int[]){y.index, rg_number(&b, "safe", "epsilon", 1e-3)}, 2);
    x = joined(&b, "Div", x, rg_simple(&b, y, "Sqrt", "root", 1));
    int gain = rg_constant(&b, "rms", "gain", RG_SCALES, 0, (struct shape){.rank = 3, .dim = {5, 1, 1}});
    x.index = rg_node(&b, "Mul", "scaled", (int[]){x.index, gain}, 2);
    names_the_obstacle(finish(&b, last(&b, x)), "ReduceMean");
}

TEST(other_layers_over_all_channels_are_named) {
    static const char *const ops[] = {
        "Softmax", "LogSoftmax", "LRN", "InstanceNormalization", "GroupNormalization", "ConvTranspose", "ArgMax"};
    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++) {
        struct rg_value x;
        struct rg b = start(69, &x);
        bool norm = strstr(ops[i], "Normalization"), group = ops[i][0] == 'G', filters = ops[i][0] == 'C';
        x = conv(&b, x, SAME, false);
        struct shape vector = {.rank = 1, .dim = {5}}, kernel = {.rank = 4, .dim = {5, 3, 2, 2}};
        int more[2] = {VALUE_NONE, VALUE_NONE};
        for (int k = 0; norm && k < 2; k++)
            more[k] = rg_constant(&b, "own", k ? "shift" : "scale", RG_SCALES, 0, vector);
        if (filters) more[0] = rg_constant(&b, "own", "weight", RG_WEIGHTS, 1, kernel);
        int in[3] = {x.index, more[0], more[1]};
        x.index = rg_node(&b, ops[i], "obstacle", in, norm ? 3 : filters ? 2 : 1);
        if (ops[i][1] == 'R') rg_int(&b, "size", 3);
        if (group) rg_int(&b, "num_groups", 5), b.g->opset = 21;
        if (ops[i][0] == 'S' || ops[i][2] == 'g') rg_int(&b, "axis", 1);
        names_the_obstacle(finish(&b, x), ops[i]);
    }
}

/* softmax(q k / sqrt(d)) v over pixels: with more channels d the scale would have to follow. */
TEST(query_and_key_not_rescaled_when_they_grow) {
    struct rg_value x, part[3];
    struct rg b = start(70, &x);
    int rows[3], pixels = whole_numbers(&b, 3, (int64_t[]){0, 5, 72});
    for (int k = 0; k < 3; k++) {
        char name[32];
        part[k] = conv(&b, x, window(1, 1, 1, 0), false);
        rg_name(name, &b, "rows");
        rows[k] = rg_node(&b, "Reshape", name, (int[]){part[k].index, pixels}, 2);
    }
    int turned = rg_node(&b, "Transpose", "turned", &rows[0], 1);
    rg_ints(&b, "perm", (int64_t[]){0, 2, 1}, 3);
    int scores = rg_node(&b, "MatMul", "scores", (int[]){turned, rows[1]}, 2);
    scores = rg_node(&b, "Div", "scaled", (int[]){scores, rg_number(&b, "root", "d", sqrt(5))}, 2);
    scores = rg_node(&b, "Softmax", "shares", &scores, 1);
    int mixed = rg_node(&b, "MatMul", "mixed", (int[]){rows[2], scores}, 2);
    x.c = 5;
    x.index = rg_node(&b, "Reshape", "map", (int[]){mixed, whole_numbers(&b, 4, (int64_t[]){0, 5, 9, 8})}, 2);
    struct graph *parent = finish(&b, last(&b, x));
    static const char *const reasons[][2] = {
        {"conv1", "'turned' (Transpose)"}, {"conv3", "'scores' (MatMul)"}, {"conv5", "'mixed' (MatMul)"}};
    for (size_t i = 0; i < 3; i++) {
        struct err e = {0};
        char text[96];
        snprintf(text, sizeof text, "{\"op\":\"widen\",\"layer\":\"%s\",\"to\":8}", reasons[i][0]);
        struct graph *child = grown(parent, text, NULL, NULL, &e);
        ok(!child && strstr(e.text, reasons[i][1]), "%s: %s", text, e.text);
        graph_free(child);
    }
    graph_free(parent);
}

/* ---- after widening ---- */

/* A few steps of plain descent on the loss of morph_data.h. */
static bool descend(struct graph *g, int steps) {
    struct crew *crew = NULL;
    struct net *net = NULL;
    struct err e = {0};
    struct net_options options = {.batch = MD_SAMPLES, .training = true};
    const struct net_parameter *list;
    size_t n_in, n_out;
    if (!ok(!crew_new(&crew, 1, &e) && !net_new(&net, g, crew, &options, &e), "%s", e.text)) return false;
    struct shape in = net_input_shape(net, 0), out = net_output_shape(net, 0);
    shape_count(&n_in, &in, NULL);
    shape_count(&n_out, &out, NULL);
    int n = net_parameter_list(net, &list);
    for (int step = 0; step < steps; step++) {
        md_fill(net_input(net, 0), n_in, 77 + (uint64_t)step, 1);
        net_forward(net, MD_SAMPLES, random_seed(1), NULL, NULL);
        md_fill(net_output_gradient(net, 0), n_out, 78, 1);
        net_backward(net);
        for (int i = 0; i < n; i++)
            for (size_t k = list[i].start; list[i].trainable && k < list[i].start + list[i].count; k++)
                net_parameters(net)[k] -= (real)1e-3 * net_gradients(net)[k];
        net_parameters_changed(net);
    }
    int status = net_store(net, g, &e);
    net_free(net);
    crew_free(crew);
    return ok(!status, "%s", e.text);
}

/* Two rows of as many numbers, relative to the first. */
static double row_distance(const float *a, const float *b, size_t n) {
    double apart = 0, size = 0;
    for (size_t i = 0; i < n; i++) {
        apart += pow((double)a[i] - (double)b[i], 2);
        size += pow((double)a[i], 2);
    }
    return sqrt(apart / size);
}

/* Copies that learn the same for ever are one unit: the least distance of two of them grows with training. */
TEST(replicas_without_symmetry_breaking) {
    static const char *const modes[] = {"net2wider", "uneven"};
    for (int i = 0; i < 4; i++) {
        char text[96];
        struct graph *parent = usual(72, SAME, i >= 2, "Tanh");
        snprintf(text, sizeof text, "{\"op\":\"widen\",\"layer\":\"conv1\",\"to\":10,\"mode\":\"%s\"}", modes[i % 2]);
        struct graph *child = proved(parent, text);
        int64_t from[UNITS], n = child ? sources(from, parent, child, "conv1") : 0;
        need(n == 10 && descend(child, 10), "%s: no child", text);
        double least = 1;
        for (int64_t j = 0; j < n; j++)
            for (int64_t k = 0; k < j; k++)
                if (from[j] == from[k])
                    least = fmin(least, row_distance((float *)weights_of(child, "conv1")->data + j * 27,
                                                     (float *)weights_of(child, "conv1")->data + k * 27, 27));
        ok(least > 1e-4 && least < 1, "%s: copies are %.1e apart", text, least);
        graph_free(child);
        graph_free(parent);
    }
}

/* Noise is for the copies: what was there stays as it was, to the bit. */
TEST(noise_on_the_original_unit_too) {
    struct err e = {0};
    struct graph *parent = usual(73, SAME, true, "Relu");
    struct graph *child =
        grown(parent, "{\"op\":\"widen\",\"layer\":\"conv1\",\"to\":8,\"noise\":0.1}", NULL, NULL, &e);
    need(child != NULL, "%s", e.text);
    const struct array *old = weights_of(parent, "conv1"), *wide = weights_of(child, "conv1");
    ok(!memcmp(old->data, wide->data, old->count * sizeof(float)), "the old units have noise");
    for (size_t j = 5; j < 8; j++) {
        double nearest = 9;
        for (size_t k = 0; k < 5; k++)
            nearest = fmin(nearest, row_distance((float *)old->data + k * 27, (float *)wide->data + j * 27, 27));
        ok(nearest > 0.01 && nearest < 0.3, "unit %zu is %g from the nearest of the old ones", j, nearest);
    }
    graph_free(child);
    graph_free(parent);
}

/* ---- words ---- */

/* What makes channels that nothing follows is not told that it makes none. */
TEST(layers_that_widening_does_not_follow_are_named) {
    static const char *const words[] = {"channels of this ConvTranspose", "channels of this MatMul",
                                        "a depthwise Conv makes no channels", "a Relu makes no channels"};
    for (int which = 0; which < 4; which++) {
        struct rg_value x;
        struct rg b = start(71, &x);
        struct shape kernel = {.rank = 4, .dim = {3, 5, 2, 2}}, matrix = {.rank = 2, .dim = {8, 6}};
        int weights = rg_constant(&b, "own", "weight", RG_WEIGHTS, 1, which ? matrix : kernel);
        if (which == 2) x = rg_conv(&b, x, SAME, 3, 3, VALUE_NONE);
        if (which != 2)
            x.index = rg_node(&b,
                              which == 0   ? "ConvTranspose"
                              : which == 1 ? "MatMul"
                                           : "Relu",
                              "conv1", (int[]){x.index, weights}, which == 3 ? 1 : 2);
        refuses(finish(&b, rg_simple(&b, x, "Tanh", "tanh", 1)), WIDER, NULL, words[which]);
    }
}

TEST_MAIN
