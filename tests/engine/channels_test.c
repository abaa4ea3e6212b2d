/* What the groups of channels must not overlook: operators that look as if they left the channels alone, channel axes of no
 * or of unknown length, constants that something reads in a way of its own. */
#define TEST_SECONDS 120
#include "tests/test.h"

#include "tests/engine/morph_kit.h"

#define WIDER "{\"op\":\"widen\",\"layer\":\"conv1\",\"to\":8}" /* of five channels */
#define SAME window(3, 1, 1, 1)

static int whole_numbers(struct rg *b, int64_t n, const int64_t *list) {
    struct array *a;
    int value = VALUE_NONE;
    if (!b->status) b->status = array_new(&a, DT_INT64, &(struct shape){.rank = 1, .dim = {n}}, b->e);
    if (b->status) return value;
    memcpy(a->data, list, (size_t)n * sizeof *list);
    b->status = graph_add_constant_take(&value, b->g, NULL, a, b->e);
    return value;
}

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

TEST_MAIN
