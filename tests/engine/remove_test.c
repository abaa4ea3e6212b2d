/* Removing depth: what gives out what it takes goes, whatever it is called, and what does not says what is missing. */
#define TEST_SECONDS 60
#include "tests/engine/small_net.h"

#define REMOVE "{\"op\":\"remove\",\"layer\":\"*\"}"
#define ANNEAL "{\"op\":\"remove\",\"layer\":\"*\",\"mode\":\"anneal\"}"

static void fill(struct graph *g, int node, int input, double number) {
    struct array *a = g->values[g->nodes[node].inputs[input]].constant;
    for (size_t i = 0; i < a->count; i++) ((float *)a->data)[i] = (float)number;
}

/* The convolution's kernel has its one at that tap of the channel itself. */
static void make_identity(struct graph *g, int node, int64_t tap, double one) {
    struct array *a = g->values[g->nodes[node].inputs[1]].constant;
    int64_t in = a->shape.dim[1], taps = (int64_t)a->count / (a->shape.dim[0] * in);
    int64_t outs = a->shape.dim[0] / node_int(&g->nodes[node], "group", 1);
    fill(g, node, 1, 0);
    for (int64_t o = 0; o < a->shape.dim[0]; o++) ((float *)a->data)[(o * in + o % outs) * taps + tap] = (float)one;
}

TEST(identity_convolutions_go_and_nearly_identical_ones_stay) {
    static const struct {
        int64_t k, stride, pad, groups, tap;
        double one;
        bool goes;
    } cases[] = {{3, 1, 1, 1, 4, 1, true},  {1, 1, 0, 1, 0, 1, true},  {3, 1, 1, 4, 4, 1, true},
                 {3, 1, 1, 2, 4, 1, true},  {5, 1, 2, 1, 12, 1, true}, {3, 1, 1, 1, 5, 1, false},
                 {3, 1, 1, 1, 4, 2, false}, {1, 2, 0, 1, 0, 1, false}, {3, 1, 0, 1, 4, 1, false},
                 {2, 1, 0, 1, 0, 1, false}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct small s = small_new(4, 7, 6);
        int y = small_act(&s, small_conv(&s, s.x, 4, 4, 3, 1, 1, 1, true), "Relu");
        y = small_conv(&s, y, 4, 4, cases[i].k, cases[i].stride, cases[i].pad, cases[i].groups, false);
        make_identity(s.g, small_last(&s), cases[i].tap, cases[i].one);
        if (!small_finish(&s, small_act(&s, y, "Tanh"))) continue;
        if (cases[i].goes)
            small_expect(&s, REMOVE, "Conv", 1);
        else
            small_refuse(&s, "{\"op\":\"remove\",\"layer\":\"conv3\"}", i < 7 ? "not those of the identity" : "");
    }
}

TEST(the_identity_is_where_the_padding_puts_it) {
    for (int tap = 0; tap <= 4; tap += 4) {
        struct small s = small_new(4, 7, 6);
        int y = small_conv(&s, small_act(&s, s.x, "Relu"), 4, 4, 3, 1, 0, 1, false);
        small_ints(&s, "pads", (int64_t[]){0, 0, 2, 2}, 4);
        make_identity(s.g, small_last(&s), tap, 1);
        if (!small_finish(&s, small_act(&s, y, "Tanh"))) continue;
        if (tap)
            small_refuse(&s, REMOVE, "not those of the identity");
        else
            small_expect(&s, REMOVE, "Conv", 0);
    }
}

TEST(a_bias_on_the_identity_is_no_identity) {
    struct small s = small_new(4, 7, 6);
    int y = small_conv(&s, small_act(&s, s.x, "Relu"), 4, 4, 1, 1, 0, 1, true);
    make_identity(s.g, small_last(&s), 0, 1);
    if (small_finish(&s, small_act(&s, y, "Tanh"))) small_refuse(&s, REMOVE, "it has a bias");
}

TEST(products_norms_and_activations_that_do_nothing_go) {
    struct small s = small_new(4, 0, 0);
    int y = small_gemm(&s, small_act(&s, s.x, "Tanh"), 4, 4, false);
    struct array *w = s.g->values[s.g->nodes[1].inputs[1]].constant;
    for (int i = 0; i < 16; i++) ((float *)w->data)[i] = i % 5 == 0;
    y = small_norm(&s, y, 4);
    int norm = small_last(&s);
    for (int k = 1; k < 5; k++) fill(s.g, norm, k, k == 1 || k == 4);
    graph_set_real(s.g, norm, "epsilon", 0, &s.e);
    y = small_node(&s, "PRelu", (int[]){y, small_constant(&s, (struct shape){1, {4}}, 1, 0)}, 2);
    need(small_finish(&s, y), "no graph");
    struct graph *h;
    if (ok(small_apply(&h, s.g, REMOVE, NULL, NULL, &s.e) == 0, "%s", s.e.text)) {
        ok(h->n_nodes == 1 && small_apart(s.g, h) == 0, "%d nodes, off by %g", h->n_nodes, small_apart(s.g, h));
        ok(!strcmp(h->values[h->outputs[0]].name, s.g->values[y].name), "the output is called otherwise");
    }
    graph_free(h);
    graph_free(s.g);
}

TEST(residual_blocks_whose_branch_is_zero_go_as_a_whole) {
    for (int how = 0; how < 4; how++) {
        struct small s = small_new(3, 7, 6);
        int x = small_act(&s, small_conv(&s, s.x, 3, 4, 3, 1, 1, 1, true), "Tanh");
        int y = small_act(&s, small_conv(&s, x, 4, 5, 3, 1, 1, 1, true), "Relu");
        y = small_conv(&s, y, 5, 4, 3, 1, 1, 1, false);
        if (how == 0 || how == 3) fill(s.g, small_last(&s), 1, 0);
        y = small_norm(&s, y, 4);
        /* 3: constant, but not zero */
        if (how != 3) fill(s.g, small_last(&s), 2, 0); /* no shift */
        if (how == 0) fill(s.g, small_last(&s), 3, 0); /* nor mean */
        if (how == 1) fill(s.g, small_last(&s), 1, 0); /* no scale */
        y = small_add(&s, how == 1 ? x : y, how == 1 ? y : x);
        if (!small_finish(&s, small_act(&s, y, "Relu"))) continue;
        if (how < 2)
            small_expect(&s, REMOVE, "Conv", 1);
        else
            small_refuse(&s, "{\"op\":\"remove\",\"layer\":\"add*\"}", "is zero whatever the input");
    }
}

TEST(inputs_and_outputs_of_the_network_stay) {
    struct small s = small_new(4, 7, 6);
    if (small_finish(&s, small_act(&s, s.x, "Identity"))) small_refuse(&s, REMOVE, "would be its input");
    s = small_new(4, 7, 6);
    int x = small_act(&s, s.x, "Tanh"), y = small_act(&s, x, "Identity");
    graph_add_output(s.g, x, &s.e);
    if (small_finish(&s, y)) small_refuse(&s, REMOVE, "another output");
    s = small_new(4, 7, 6);
    x = small_act(&s, s.x, "Tanh");
    y = small_act(&s, x, "Identity");
    x = small_act(&s, x, "Relu"); /* a second reader of what becomes the output */
    s.status = graph_add_output(s.g, x, &s.e);
    if (small_finish(&s, y)) small_expect(&s, REMOVE, "Identity", 0);
}

TEST(annealing_asks_for_training_until_the_slope_is_one) {
    static const char *const ops[] = {"Relu", "LeakyRelu"};
    for (int k = 0; k < 3; k++) {
        struct small s = small_new(4, 9, 7);
        int y = small_conv(&s, s.x, 4, 5, 3, 1, 2, 1, true);
        int slope = small_constant(&s, (struct shape){3, {5, 1, 1}}, 0.75, 0);
        y = k < 2 ? small_act(&s, y, ops[k]) : small_node(&s, "PRelu", (int[]){y, slope}, 2);
        if (small_finish(&s, small_conv(&s, y, 5, 3, 3, 1, 0, 1, true)))
            small_refuse(&s, ANNEAL,
                         k == 0   ? "the step activation"
                         : k == 1 ? "0.01 to 0.01: train it"
                                  : "0.75 to 0.75");
    }
}

TEST(an_annealed_activation_goes_and_the_layers_around_it_merge) {
    for (int fits = 0; fits < 2; fits++) {
        struct small s = small_new(4, 9, 7);
        struct text report;
        struct graph *h;
        int y = small_conv(&s, s.x, 4, 5, 3, 1, fits ? 2 : 1, 1, true);
        y = small_node(&s, "PRelu", (int[]){y, small_constant(&s, (struct shape){3, {5, 1, 1}}, 1, 0)}, 2);
        if (!small_finish(&s, small_conv(&s, y, 5, 3, 3, 1, fits ? 0 : 1, 1, true))) continue;
        text_init(&report, 1 << 16);
        if (ok(small_apply(&h, s.g, ANNEAL, NULL, &report, &s.e) == 0, "%s", s.e.text)) {
            double off = small_apart(s.g, h);
            ok(off <= SMALL_TOLERANCE, "off by %g", off);
            ok(small_count(h, "PRelu") == 0 && small_count(h, "Conv") == (fits ? 1 : 2), "%s", report.data);
            ok(strstr(report.data, fits ? "\"merged\":\"conv3\"" : "border would be wrong") != NULL, "%s", report.data);
        }
        text_free(&report);
        graph_free(h);
        graph_free(s.g);
    }
}

TEST(starving) {
    struct small s = small_new(2, 4, 3);
    int x = small_act(&s, small_conv(&s, s.x, 2, 2, 3, 1, 1, 1, true), "Identity");
    int y = small_norm(&s, small_conv(&s, x, 2, 2, 3, 1, 2, 1, true), 2);
    y = small_node(&s, "PRelu", (int[]){y, small_constant(&s, (struct shape){3, {2, 1, 1}}, 1, 0)}, 2);
    y = small_conv(&s, y, 2, 2, 3, 1, 0, 1, false);
    fill(s.g, small_last(&s), 1, 0);
    need(small_finish(&s, small_act(&s, small_add(&s, x, y), "Relu")), "no graph");
    small_starve("remove", s.g, REMOVE);
    small_starve("anneal", s.g, ANNEAL);
    graph_free(s.g);
}

TEST_MAIN
