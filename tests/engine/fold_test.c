/* Folding: each way on the layouts where it is exact, and refused, by name and reason, where it is not. What would be
 * wrong only at the border, only in one channel or only for negative inputs is compared over whole maps. */
#define TEST_SECONDS 120
#include "tests/engine/small_net.h"

#include "engine/surgery/channels.h"

#define FOLD "{\"op\":\"fold\",\"layer\":\"*\"}"
#define NORM "{\"op\":\"fold\",\"layer\":\"*\",\"mode\":\"norm\"}"
#define CHAIN "{\"op\":\"fold\",\"layer\":\"*\",\"mode\":\"chain\"}"
#define BRANCHES "{\"op\":\"fold\",\"layer\":\"*\",\"mode\":\"branches\"}"
#define IDENTICAL "{\"op\":\"fold\",\"layer\":\"*\",\"mode\":\"identical\"}"
#define NORM_OP "BatchNormalization"

/* ---- norm ---- */

TEST(conv_bias_is_scaled_when_a_norm_is_folded_and_epsilon_counts) {
    for (int bias = 0; bias < 2; bias++)
        for (int64_t groups = 1; groups <= 4; groups *= 2) {
            struct small s = small_new(4, 7, 6);
            int y = small_norm(&s, small_conv(&s, s.x, 4, 8, 3, 1, 1, groups, bias), 8);
            if (small_finish(&s, small_act(&s, y, "Relu"))) small_expect(&s, NORM, NORM_OP, 0);
        }
}

TEST(a_model_without_bias_has_one_after_folding) {
    struct small s = small_new(5, 0, 0);
    int w = small_constant(&s, (struct shape){2, {5, 3}}, 0, 1);
    int y = small_node(&s, "MatMul", (int[]){s.x, w}, 2);
    need(small_finish(&s, small_norm(&s, y, 3)), "no graph");
    small_expect(&s, NORM, "Gemm", 1);
}

TEST(norm_behind_a_transposed_convolution) {
    for (int64_t groups = 1; groups <= 2; groups++) {
        struct small s = small_new(4, 5, 4);
        int w = small_constant(&s, (struct shape){4, {4, 6 / groups, 3, 3}}, 0, 1);
        int y = small_node(&s, "ConvTranspose", (int[]){s.x, w}, 2);
        small_window(&s, 3, 3, 2, 1, 1);
        small_int(&s, "group", groups);
        if (small_finish(&s, small_norm(&s, y, 6))) small_expect(&s, NORM, NORM_OP, 0);
    }
}

TEST(norm_before_a_transposed_convolution_stays) {
    struct small s = small_new(4, 5, 4);
    int y = small_norm(&s, s.x, 4), w = small_constant(&s, (struct shape){4, {4, 3, 3, 3}}, 0, 1);
    y = small_node(&s, "ConvTranspose", (int[]){y, w}, 2);
    small_window(&s, 3, 3, 2, 1, 1);
    if (small_finish(&s, y)) small_refuse(&s, NORM, "fewer taps");
}

TEST(norm_goes_forward_into_dense_and_unpadded_layers) {
    for (int64_t groups = 1; groups <= 2; groups++) {
        struct small s = small_new(4, 7, 6);
        int y = small_conv(&s, small_norm(&s, s.x, 4), 4, 6, 3, 2, 0, groups, groups == 1);
        if (small_finish(&s, y)) small_expect(&s, NORM, NORM_OP, 0);
    }
    struct small s = small_new(6, 0, 0);
    int y = small_gemm(&s, small_norm(&s, s.x, 6), 6, 3, false);
    if (small_finish(&s, y)) small_expect(&s, NORM, NORM_OP, 0);
}

TEST(folding_a_norm_through_a_padded_conv_leaves_the_shift_in_front) {
    for (int64_t groups = 1; groups <= 2; groups++) {
        struct small s = small_new(4, 7, 6);
        int y = small_conv(&s, small_norm(&s, s.x, 4), 4, 6, 3, 1, 1, groups, true);
        if (small_finish(&s, y)) small_expect(&s, NORM, "Add", 1);
    }
}

TEST(automatic_padding_is_padding) {
    struct small s = small_new(4, 7, 6);
    int y = small_conv(&s, small_norm(&s, s.x, 4), 4, 6, 3, 2, 0, 1, true);
    graph_drop_attribute(s.g, small_last(&s), "pads");
    graph_set_string(s.g, small_last(&s), "auto_pad", "SAME_UPPER", &s.e);
    if (small_finish(&s, y)) small_expect(&s, NORM, "Add", 1);
}

TEST(a_scale_of_zero_before_padding_is_refused) {
    struct small s = small_new(4, 7, 6);
    int y = small_norm(&s, s.x, 4);
    ((float *)s.g->values[s.g->nodes[small_last(&s)].inputs[1]].constant->data)[2] = 0;
    if (small_finish(&s, small_conv(&s, y, 4, 6, 3, 1, 1, 1, true))) small_refuse(&s, NORM, "channel 2 is constant");
}

TEST(a_shift_alone_before_padding_stays) {
    struct small s = small_new(4, 7, 6);
    int y = small_add(&s, s.x, small_constant(&s, (struct shape){3, {4, 1, 1}}, 1, 1));
    if (small_finish(&s, small_conv(&s, y, 4, 6, 3, 1, 1, 1, true))) small_refuse(&s, NORM, "border");
}

TEST(scales_and_shifts_of_channels_fold_like_norms) {
    static const char *const ops[] = {"Add", "Sub", "Mul", "Div"};
    for (int k = 0; k < 8; k++) {
        struct small s = small_new(4, 7, 6);
        int y = small_conv(&s, s.x, 4, 5, 3, 1, 1, 1, k % 2);
        int c = small_constant(&s, (struct shape){4, {1, k < 4 ? 5 : 1, 1, 1}}, 1, 0.3);
        bool turned = k == 1;
        y = small_node(&s, ops[k % 4], (int[]){turned ? c : y, turned ? y : c}, 2);
        if (small_finish(&s, small_act(&s, y, "Tanh"))) small_expect(&s, NORM, ops[k % 4], 0);
    }
}

TEST(constants_along_the_pixels_are_not_channels) {
    struct small s = small_new(4, 6, 4); /* as wide as it has channels */
    int y = small_conv(&s, s.x, 4, 4, 3, 1, 1, 1, true);
    y = small_add(&s, y, small_constant(&s, (struct shape){1, {4}}, 1, 1));
    if (small_finish(&s, y)) small_refuse(&s, NORM, "one number per channel");
}

TEST(several_consumers_see_what_they_saw) {
    for (int who = 0; who < 2; who++) {
        struct small s = small_new(4, 7, 6);
        int y = small_conv(&s, s.x, 4, 4, 3, 1, 1, 1, true), z = small_norm(&s, y, 4);
        z = who ? small_add(&s, y, z) : z;
        if (!who) graph_add_output(s.g, y, &s.e); /* the network gives it out */
        if (small_finish(&s, small_act(&s, z, "Relu")))
            small_refuse(&s, NORM, "'conv1' before it makes is read elsewhere too");
    }
}

TEST(shared_weights_stay) {
    struct small s = small_new(4, 7, 6);
    int y = small_conv(&s, s.x, 4, 4, 3, 1, 1, 1, false), w = s.g->nodes[small_last(&s)].inputs[1];
    y = small_act(&s, small_norm(&s, y, 4), "Relu");
    y = small_node(&s, "Conv", (int[]){y, w}, 2);
    small_window(&s, 3, 3, 1, 1, 1);
    if (small_finish(&s, small_norm(&s, y, 4))) small_refuse(&s, NORM, "shared weights");
}

TEST(the_output_keeps_its_name_and_the_optimizer_forgets) {
    struct small s = small_new(4, 7, 6);
    int y = small_norm(&s, small_conv(&s, s.x, 4, 8, 3, 1, 1, 1, true), 8);
    need(small_finish(&s, y), "no graph");
    int w = s.g->nodes[0].inputs[1];
    struct graph *h;
    need(array_clone(&s.g->values[w].memory[0], s.g->values[w].constant, NULL) == 0, "memory");
    need(small_apply(&h, s.g, NORM, NULL, NULL, &s.e) == 0, "%s", s.e.text);
    ok(strcmp(h->values[h->outputs[0]].name, s.g->values[y].name) == 0, "output '%s'", h->values[h->outputs[0]].name);
    ok(h->values[h->nodes[0].inputs[1]].memory[0] == NULL, "velocity of weights that are no more");
    ok(h->values[h->nodes[0].inputs[1]].type == DT_FLOAT64, "computed constants are float64");
    graph_free(h);
    graph_free(s.g);
}

/* ---- chain ---- */

struct chained {
    int64_t k1, p1, s1, d1, k2, p2, s2, d2;
    bool bias1, exact;
};

TEST(chains_merge_where_the_border_allows_it) {
    static const struct chained layouts[] = {
        {3, 1, 2, 1, 3, 0, 1, 1, true, true},  {3, 1, 2, 1, 2, 0, 2, 1, true, true},
        {3, 0, 1, 1, 3, 0, 2, 1, true, true},  {1, 0, 2, 1, 3, 0, 1, 1, true, true},
        {3, 2, 2, 1, 3, 0, 2, 1, true, true},  {3, 0, 1, 2, 2, 0, 1, 2, true, true},
        {3, 0, 1, 2, 2, 0, 1, 1, true, true},  {1, 0, 1, 1, 3, 1, 1, 1, false, true},
        {1, 0, 1, 1, 3, 1, 1, 1, true, false}, {3, 1, 1, 1, 3, 1, 1, 1, false, false},
        {3, 2, 1, 1, 3, 0, 1, 1, true, true},  {3, 1, 1, 1, 1, 0, 1, 1, true, true},
        {3, 2, 1, 1, 3, 1, 1, 1, false, true}, /* all that padding can see */
    };
    for (size_t i = 0; i < sizeof layouts / sizeof *layouts; i++)
        for (int64_t groups = 1; groups <= 2; groups++) {
            const struct chained *l = &layouts[i];
            struct small s = small_new(4, 11, 9);
            int y = small_conv_full(&s, s.x, 4, 6, l->k1, l->k1, l->s1, l->d1, l->p1, groups, l->bias1);
            y = small_conv_full(&s, y, 6, 4, l->k2, l->k2, l->s2, l->d2, l->p2, groups, i % 2);
            if (!small_finish(&s, y)) continue;
            if (l->exact)
                small_expect(&s, CHAIN, "Conv", 1);
            else
                small_refuse(&s, CHAIN, "border");
        }
}

TEST(depthwise_and_pointwise_merge_on_demand_only) {
    for (int thrifty = 0; thrifty < 2; thrifty++) {
        struct small s = small_new(6, 9, 7);
        int y = small_conv(&s, s.x, 6, 6, 3, 1, 1, 6, true);
        if (!small_finish(&s, small_conv(&s, y, 6, 5, 1, 1, 0, 1, true))) continue;
        if (thrifty)
            small_refuse(&s, FOLD, "instead of");
        else
            small_expect(&s, CHAIN, "Conv", 1);
    }
}

/* In one part, the first would have 40,000 times its weights. */
TEST(chains_that_would_take_too_much_room_stay) {
    struct small s = small_new(40000, 1, 1);
    int y = small_conv(&s, s.x, 40000, 40000, 1, 1, 0, 40000, false);
    if (small_finish(&s, small_conv(&s, y, 40000, 2, 1, 1, 0, 1, true)))
        small_refuse(&s, "{\"op\":\"fold\",\"layer\":\"*\",\"mode\":\"chain\"}", "need 1600000000 weights");
}

TEST(dense_layers_in_a_row) {
    struct small s = small_new(6, 0, 0);
    int y = small_gemm(&s, small_gemm(&s, small_gemm(&s, s.x, 6, 9, true), 9, 5, false), 5, 4, true);
    if (small_finish(&s, y)) small_expect(&s, FOLD, "Gemm", 1);
    s = small_new(6, 0, 0);
    int w = small_constant(&s, (struct shape){2, {6, 7}}, 0, 1);
    y = small_node(&s, "MatMul", (int[]){s.x, w}, 2);
    y = small_add(&s, y, small_constant(&s, (struct shape){1, {7}}, 0, 1));
    if (small_finish(&s, small_gemm(&s, y, 7, 3, true))) small_expect(&s, FOLD, "Gemm", 1);
}

TEST(what_does_nothing_in_between_counts_as_nothing) {
    struct small s = small_new(4, 9, 7);
    int y = small_conv(&s, s.x, 4, 6, 3, 1, 2, 1, true);
    y = small_node(&s, "PRelu", (int[]){y, small_constant(&s, (struct shape){3, {6, 1, 1}}, 1, 0)}, 2);
    y = small_act(&s, y, "Identity");
    if (small_finish(&s, small_conv(&s, y, 6, 3, 3, 1, 0, 1, true))) small_expect(&s, CHAIN, "PRelu", 0);
    s = small_new(4, 9, 7);
    y = small_conv(&s, s.x, 4, 6, 3, 1, 2, 1, true);
    y = small_node(&s, "PRelu", (int[]){y, small_constant(&s, (struct shape){3, {6, 1, 1}}, 0.99, 0)}, 2);
    if (small_finish(&s, small_conv(&s, y, 6, 3, 3, 1, 0, 1, true))) small_refuse(&s, CHAIN, "is no linear layer");
}

TEST(a_layer_that_is_read_elsewhere_is_no_link_of_a_chain) {
    struct small s = small_new(4, 9, 7);
    int x = small_conv(&s, s.x, 4, 4, 3, 1, 1, 1, true), y = small_conv(&s, x, 4, 4, 1, 1, 0, 1, true);
    if (small_finish(&s, small_concat(&s, x, y)))
        small_refuse(&s, CHAIN, "what 'conv1' before it makes is read elsewhere");
}

TEST(convolutions_of_one_axis) {
    struct small s = small_new(4, 0, 0);
    struct shape shape = {.rank = 3, .dim = {DIM_BATCH, 4, 9}};
    s.g->values[s.x].shape = shape;
    int y = small_norm(&s, s.x, 4);
    for (int k = 0; k < 2; k++) {
        int w = small_constant(&s, (struct shape){3, {4, 4, 3}}, 0, 1);
        y = small_node(&s, "Conv", (int[]){y, w}, 2);
        small_ints(&s, "kernel_shape", (int64_t[]){3}, 1);
        if (!k) small_ints(&s, "pads", (int64_t[]){1, 2}, 2);
        y = small_norm(&s, y, 4);
    }
    if (small_finish(&s, y)) small_expect(&s, FOLD, NORM_OP, 0);
}

TEST(nothing_goes_wherever_it_stands) {
    struct small s = small_new(4, 9, 7);
    int x = small_act(&s, s.x, "Identity"), y = small_act(&s, small_conv(&s, x, 4, 4, 3, 1, 1, 1, true), "Tanh");
    y = small_add(&s, small_act(&s, y, "Identity"), x);
    if (small_finish(&s, small_act(&s, small_act(&s, y, "Relu"), "Identity"))) small_expect(&s, FOLD, "Identity", 0);
}

/* ---- branches ---- */

/* RepVGG: 3x3 and 1x1, each with a norm, and the input with a norm. */
TEST(repvgg_blocks_become_one_convolution) {
    for (int64_t groups = 1; groups <= 4; groups *= 2) {
        struct small s = small_new(4, 9, 7);
        int a = small_norm(&s, small_conv(&s, s.x, 4, 4, 3, 1, 1, groups, false), 4);
        int b = small_norm(&s, small_conv(&s, s.x, 4, 4, 1, 1, 0, groups, true), 4), c = small_norm(&s, s.x, 4);
        int y = small_add(&s, small_add(&s, b, a), c);
        if (small_finish(&s, small_act(&s, y, "Relu"))) small_expect(&s, FOLD, "Conv", 1);
    }
}

TEST(branches_of_any_window_merge_when_their_taps_meet) {
    struct small s = small_new(4, 9, 7); /* even and asymmetric kernels, dilation of the larger one */
    int a = small_conv_full(&s, s.x, 4, 5, 3, 1, 2, 2, 0, 1, true);
    small_ints(&s, "pads", (int64_t[]){2, 0, 2, 0}, 4);
    int b = small_conv_full(&s, s.x, 4, 5, 1, 3, 2, 2, 0, 1, false);
    small_ints(&s, "pads", (int64_t[]){0, 2, 0, 2}, 4);
    if (small_finish(&s, small_add(&s, a, b))) small_expect(&s, BRANCHES, "Conv", 1);
    s = small_new(4, 9, 7);
    a = small_conv(&s, s.x, 4, 4, 2, 1, 0, 1, true);
    small_ints(&s, "pads", (int64_t[]){1, 0, 0, 1}, 4);
    if (small_finish(&s, small_add(&s, a, s.x))) small_expect(&s, BRANCHES, "Conv", 1);
    s = small_new(4, 9, 7);
    a = small_conv_full(&s, s.x, 4, 4, 3, 3, 1, 2, 2, 1, true);
    b = small_conv(&s, s.x, 4, 4, 3, 1, 1, 1, true);
    if (small_finish(&s, small_add(&s, a, b))) small_refuse(&s, BRANCHES, "dilations");
    s = small_new(5, 0, 0);
    if (small_finish(&s, small_add(&s, small_gemm(&s, s.x, 5, 5, true), s.x))) small_expect(&s, FOLD, "Add", 0);
}

TEST(an_average_pool_merges_only_when_it_counts_the_padding) {
    for (int counts = 0; counts < 2; counts++)
        for (int64_t pad = 0; pad < 2; pad++) {
            struct small s = small_new(4, 9, 7);
            int a = small_conv(&s, s.x, 4, 4, 3, 1, pad, 1, true), b = small_act(&s, s.x, "AveragePool");
            small_window(&s, 3, 3, 1, 1, pad);
            if (counts) small_int(&s, "count_include_pad", 1);
            if (!small_finish(&s, small_add(&s, a, b))) continue;
            if (counts || !pad)
                small_expect(&s, BRANCHES, "AveragePool", 0);
            else
                small_refuse(&s, BRANCHES, "count_include_pad");
        }
}

TEST(one_channel_out_is_no_depthwise_convolution) {
    struct small s = small_new(1, 9, 7);
    int a = small_conv(&s, s.x, 1, 1, 3, 1, 1, 1, true);
    if (small_finish(&s, small_add(&s, a, small_conv(&s, s.x, 1, 1, 1, 1, 0, 1, false))))
        small_expect(&s, FOLD, "Conv", 1);
    s = small_new(6, 9, 7);
    a = small_act(&s, small_conv(&s, s.x, 6, 1, 3, 1, 1, 1, true), "Relu");
    if (small_finish(&s, small_conv(&s, small_norm(&s, a, 1), 1, 4, 3, 1, 0, 1, true)))
        small_expect(&s, NORM, "Conv", 2);
}

TEST(branches_that_are_read_elsewhere_or_start_elsewhere_stay) {
    struct small s = small_new(4, 9, 7);
    int a = small_conv(&s, s.x, 4, 4, 3, 1, 1, 1, true), b = small_conv(&s, s.x, 4, 4, 1, 1, 0, 1, true);
    int y = small_add(&s, a, b);
    if (small_finish(&s, small_concat(&s, small_act(&s, y, "Relu"), small_concat(&s, a, b))))
        small_refuse(&s, BRANCHES, "read nowhere else");
    s = small_new(4, 9, 7);
    a = small_act(&s, s.x, "Relu");
    y = small_add(&s, small_conv(&s, s.x, 4, 4, 3, 1, 1, 1, true), small_conv(&s, a, 4, 4, 1, 1, 0, 1, true));
    if (small_finish(&s, y)) small_refuse(&s, BRANCHES, "from one value");
}

/* ---- units ---- */

static int64_t parameters(const struct graph *g) {
    struct graph_size size;
    struct err e = {0};
    return ok(graph_measure(&size, g, &e) == 0, "%s", e.text) ? size.parameters : -1;
}

/* A bit of everything: residual class, concat with itself, flatten of an oblong map. */
static struct small everything(void) {
    struct small s = small_new(3, 6, 5);
    int y = small_act(&s, small_conv(&s, s.x, 3, 4, 3, 1, 1, 1, true), "Tanh");
    int z = small_act(&s, small_conv(&s, y, 4, 6, 3, 1, 1, 1, true), "Relu");
    y = small_act(&s, small_add(&s, small_conv(&s, z, 6, 4, 3, 1, 1, 1, false), y), "Relu");
    y = small_conv(&s, small_concat(&s, y, y), 8, 4, 1, 1, 0, 1, true);
    y = small_conv(&s, small_act(&s, y, "Sigmoid"), 4, 4, 3, 1, 1, 4, true);
    y = small_act(&s, small_act(&s, y, "Relu"), "Flatten");
    y = small_act(&s, small_gemm(&s, y, 4 * 6 * 5, 7, true), "Tanh");
    small_finish(&s, small_gemm(&s, y, 7, 3, true));
    return s;
}

TEST(widening_is_taken_back_by_folding) {
    static const char *const widen[] = {"{\"op\":\"widen\",\"layer\":\"*\",\"factor\":2}",
                                        "{\"op\":\"widen\",\"layer\":\"*\",\"factor\":1.6,\"mode\":\"uneven\"}",
                                        "{\"op\":\"widen\",\"layer\":\"*\",\"factor\":1.5,\"mode\":\"random-fanin\"}"};
    for (int k = 0; k < 3; k++) {
        struct small s = everything();
        struct graph *wide, *back;
        need(small_apply(&wide, s.g, widen[k], NULL, NULL, &s.e) == 0, "%s", s.e.text);
        ok(parameters(wide) > parameters(s.g), "not wider");
        need(small_apply(&back, wide, IDENTICAL, NULL, NULL, &s.e) == 0, "%s", s.e.text);
        ok(parameters(back) == parameters(s.g), "%lld parameters, not %lld", (long long)parameters(back),
           (long long)parameters(s.g));
        double off = small_apart(s.g, back);
        ok(off <= SMALL_TOLERANCE, "%s: off by %g", widen[k], off);
        graph_free(wide);
        graph_free(back);
        graph_free(s.g);
    }
}

/* Unit 2 of the layer is `ratio` times unit 0. */
static void make_multiple(struct graph *g, int node, double ratio) {
    for (int k = 1; k < 3; k++) {
        struct array *a = g->values[g->nodes[node].inputs[k]].constant;
        size_t each = a->count / (size_t)a->shape.dim[0];
        for (size_t i = 0; i < each; i++) ((float *)a->data)[2 * each + i] = (float)ratio * ((float *)a->data)[i];
    }
}

TEST(multiples_merge_behind_relu_and_not_behind_tanh_or_when_negative) {
    static const struct {
        const char *act;
        double ratio;
        int64_t left;
    } cases[] = {{"Relu", 4, 4}, {"LeakyRelu", 0.25, 4}, {"Tanh", 4, 0}, {"Tanh", 1, 4}, {"Relu", -2, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct small s = small_new(3, 7, 6);
        int y = small_conv(&s, s.x, 3, 5, 3, 1, 1, 1, true);
        make_multiple(s.g, small_last(&s), cases[i].ratio);
        y = small_act(&s, small_act(&s, y, cases[i].act), "GlobalAveragePool");
        if (!small_finish(&s, small_gemm(&s, small_act(&s, y, "Flatten"), 5, 3, true))) continue;
        struct graph *h;
        int status = small_apply(&h, s.g, IDENTICAL, NULL, NULL, &s.e);
        ok((status == 0) == (cases[i].left > 0), "%s, %g: %s", cases[i].act, cases[i].ratio, s.e.text);
        if (!status) {
            ok(h->values[h->nodes[0].inputs[1]].shape.dim[0] == cases[i].left, "channels");
            double off = small_apart(s.g, h);
            ok(off <= SMALL_TOLERANCE, "off by %g", off);
        }
        graph_free(h);
        graph_free(s.g);
    }
}

/* Both makers of a residual class have to agree. */
TEST(only_part_of_a_residual_class_alike_is_not_alike) {
    for (int both = 0; both < 2; both++) {
        struct small s = small_new(3, 7, 6);
        int a = small_conv(&s, s.x, 3, 5, 3, 1, 1, 1, true);
        make_multiple(s.g, small_last(&s), 1);
        int b = small_conv(&s, s.x, 3, 5, 1, 1, 0, 1, true);
        if (both) make_multiple(s.g, small_last(&s), 1);
        int y = small_act(&s, small_add(&s, small_act(&s, a, "Tanh"), small_act(&s, b, "Tanh")), "Relu");
        if (!small_finish(&s, small_conv(&s, y, 5, 2, 3, 1, 1, 1, true))) continue;
        if (both) {
            struct graph *h;
            if (ok(small_apply(&h, s.g, IDENTICAL, NULL, NULL, &s.e) == 0, "%s", s.e.text))
                ok(h->values[h->nodes[0].inputs[1]].shape.dim[0] == 4, "channels");
            graph_free(h);
            small_expect(&s, IDENTICAL, "Conv", 3);
        } else {
            small_refuse(&s, IDENTICAL, "none repeats");
        }
    }
}

/* Unit 1 of the layer ignores its input. */
static void make_constant(struct graph *g, int node, double bias) {
    struct array *w = g->values[g->nodes[node].inputs[1]].constant, *b = g->values[g->nodes[node].inputs[2]].constant;
    size_t each = w->count / (size_t)w->shape.dim[0];
    memset((float *)w->data + each, 0, each * sizeof(float));
    ((float *)b->data)[1] = (float)bias;
}

TEST(constant_units_go_into_a_bias_but_not_through_padding) {
    static const struct {
        double bias;
        const char *act;
        int64_t pad;
        bool goes;
    } cases[] = {{0.7, "Relu", 0, true}, {0.7, "Relu", 1, false},  {-0.7, "Relu", 1, true},
                 {0, "Tanh", 1, true},   {0, "Sigmoid", 1, false}, {0.3, "Elu", 0, true}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct small s = small_new(3, 7, 6);
        int y = small_conv(&s, s.x, 3, 5, 3, 1, 1, 1, true);
        make_constant(s.g, small_last(&s), cases[i].bias);
        y = small_conv(&s, small_act(&s, small_norm(&s, y, 5), cases[i].act), 5, 2, 3, 1, cases[i].pad, 1, i % 2);
        /* the norm is trivial, so that the constant stays what it was */
        const struct node *norm = &s.g->nodes[1];
        for (int k = 1; k < 5; k++)
            for (int c = 0; c < 5; c++) ((float *)s.g->values[norm->inputs[k]].constant->data)[c] = k == 1 || k == 4;
        if (!small_finish(&s, y)) continue;
        if (cases[i].goes)
            small_expect(&s, IDENTICAL, "Conv", 2);
        else
            small_refuse(&s, IDENTICAL, "none repeats");
    }
}

/* Each of three groups in a row has a constant, a multiple and a channel that nobody reads, and all go at once. */
TEST(units_of_all_groups_go_together) {
    struct small s = small_new(3, 0, 0);
    struct graph *h;
    struct err e = {0};
    int y = s.x;
    for (int layer = 0; layer < 4; layer++) {
        y = small_gemm(&s, y, layer ? 6 : 3, layer < 3 ? 6 : 2, true);
        float *w = s.g->values[s.g->nodes[small_last(&s)].inputs[1]].constant->data;
        for (int o = 0; o < 6 && layer; o++)
            if (layer < 3 || o < 2) w[6 * o + 4] = 0;
        if (layer == 3) break;
        make_constant(s.g, small_last(&s), 0.7);
        make_multiple(s.g, small_last(&s), 4);
        y = small_act(&s, y, "Relu");
    }
    need(small_finish(&s, y), "no graph");
    need(small_apply(&h, s.g, IDENTICAL, NULL, NULL, &e) == 0, "%s", e.text);
    ok(small_apart(s.g, h) <= SMALL_TOLERANCE, "off by %g", small_apart(s.g, h));
    for (int i = 1; i <= 5; i += 2) {
        char name[16];
        snprintf(name, sizeof name, "gemm%d", i);
        ok(small_dim(h, name, 0) == 3, "%s makes %d", name, (int)small_dim(h, name, 0));
    }
    graph_free(h);
    graph_free(s.g);
}

/* What reads constants through padding is not constant itself, even beside a unit that is. */
TEST(constants_behind_padding_are_none) {
    struct small s = small_new(2, 7, 6);
    int y = small_conv(&s, s.x, 2, 3, 3, 1, 1, 1, true);
    struct array *w = s.g->values[s.g->nodes[0].inputs[1]].constant;
    memset(w->data, 0, w->count * sizeof(float));
    y = small_conv(&s, y, 3, 4, 3, 1, 1, 1, true);
    make_constant(s.g, small_last(&s), 0.4);
    y = small_act(&s, small_conv(&s, small_act(&s, y, "Tanh"), 4, 3, 3, 1, 0, 1, true), "Relu");
    if (small_finish(&s, y)) small_expect(&s, IDENTICAL, "Conv", 3);
}

/* A slope may belong to a column instead: then a negative constant differs from pixel to pixel. */
TEST(a_constant_behind_slopes_of_columns_is_none) {
    for (int columns = 0; columns < 2; columns++) {
        struct small s = small_new(3, 7, 6);
        int y = small_conv(&s, s.x, 3, 5, 3, 1, 1, 1, true);
        make_constant(s.g, small_last(&s), -0.7);
        struct shape shape = columns ? (struct shape){1, {6}} : (struct shape){3, {5, 1, 1}};
        y = small_node(&s, "PRelu", (int[]){y, small_constant(&s, shape, 0.5, 0.3)}, 2);
        if (!small_finish(&s, small_conv(&s, y, 5, 2, 3, 1, 0, 1, true))) continue;
        if (columns)
            small_refuse(&s, IDENTICAL, "none repeats");
        else
            small_expect(&s, IDENTICAL, "Conv", 2);
    }
}

TEST(units_of_the_output_and_of_grouped_convolutions_stay) {
    struct small s = small_new(3, 7, 6);
    int y = small_conv(&s, s.x, 3, 5, 3, 1, 1, 1, true);
    make_multiple(s.g, small_last(&s), 1);
    if (small_finish(&s, y)) small_refuse(&s, IDENTICAL, "\"reason\":\"the network's output needs them");
    s = small_new(3, 7, 6);
    y = small_conv(&s, s.x, 3, 6, 3, 1, 1, 1, true);
    make_multiple(s.g, small_last(&s), 1);
    if (small_finish(&s, small_conv(&s, y, 6, 4, 3, 1, 1, 2, true)))
        small_refuse(&s, IDENTICAL, "the same number in each of its parts");
}

/* ---- all ---- */

TEST(the_report_says_what_was_folded) {
    struct small s = small_new(4, 7, 6);
    struct text report;
    struct graph *h;
    int y = small_norm(&s, small_conv(&s, s.x, 4, 8, 3, 1, 1, 1, true), 8);
    need(small_finish(&s, y), "no graph");
    text_init(&report, 65536);
    need(small_apply(&h, s.g, FOLD, NULL, &report, &s.e) == 0, "%s", s.e.text);
    ok(strstr(report.data, "\"into\":\"conv1\"") && strstr(report.data, "statistics of inference") &&
           strstr(report.data, "\"parameters_after\":296"),
       "%s", report.data);
    text_free(&report);
    graph_free(h);
    graph_free(s.g);
}

TEST(starving) {
    struct small s = small_new(2, 4, 3);
    int a = small_norm(&s, small_conv(&s, s.x, 2, 2, 3, 1, 1, 1, false), 2);
    int y = small_act(&s, small_add(&s, small_norm(&s, s.x, 2), a), "Relu");
    y = small_conv(&s, y, 2, 3, 3, 1, 2, 1, true);
    make_multiple(s.g, small_last(&s), 1);
    y = small_act(&s, small_act(&s, y, "Identity"), "Relu");
    y = small_conv(&s, small_norm(&s, y, 3), 3, 2, 3, 1, 1, 1, false);
    need(small_finish(&s, small_conv(&s, y, 2, 2, 1, 1, 0, 1, true)), "no graph");
    small_starve("fold", s.g, FOLD);
    graph_free(s.g);
}

TEST_MAIN
