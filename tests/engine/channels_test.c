/* What the groups of channels must not overlook: operators that look as if they left the channels alone, channel axes of no
 * or of unknown length, constants that something reads in a way of its own. */
#define TEST_SECONDS 120
#include "tests/test.h"

#include "tests/engine/morph_kit.h"

#define WIDER "{\"op\":\"widen\",\"layer\":\"conv1\",\"to\":8}" /* of five channels */
#define SAME window(3, 1, 1, 1)

/* The layer cannot grow, because of that node. */
static void is_held(struct graph *parent, const char *text, const char *node) {
    char word[80];
    snprintf(word, sizeof word, "node %s needs its ", node);
    refuses(parent, text, NULL, word);
}

/* ---- empty axes ---- */

/* Splits along the channels: `parts` of the given sizes. */
static struct rg_value split(int rest[], struct rg *b, struct rg_value x, int n, const int64_t *sizes) {
    int parts[2], in[] = {x.index, whole_numbers(b, n, sizes)};
    for (int k = 0; k < n && !b->status; k++) b->status = graph_add_value(&parts[k], b->g, NULL, "part", b->e);
    if (!b->status) b->status = graph_add_node(NULL, b->g, "Split", "split", in, 2, parts, n, b->e);
    rg_int(b, "axis", 1);
    for (int k = 1; k < n; k++) rest[k - 1] = b->status ? VALUE_NONE : parts[k];
    x.index = b->status ? VALUE_NONE : parts[0];
    return x;
}

/* The norm has no number for any of the channels that the part with all of them has. */
TEST(a_norm_of_the_empty_part_of_a_split) {
    struct rg_value x;
    struct rg b = start(80, &x);
    int empty;
    x = split(&empty, &b, conv(&b, x, SAME, false), 2, (int64_t[]){5, 0});
    int in[5] = {empty};
    static const char *const parts[] = {"", "scale", "shift", "mean", "variance"};
    for (int k = 1; k < 5; k++)
        in[k] = rg_constant(&b, "norm", parts[k], RG_VARIANCES, 0, (struct shape){.rank = 1, .dim = {0}});
    rg_node(&b, "BatchNormalization", "norm", in, 5);
    is_held(finish(&b, last(&b, x)), WIDER, "'split' (Split)");
}

TEST(a_split_into_one_part_of_a_size_that_is_given) {
    struct rg_value x;
    struct rg b = start(81, &x);
    x = split(NULL, &b, conv(&b, x, SAME, false), 1, (int64_t[]){5});
    is_held(finish(&b, last(&b, x)), WIDER, "'split' (Split)");
}

TEST(a_split_of_the_pixels_keeps_the_channels) {
    struct rg_value x;
    struct rg b = start(82, &x);
    int other;
    x = split(&other, &b, conv(&b, x, SAME, false), 2, (int64_t[]){4, 5});
    rg_int(&b, "axis", -2);
    x.index = rg_node(&b, "Concat", "whole", (int[]){x.index, other}, 2);
    rg_int(&b, "axis", 2);
    proves(finish(&b, last(&b, x)), WIDER);
}

/* It is named, and does not keep the others from growing. */
TEST(a_layer_without_channels_does_not_grow) {
    struct rg_value x, none;
    struct rg b = start(83, &x);
    none = rg_simple(&b, rg_conv(&b, x, SAME, 0, 1, VALUE_NONE), "Relu", "relu", 1);
    x = rg_simple(&b, conv(&b, none, SAME, false), "Tanh", "tanh", 1);
    struct graph *parent = finish(&b, last(&b, x));
    struct err e = {0};
    struct graph *child = grown(parent, "{\"op\":\"widen\",\"layer\":\"*\",\"to\":8}", NULL, NULL, &e);
    ok(child && weights_of(child, "conv3")->shape.dim[0] == 8, "%s", e.text);
    graph_free(child);
    is_held(parent, WIDER, "'conv1' (Conv)");
}

/* ---- the batch among the channels ---- */

/* A Transpose of dimensions 0 and 1. */
static struct rg_value turned(struct rg *b, struct rg_value x, int rank) {
    char name[32];
    rg_name(name, b, "turn");
    x.index = rg_node(b, "Transpose", name, &x.index, 1);
    rg_ints(b, "perm", (int64_t[]){1, 0, 2}, (size_t)rank);
    return x;
}

/* conv1 - pool - "wide" of six - relu - dense, of which the batch becomes dimension 1 and goes back. */
static struct graph *batch_turned(int rank) {
    static const int64_t flat[] = {0, 4}, deep[] = {0, 2, 2};
    struct rg_value x;
    struct rg b = start(84, &x);
    x = rg_simple(&b, conv(&b, x, SAME, false), "GlobalAveragePool", "pool", 1);
    x = rg_simple(&b, x, "Flatten", "flat", 1);
    int weights = rg_constant(&b, "wide", "weight", RG_WEIGHTS, 0.5, (struct shape){.rank = 2, .dim = {5, 6}});
    x.index = rg_node(&b, "MatMul", "wide", (int[]){x.index, weights}, 2);
    x.c = 6;
    x = rg_dense(&b, rg_simple(&b, x, "Relu", "relu", 1), 4, true);
    x.index = rg_node(&b, "Reshape", "deep", (int[]){x.index, whole_numbers(&b, rank, rank == 2 ? flat : deep)}, 2);
    x = rg_simple(&b, turned(&b, x, rank), "Tanh", "tanh", 1);
    x = turned(&b, x, rank);
    x.index = rg_node(&b, "Reshape", "rows", (int[]){x.index, whole_numbers(&b, 2, flat)}, 2);
    return finish(&b, rg_dense(&b, x, 3, true));
}

TEST(a_batch_in_dimension_1_is_no_channel_axis) {
    for (int rank = 2; rank <= 3; rank++) {
        struct err e = {0};
        struct graph *parent = batch_turned(rank);
        struct graph *wide = proved(parent, "{\"op\":\"widen\",\"layer\":\"wide\",\"factor\":2}");
        struct graph *back = proved(wide, "{\"op\":\"fold\",\"layer\":\"*\",\"mode\":\"identical\"}");
        const struct array *w = weights_of(back, "wide");
        ok(w && w->shape.dim[1] == 6, "the copies are still there");
        graph_free(back);
        back = grown(wide, "{\"op\":\"narrow\",\"layer\":\"wide\",\"factor\":0.5}", NULL, NULL, &e);
        if (ok(back != NULL, "%s", e.text)) prove(parent, back, false, "narrow");
        graph_free(back);
        graph_free(wide);
        graph_free(parent);
    }
}

/* ---- borders and cuts ---- */

/* Cut before the first channel and zeros behind the last: as many, but moved. */
TEST(a_pad_that_moves_the_channels) {
    for (int opset = 10; opset <= 18; opset += 4) {
        static const int64_t moves[] = {0, -1, 0, 0, 0, 1, 0, 0}, some[] = {0, -1, 0, 1};
        struct rg_value x;
        struct rg b = start(85, &x);
        b.g->opset = opset;
        x = conv(&b, x, SAME, false);
        int axes = whole_numbers(&b, 2, (int64_t[]){3, -3});
        int in[] = {x.index, whole_numbers(&b, opset < 18 ? 8 : 4, opset < 18 ? moves : some), VALUE_NONE, axes};
        x.index = rg_node(&b, "Pad", "pad", in, opset < 11 ? 1 : opset < 18 ? 2 : 4);
        if (opset < 11) rg_ints(&b, "pads", moves, 8);
        is_held(finish(&b, last(&b, x)), WIDER, "'pad' (Pad)");
    }
}

TEST(pads_around_the_pixels_keep_the_channels) {
    for (int some = 0; some < 2; some++) {
        struct rg_value x;
        struct rg b = start(86, &x);
        x = conv(&b, x, SAME, false);
        int pads = some ? whole_numbers(&b, 4, (int64_t[]){1, 0, 2, 0})
                        : whole_numbers(&b, 8, (int64_t[]){0, 0, 1, -1, 0, 0, 1, 2});
        int in[] = {x.index, pads, VALUE_NONE, whole_numbers(&b, 2, (int64_t[]){-1, 1})};
        if (some) b.g->opset = 18;
        x.index = rg_node(&b, "Pad", "pad", in, some ? 4 : 2);
        proves(finish(&b, last(&b, x)), WIDER);
    }
}

/* All five channels are not all of eight. */
TEST(a_slice_of_all_channels) {
    for (int form = 0; form < 4; form++) { /* axis 1, axis -3, no axes, attributes */
        static const int64_t zeros[] = {0, 0}, ends[] = {INT64_MAX, 5}, axes[] = {2, 1}, negative[] = {2, -3};
        struct rg_value x;
        struct rg b = start(87, &x);
        if (form == 3) b.g->opset = 9;
        x = conv(&b, x, SAME, false);
        int in[] = {x.index, whole_numbers(&b, 2, zeros), whole_numbers(&b, 2, ends),
                    whole_numbers(&b, 2, form ? negative : axes)};
        x.index = rg_node(&b, "Slice", "cut", in, form == 3 ? 1 : form == 2 ? 3 : 4);
        if (form == 3) rg_ints(&b, "starts", zeros, 2);
        if (form == 3) rg_ints(&b, "ends", ends, 2);
        if (form == 3) rg_ints(&b, "axes", axes, 2);
        is_held(finish(&b, last(&b, x)), WIDER, "'cut' (Slice)");
    }
}

/* Forwards and backwards. */
TEST(slices_of_the_pixels_keep_the_channels) {
    for (int step = -1; step <= 1; step += 2) {
        struct rg_value x;
        struct rg b = start(88, &x);
        x = conv(&b, x, SAME, false);
        int in[] = {x.index, whole_numbers(&b, 1, (int64_t[]){step < 0 ? 6 : 1}),
                    whole_numbers(&b, 1, (int64_t[]){step < 0 ? 0 : 7}), whole_numbers(&b, 1, (int64_t[]){-1}),
                    whole_numbers(&b, 1, (int64_t[]){step})};
        x.index = rg_node(&b, "Slice", "cut", in, 5);
        proves(finish(&b, last(&b, x)), WIDER);
    }
}

/* ---- constants that are read in two ways ---- */

/* conv1 - pool - "first" to six - relu - "shared", whose weights `op` reads too. */
static struct graph *shared(const char *op) {
    struct rg_value x, y;
    struct rg b = start(89, &x);
    struct shape matrix = {.rank = 2, .dim = {5, 6}}, square = {.rank = 2, .dim = {6, 6}};
    x = rg_simple(&b, conv(&b, x, SAME, false), "GlobalAveragePool", "pool", 1);
    x = rg_simple(&b, x, "Flatten", "flat", 1);
    int weights = rg_constant(&b, "first", "weight", RG_WEIGHTS, 0.5, matrix);
    x.index = rg_node(&b, "MatMul", "first", (int[]){x.index, weights}, 2);
    x.c = 6;
    x = rg_simple(&b, x, "Tanh", "tanh", 1);
    int in[] = {rg_constant(&b, "shared", "weight", RG_WEIGHTS, 0.5, square), whole_numbers(&b, 1, (int64_t[]){0})};
    y = (struct rg_value){.index = rg_node(&b, op, "reader", in, op[0] == 'R' ? 2 : 1)};
    x.index = rg_node(&b, "MatMul", "shared", (int[]){x.index, in[0]}, 2);
    x.index = rg_node(&b, op[0] == 'R' ? "Add" : "MatMul", "both", (int[]){x.index, y.index}, 2);
    return finish(&b, x);
}

TEST(weights_that_something_else_reads) {
    static const char *const ops[] = {"Transpose", "ReduceSum"};
    for (size_t i = 0; i < 2; i++) {
        struct graph *parent = shared(ops[i]);
        struct graph *child = proved(parent, "{\"op\":\"widen\",\"layer\":\"*\",\"factor\":2}");
        const struct array *w = weights_of(child, "first");
        ok(w && w->shape.dim[0] == 10 && w->shape.dim[1] == 6, "what can grow does not, or what cannot does");
        graph_free(child);
        is_held(parent, "{\"op\":\"widen\",\"layer\":\"first\",\"factor\":2,\"mode\":\"random-fanin\"}",
                i ? "'reader' (ReduceSum)" : "'reader' (Transpose)");
    }
}

/* Eight channels, and eight pixels in a row. */
TEST(a_bias_that_is_added_to_the_pixels_too) {
    struct rg_value x;
    struct rg b = start(90, &x);
    b.o.without = RG_NO_BIAS;
    x = rg_conv(&b, rg_conv(&b, x, SAME, 8, 1, VALUE_NONE), SAME, 8, 1, VALUE_NONE);
    int bias = b.status ? VALUE_NONE : b.g->nodes[b.g->n_nodes - 1].inputs[2];
    x.index = rg_node(&b, "Add", "columns", (int[]){x.index, bias}, 2);
    is_held(finish(&b, last(&b, x)), "{\"op\":\"widen\",\"layer\":\"conv2\",\"to\":16}", "'columns' (Add)");
}

/* Along one dimension of the weights it is claimed twice, along the other once. */
TEST(weights_that_are_their_own_bias) {
    struct rg_value x;
    struct rg b = start(91, &x);
    x = rg_simple(&b, rg_conv(&b, x, SAME, 1, 1, VALUE_NONE), "GlobalAveragePool", "pool", 1);
    x = rg_simple(&b, x, "Flatten", "flat", 1);
    int row = rg_constant(&b, "row", "weight", RG_WEIGHTS, 1, (struct shape){.rank = 2, .dim = {1, 6}});
    x.index = rg_node(&b, "Gemm", "row", (int[]){x.index, row, row}, 3);
    x.c = 6;
    is_held(finish(&b, rg_dense(&b, x, 3, true)), "{\"op\":\"widen\",\"layer\":\"conv1\",\"to\":2}", "'row' (Gemm)");
}

TEST(weights_that_are_given_out) {
    struct rg_value x;
    struct rg b = start(92, &x);
    x = conv(&b, x, SAME, false);
    if (!b.status) b.status = graph_add_output(b.g, b.g->nodes[0].inputs[1], b.e);
    refuses(finish(&b, last(&b, x)), WIDER, NULL, "the network's output needs its 5 channels");
}

/* One scale goes for any number of channels, a scale for each does not. */
TEST(scales_of_quantization) {
    for (int64_t n = 1; n <= 5; n += 4)
        for (int square = 0; square < 2; square++) {
            struct rg_value x;
            struct err e = {0};
            struct rg b = start(93, &x);
            x = conv(&b, x, SAME, false);
            if (square) x = rg_simple(&b, rg_simple(&b, x, "GlobalAveragePool", "pool", 1), "Flatten", "flat", 1);
            int scale = rg_constant(&b, "q", "scale", RG_VARIANCES, 0, (struct shape){.rank = 1, .dim = {n}});
            x.index = rg_node(&b, "QuantizeLinear", "rounds", (int[]){x.index, scale}, 2);
            x.index = rg_node(&b, "DequantizeLinear", "back", (int[]){x.index, scale}, 2);
            struct graph *parent = finish(&b, square ? rg_dense(&b, x, 3, true) : last(&b, x)), *child;
            if (n > 1) {
                is_held(parent, WIDER, "'rounds' (QuantizeLinear)");
                continue;
            }
            child = grown(parent, WIDER, NULL, NULL, &e);
            ok(child != NULL, "%s", e.text);
            graph_free(child);
            graph_free(parent);
        }
}

TEST_MAIN
