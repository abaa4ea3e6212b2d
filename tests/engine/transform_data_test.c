/* Method morph with a data set: networks that end in a Softmax, which training leaves out, and data that nothing can be
 * compared on. */
#define TEST_SECONDS 60
#include <math.h>

#include "tests/engine/small_net.h"
#include "tests/engine/transform.h"

/* ---- a Softmax at the end ---- */

/* "soft": gemm1 - tanh2 - identity3 - gemm4 - softmax5, and "soft-data". */
static bool add_soft(struct world *w) {
    static float inputs[SAMPLES * 4];
    static int64_t labels[SAMPLES];
    struct random random = random_seed(9);
    struct small s = small_new(4, 0, 0);
    int x = small_act(&s, small_gemm(&s, s.x, 4, 6, true), "Tanh");
    x = small_gemm(&s, small_act(&s, x, "Identity"), 6, CLASSES, true);
    if (!small_finish(&s, small_act(&s, x, "Softmax"))) return false;
    for (int i = 0; i < SAMPLES * 4; i++) inputs[i] = (float)random_normal(&random);
    for (int i = 0; i < SAMPLES; i++) labels[i] = inputs[4 * i] > 0 ? 1 : 2 * (inputs[4 * i + 1] > 0);
    memory_host_add_model(&w->memory, "soft", s.g);
    memory_host_add_array(&w->memory, "soft-data", "inputs", DT_FLOAT32, inputs, (int64_t[4]){SAMPLES, 4});
    memory_host_add_array(&w->memory, "soft-data", "labels", DT_INT64, labels, (int64_t[4]){SAMPLES});
    return true;
}

#define SOFT(steps) "{\"model\":\"soft\",\"dataset\":\"soft-data\",\"steps\":[" steps "]"

static const struct {
    const char *json, *weights; /* what has to be trained, NULL: nothing is new */
} softs[] = {
    {SOFT("{\"op\":\"remove\"}") "}", NULL},
    {SOFT("{\"op\":\"deepen\"},{\"op\":\"remove\"}") ",\"train\":{\"epochs\":1}}", NULL},
    {SOFT("{\"op\":\"remove\"}") ",\"train\":{\"epochs\":1}}", NULL},
    {SOFT(
         "{\"op\":\"skip\",\"layer\":\"softmax5\",\"from\":\"tanh2\"}") ",\"train\":{\"epochs\":2,\"learning_rate\":0.01}}",
     "softmax5_skip_weight"},
    {SOFT(
         "{\"op\":\"skip\",\"layer\":\"softmax5\",\"from\":\"tanh2\",\"mode\":\"concat\"}") ",\"train\":{\"epochs\":2}}",
     "softmax5_skip_weight"},
    {SOFT("{\"op\":\"skip\",\"from\":\"*\"}") ",\"train\":{\"epochs\":2}}", "softmax5_skip_weight"},
};

/* Whether all numbers of a parameter are zero or one, as a skip makes them. */
static bool stands(const struct graph *g, const char *name) {
    int v = graph_find_value(g, name);
    if (!ok(v >= 0 && g->values[v].constant, "no '%s'", name)) return false;
    for (size_t i = 0; i < g->values[v].constant->count; i++) {
        double x;
        array_to_double(&x, g->values[v].constant, i, 1);
        if (x != 0 && x != 1) return false;
    }
    return true;
}

TEST(steps_go_on_in_front_of_a_final_softmax) {
    struct world w = {.method = "morph"};
    if (!add_soft(&w)) return;
    w.host = memory_host_open(&w.memory, 1);
    for (size_t i = 0; i < sizeof softs / sizeof *softs; i++) {
        struct outcome o;
        struct err e = {0};
        if (!ok(run(&o, &w, softs[i].json, NULL, &e) == 0, "%s: %s", softs[i].json, e.text)) continue;
        const struct graph *g = o.student;
        int producer = g->values[g->outputs[0]].producer;
        ok(producer >= 0 && !strcmp(g->nodes[producer].name, "softmax5"), "%s: another output", softs[i].json);
        ok(!strcmp(said(&o, "proof", "exact"), "true"), "%s: not exact", softs[i].json);
        ok(!strcmp(said(&o, "proof", "trainable"), "true"), "%s: not trainable", softs[i].json);
        ok(!softs[i].weights || !stands(g, softs[i].weights), "%s: nothing learns", softs[i].json);
        outcome_free(&o);
    }
    memory_host_close(&w.memory);
}

/* ---- data that cannot be compared on ---- */

TEST(data_that_is_not_finite_is_refused_by_name) {
    static const struct {
        float number;
        const char *words;
    } cases[] = {{NAN, "sample 7 of data set data has a value that is not finite"},
                 {INFINITY, "sample 7 of data set data has a value that is not finite"},
                 {3e38f, "sample 7 of data set data makes the parent's answers infinite"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct world w;
        struct outcome o;
        struct err e = {0};
        if (!open_world(&w, 1)) return;
        const struct shape *shape = &w.memory.arrays[0].data.shape;
        size_t row = (size_t)(shape->dim[1] * shape->dim[2] * shape->dim[3]);
        float *inputs = (float *)(size_t)w.memory.arrays[0].data.data;
        for (size_t k = 0; k < row; k++) inputs[7 * row + k] = cases[i].number;
        int status = run(
            &o, &w, "{\"model\":\"net\",\"dataset\":\"data\",\"holdout\":0,\"steps\":[{\"op\":\"subnet\"}]}", NULL, &e);
        ok(status == E_INVALID && !strcmp(e.pointer, "/dataset") && strstr(e.text, cases[i].words),
           "%g: %d, %s at '%s'", (double)cases[i].number, status, e.text, e.pointer);
        memory_host_close(&w.memory);
    }
}

TEST_MAIN
