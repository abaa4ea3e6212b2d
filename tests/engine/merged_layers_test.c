/* What is kept of the training of layers that are merged: odd but legal networks, and stored mergers that say what is not so.
 * How training goes on is in restart_test.c. */
#include "base/memory.h"
#include "engine/nn/carry.h"
#include "tests/engine/course.h"
#include "tests/engine/merged.h"
#include "tests/engine/morph_step.h"
#include "tests/engine/small_net.h"

#define CHAIN "{\"op\":\"fold\",\"mode\":\"chain\"}"
#define MERGE "{\"op\":\"fold\",\"mode\":\"identical\"}"
#define NORM "{\"op\":\"fold\",\"mode\":\"norm\"}"

/* As if momentum had been kept, and surgery had been at work. */
static void pretend_training(struct small *s) {
    s->g->training = (struct graph_training){.rule = SGD, .steps = 9, .rate = 0.1, .peak = 0.1, .changed = true};
    for (int v = 0; v < s->g->n_values; v++)
        if (s->g->values[v].trainable) array_clone(&s->g->values[v].memory[0], s->g->values[v].constant, &s->e);
}

static struct graph *after(const struct graph *g, const char *first, const char *second) {
    struct morph_step step;
    struct graph *one = NULL, *two = NULL;
    struct err e = {0};
    if (!parse_step(&step, first)) return NULL;
    ok(!small_apply_step(&one, g, &step, NULL, NULL, &e), "%s: %s", first, e.text);
    if (!one || !second || !parse_step(&step, second)) return one;
    ok(!small_apply_step(&two, one, &step, NULL, NULL, &e), "%s: %s", second, e.text);
    graph_free(one);
    return two;
}

static int count_mergers(const struct graph *g) {
    int n = 0;
    for (int v = 0; v < g->n_values; v++) n += g->values[v].origin && g->values[v].origin->merger;
    return n;
}

/* Done, stored and read back, with so many mergers. */
static void keeps(const struct graph *g, const char *first, const char *second, int mergers) {
    struct graph *child = after(g, first, second);
    if (!ok(child != NULL, "%s", first)) return;
    ok(count_mergers(child) == mergers, "%s leaves %d mergers, not %d", second ? second : first, count_mergers(child),
       mergers);
    mergers_agree(child);
    through_bytes(child);
    graph_free(child);
}

static int last_weights(const struct small *s) {
    return s->g->nodes[small_last(s)].inputs[1];
}

static int last_bias(const struct small *s) {
    return s->g->nodes[small_last(s)].inputs[2];
}

/* A bias along two axes was gathered along the wrong one; one without axes could not be read back. Neither is followed. */
TEST(biases_of_other_shapes_are_left_alone) {
    const struct shape shapes[] = {{1, {64}}, {2, {1, 64}}, {0, {0}}};
    for (int i = 0; i < 3; i++) {
        int64_t out = i < 2 ? 64 : 1;
        struct small s = small_new(4, 0, 0);
        int x = small_gemm(&s, small_act(&s, small_gemm(&s, s.x, 4, 8, true), "Relu"), 8, 8, true);
        int w = small_constant(&s, (struct shape){2, {out, 8}}, 0, 1), b = small_constant(&s, shapes[i], 0, 1);
        x = small_node(&s, "Gemm", (int[]){x, w, b}, 3);
        small_int(&s, "transB", 1);
        x = small_gemm(&s, small_act(&s, x, "Relu"), out, 4, true);
        need(small_finish(&s, x), "%s", s.e.text);
        pretend_training(&s);
        keeps(s.g, CHAIN, NULL, i == 0);
        keeps(s.g, CHAIN, "{\"op\":\"widen\",\"factor\":1.7}", i == 0);
        graph_free(s.g);
    }
}

/* What is too large to be followed any more is forgotten, and no file says otherwise. */
TEST(a_merger_that_grows_too_large_is_given_up) {
    enum { WIDE = 4096 };
    struct small s = small_new(4, 0, 0);
    int x = small_act(&s, small_gemm(&s, s.x, 4, WIDE, false), "Relu");
    x = small_gemm(&s, small_gemm(&s, x, WIDE, 8, false), 8, WIDE, false);
    x = small_gemm(&s, small_act(&s, x, "Relu"), WIDE, 2, false);
    need(small_finish(&s, x), "%s", s.e.text);
    pretend_training(&s);
    struct graph *child = after(s.g, CHAIN, "{\"op\":\"widen\",\"factor\":1.01}");
    if (ok(child != NULL, "widened")) {
        ok(count_mergers(child) == 0 && carry_finds(child, SGD), "%d mergers", count_mergers(child));
        through_bytes(child);
    }
    graph_free(child);
    graph_free(s.g);
}

/* It was lost, and what it came from never moved. */
TEST(a_bias_of_zeros_of_the_second_branch_stays) {
    struct small s = small_new(4, 5, 5);
    int x = small_conv(&s, s.x, 4, 4, 3, 1, 1, 1, false), y = small_conv(&s, s.x, 4, 4, 1, 1, 0, 1, true);
    int bias = last_bias(&s);
    need(small_finish(&s, small_act(&s, small_add(&s, x, y), "Relu")), "%s", s.e.text);
    pretend_training(&s);
    need(!array_own(s.g->values[bias].constant, &s.e), "%s", s.e.text);
    memset(s.g->values[bias].constant->data, 0, 4 * sizeof(float));
    struct graph *child = after(s.g, "{\"op\":\"fold\",\"mode\":\"branches\"}", NULL);
    if (ok(child && count_mergers(child) == 1, "merged"))
        ok(child->nodes[0].n_inputs == 3, "the merged layer has no bias");
    graph_free(child);
    graph_free(s.g);
}

/* Their weights were only multiplied by one share, which is wrong when they read the two in different ways. */
TEST(channels_that_are_joined_are_joined_in_what_was_merged) {
    struct small s = small_new(4, 0, 0);
    int x = small_gemm(&s, s.x, 4, 8, true), w = last_weights(&s), b = last_bias(&s);
    x = small_gemm(&s, small_gemm(&s, small_act(&s, x, "Relu"), 8, 8, true), 8, 8, true);
    need(small_finish(&s, small_gemm(&s, small_act(&s, x, "Relu"), 8, 4, true)), "%s", s.e.text);
    float *weights = s.g->values[w].constant->data, *bias = s.g->values[b].constant->data;
    memcpy(weights + 28, weights + 24, 4 * sizeof *weights);
    bias[7] = bias[6];
    pretend_training(&s);
    keeps(s.g, CHAIN, NULL, 1);
    keeps(s.g, CHAIN, MERGE, 1);
    graph_free(s.g);
}

static bool has_bias(const struct graph *g, int weights) {
    for (int i = 0; i < g->n_nodes; i++)
        if (g->nodes[i].n_inputs > 2 && g->nodes[i].inputs[1] == weights) return true;
    return false;
}

/* Of two edges from end to end one carried the training on, and the other had the bias. */
TEST(the_bias_stays_beside_what_carries_the_training_on) {
    struct small s = small_new(4, 5, 5);
    int x = small_conv(&s, small_conv(&s, s.x, 4, 6, 3, 1, 1, 1, true), 6, 4, 1, 1, 0, 1, true);
    need(small_finish(&s, small_act(&s, x, "Relu")), "%s", s.e.text);
    pretend_training(&s);
    struct graph *child = after(s.g, CHAIN,
                                "{\"op\":\"module\",\"layer\":\"conv*\",\"edges\":[{\"from\":\"s\",\"to\":\"t\","
                                "\"kernel\":3},{\"from\":\"s\",\"to\":\"t\",\"kernel\":[1,3]}]}");
    if (ok(child && count_mergers(child) == 1, "a module"))
        for (int v = 0; v < child->n_values; v++)
            ok(!child->values[v].origin || has_bias(child, v), "%s has no bias beside it", child->values[v].name);
    graph_free(child);
    graph_free(s.g);
}

/* ---- stored by somebody else ---- */

/* A sum with what is no layer, which nothing contradicts but the node. */
static int lie(struct value *v, int number, double says, const struct shape *bias, struct err *e) {
    struct origin *o = v->origin = mem_calloc(1, sizeof *o);
    struct merger *m = o ? o->merger = mem_calloc(1, sizeof *m) : NULL;
    if (!m) return err_memory(e, 1);
    int status = array_new(&m->plan, DT_FLOAT32, &(struct shape){1, {MERGER_NUMBERS}}, e);
    if (!status) status = array_clone(&m->factor[FACTOR_A], v->constant, e);
    if (!status && bias) status = array_new(&m->factor[FACTOR_A_BIAS], DT_FLOAT32, bias, e);
    if (status) return status;
    float *plan = m->plan->data;
    plan[MERGER_IS_SUM] = plan[MERGER_GROUPS] = 1;
    for (int k = 0; k < 4; k++) plan[MERGER_STEP + k] = 1;
    plan[number] = (float)says;
    return 0;
}

/* Either refused, or dropped by the step; ASan saw what it was. */
static void survives(struct small *s, const char *step) {
    struct graph *child = through_bytes(s->g) ? after(s->g, step, NULL) : NULL;
    ok(child && count_mergers(child) == 0, "the merger is gone");
    graph_free(child);
    graph_free(s->g);
}

TEST(a_plan_that_contradicts_its_node_is_given_up) {
    struct small s = small_new(4, 0, 0);
    int w = small_constant(&s, (struct shape){2, {4, 64}}, 0, 1);
    need(small_finish(&s, small_norm(&s, small_node(&s, "MatMul", (int[]){s.x, w}, 2), 64)), "%s", s.e.text);
    pretend_training(&s);
    need(!lie(&s.g->values[w], MERGER_COLUMNS, 0, &(struct shape){1, {4}}, &s.e), "%s", s.e.text);
    survives(&s, NORM);
    s = small_new(4, 5, 5);
    int x = small_conv(&s, small_norm(&s, s.x, 4), 4, 64, 3, 1, 1, 1, false);
    w = last_weights(&s);
    need(small_finish(&s, x), "%s", s.e.text);
    pretend_training(&s);
    need(!lie(&s.g->values[w], MERGER_GROUPS, 64, NULL, &s.e), "%s", s.e.text);
    survives(&s, NORM);
}

TEST(an_origin_of_another_rank_is_refused) {
    const struct shape shapes[] = {{1, {64}}, {2, {64, 4}}, {3, {64, 4, 1}}};
    for (int i = 0; i < 3; i++) {
        struct small s = small_new(4, 9, 9);
        struct text file;
        int x = small_conv(&s, s.x, 4, 64, 1, 1, 0, 1, true), w = last_weights(&s);
        need(small_finish(&s, x), "%s", s.e.text);
        pretend_training(&s);
        struct origin *o = s.g->values[w].origin = mem_calloc(1, sizeof *o);
        need(o && !array_new(&o->part[ORIGIN_WEIGHTS], DT_FLOAT32, &shapes[i], &s.e), "%s", s.e.text);
        text_init(&file, 1 << 20);
        need(!training_memory_write(byte_sink_text(&file), s.g, &s.e), "%s", s.e.text);
        ok(course_read(s.g, &file, &s.e) == E_INVALID && strstr(s.e.text, "does not fit it"), "%s", s.e.text);
        text_free(&file);
        graph_free(s.g);
    }
}

TEST_MAIN
