/* hostile_surgery_test.c - steps on networks of more nodes, and more ways through them, than anybody draws: what they take
 * grows with the network and no faster. As in hostile_test.c a time limit stands for "no faster": what grows with the
 * square of these sizes would take hours. */
#define TEST_SECONDS 60
#include "tests/test.h"

#include "tests/engine/small_net.h"

enum { LAYERS = 40000, MORE = 200000, FEW = 4000 /* steps make no more than 8192 nodes */ };

/* Which nodes the step can change, as whoever is shown a step before it runs asks. */
static void asks(struct graph *g, const char *text, int wanted, const char *words) {
    struct morph_step step;
    struct morphing m;
    struct err e = {0};
    int *nodes = NULL, n = 0;
    need(parse_step(&step, text), "%s", text);
    morphing_init(&m, g, 1, NULL);
    int status = morph_find(&nodes, &n, &m, &step, NULL, &e);
    ok(n == wanted && (!status || strstr(e.text, words)), "%s: %d nodes, not %d: %d %s", text, n, wanted, status,
       e.text);
    mem_free(nodes);
    morphing_fini(&m);
}

/* ---- slopes ---- */

/* Two ways from the top of each diamond to its bottom: 2^40 through all of them. */
TEST(a_relu_behind_more_ways_than_can_be_walked) {
    struct small s = small_new(3, 4, 4);
    int y = small_conv(&s, s.x, 3, 4, 1, 1, 0, 1, true);
    for (int i = 0; i < 40; i++) {
        int left = small_act(&s, y, "Identity"), right = small_act(&s, y, "Identity");
        y = small_node(&s, "Concat", (int[]){left, right}, 2);
        small_int(&s, "axis", 2);
        y = small_act(&s, y, "MaxPool");
        small_ints(&s, "kernel_shape", (int64_t[]){2, 1}, 2);
        small_ints(&s, "strides", (int64_t[]){2, 1}, 2);
    }
    need(small_finish(&s, small_act(&s, y, "Relu")), "no graph");
    asks(s.g, "{\"op\":\"activation\",\"layer\":\"conv1\"}", 0, "never learn");
}

TEST(a_relu_far_behind) {
    struct small s = small_new(3, 0, 0);
    int y = small_gemm(&s, s.x, 3, 4, true);
    while (s.g->n_nodes < MORE) y = small_act(&s, y, "Identity");
    need(small_finish(&s, small_act(&s, y, "Relu")), "no graph");
    asks(s.g, "{\"op\":\"activation\",\"layer\":\"gemm1\"}", 0, "never learn");
}

/* ---- channels ---- */

/* Layers of two channels; with `zero`, the first of each is constant. */
static struct graph *layers(int n, bool zero, const char *activation) {
    struct small s = small_new(2, 0, 0);
    int y = s.x;
    for (int i = 0; i < n && !s.status; i++) {
        int w = small_constant(&s, (struct shape){2, {2, 2}}, 0, 1);
        float *weights = s.g->values[w].constant->data;
        if (zero) weights[0] = weights[2] = 0;
        y = small_node(&s, "MatMul", (int[]){y, w}, 2);
        if (activation) y = small_act(&s, y, activation);
    }
    return small_finish(&s, small_gemm(&s, y, 2, 2, true)) ? s.g : NULL;
}

TEST(many_layers_are_asked_whether_they_fold) {
    asks(layers(LAYERS, false, "Tanh"), "{\"op\":\"fold\",\"layer\":\"*\"}", 0, "");
    asks(layers(LAYERS, true, "Tanh"), "{\"op\":\"fold\",\"layer\":\"*\"}", LAYERS, "");
}

TEST(many_layers_are_asked_whether_they_widen) {
    asks(layers(MORE, false, "Tanh"), "{\"op\":\"widen\",\"layer\":\"*\",\"factor\":2}", MORE, "");
}

TEST(many_layers_are_asked_whether_they_narrow) {
    asks(layers(MORE, false, "Tanh"), "{\"op\":\"narrow\",\"layer\":\"*\",\"factor\":0.5}", MORE, "");
}

static void applies(struct graph *g, const char *text) {
    struct graph *child = NULL;
    struct err e = {0};
    ok(small_apply(&child, g, text, NULL, NULL, &e) == 0, "%s: %s", text, e.text);
    graph_free(child);
    graph_free(g);
}

TEST(many_layers_are_narrowed) {
    applies(layers(LAYERS, false, "Tanh"), "{\"op\":\"narrow\",\"layer\":\"*\",\"factor\":0.5}");
}

TEST(many_layers_get_slopes) {
    applies(layers(FEW, false, NULL), "{\"op\":\"activation\",\"layer\":\"*\"}");
}

TEST(many_nodes_that_do_nothing_go) {
    struct small s = small_new(3, 0, 0);
    int y = small_gemm(&s, s.x, 3, 4, true);
    while (s.g->n_nodes < MORE) y = small_act(&s, y, "Identity");
    need(small_finish(&s, y), "no graph");
    applies(s.g, "{\"op\":\"fold\",\"layer\":\"*\"}");
}

TEST(many_layers_are_folded) {
    applies(layers(LAYERS, true, "Tanh"), "{\"op\":\"fold\",\"layer\":\"*\"}");
}

/* All of one group, which must not be looked through for each of them. */
TEST(many_layers_of_one_group) {
    struct small s = small_new(2, 0, 0);
    int y = small_gemm(&s, s.x, 2, 2, true);
    while (s.g->n_nodes < LAYERS) y = small_add(&s, y, small_gemm(&s, small_act(&s, y, "Tanh"), 2, 2, true));
    need(small_finish(&s, small_gemm(&s, y, 2, 2, true)), "no graph");
    asks(s.g, "{\"op\":\"fold\",\"layer\":\"*\",\"mode\":\"identical\"}", 0, "");
}

TEST_MAIN
