/* hostile_surgery_test.c - steps on networks of more nodes, and more ways through them, than anybody draws: what they take
 * grows with the network and no faster. As in hostile_test.c a time limit stands for "no faster": what grows with the
 * square of these sizes would take hours. */
#define TEST_SECONDS 60
#include "tests/test.h"

#include "tests/engine/small_net.h"

enum { LAYERS = 40000 };

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
    while (s.g->n_nodes < 5 * LAYERS) y = small_act(&s, y, "Identity");
    need(small_finish(&s, small_act(&s, y, "Relu")), "no graph");
    asks(s.g, "{\"op\":\"activation\",\"layer\":\"gemm1\"}", 0, "never learn");
}

TEST_MAIN
