/* Dry runs of method morph on data: they compute nothing, and say what the job says. */
#define TEST_SECONDS 120
#include <math.h>
#include <time.h>

#include "base/json.h"
#include "base/text.h"
#include "tests/engine/memory_host.h"
#include "tests/engine/small_net.h"

enum { SAMPLES = 200, CLASSES = 3 };

struct world {
    struct memory_host memory;
    struct host host;
};

/* Also runs the job when `out` is not NULL. */
static int request(struct outcome *out, struct graph_size *size, struct world *w, const char *json, struct err *e) {
    struct json *root;
    const struct method *method = method_find("morph");
    void *spec = calloc(1, method->spec_size);
    *e = (struct err){0};
    int status = json_parse(&root, json, strlen(json), e);
    if (!status) {
        status = param_parse(spec, method->params, root, "", e);
        json_free(root);
    }
    if (!status) status = method->check(spec, &w->host, size, e);
    if (!status && out) status = method->run(out, spec, &w->host, e);
    free(spec);
    return status;
}

/* Dense layers of 48, 40, 48 and 3, and SAMPLES rows for them. */
static bool open_dense(struct world *w) {
    enum { WIDTH = 48 };
    static float inputs[SAMPLES * WIDTH];
    static int64_t labels[SAMPLES];
    struct small s = small_new(WIDTH, 0, 0);
    int x = small_act(&s, small_gemm(&s, s.x, WIDTH, 40, true), "Tanh");
    x = small_act(&s, small_gemm(&s, x, 40, WIDTH, true), "Tanh");
    if (!small_finish(&s, small_gemm(&s, x, WIDTH, CLASSES, true))) return false;
    struct random random = random_seed(9);
    for (size_t i = 0; i < SAMPLES * WIDTH; i++) inputs[i] = (float)random_normal(&random);
    for (int i = 0; i < SAMPLES; i++) labels[i] = (int64_t)random_below(&random, CLASSES);
    *w = (struct world){0};
    memory_host_add_model(&w->memory, "dense", s.g);
    memory_host_add_array(&w->memory, "rows", "inputs", DT_FLOAT32, inputs, (int64_t[4]){SAMPLES, WIDTH});
    memory_host_add_array(&w->memory, "rows", "labels", DT_INT64, labels, (int64_t[4]){SAMPLES});
    w->host = memory_host_open(&w->memory, 1);
    return true;
}

/* A dense layer has as many directions as there are samples: 64 are looked at, and there may be fewer. */
TEST(directions_that_the_job_finds_are_not_denied) {
    static const struct {
        int to, limit;
        bool refused;
    } cases[] = {{48, 200, false}, {56, 200, false}, {80, 200, false},
                 {56, 32, false},  {80, 32, true},   {89, 200, true}};
    struct world w;
    if (!open_dense(&w)) return;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char json[256];
        struct graph_size size = {0}, made;
        struct outcome o = {0};
        struct err e = {0};
        text_print(json, sizeof json,
                   "{\"model\":\"dense\",\"dataset\":{\"ref\":\"rows\",\"limit\":%d},\"holdout\":0,\"steps\":[{\"op\":"
                   "\"widen\",\"layer\":\"gemm1\",\"to\":%d,\"mode\":\"grad-max\"}]}",
                   cases[i].limit, cases[i].to);
        int status = request(NULL, &size, &w, json, &e);
        if (!ok(!status == !cases[i].refused, "%s: %d, %s", json, status, e.text) || status) continue;
        status = request(&o, &size, &w, json, &e);
        ok(!status && graph_measure(&made, o.student, &e) == 0 && made.parameters == size.parameters, "%s: %d, %s",
           json, status, e.text);
        outcome_free(&o);
    }
    memory_host_close(&w.memory);
}

/* A fit of three layers of 192 channels takes ten seconds and more, and a server has other things to do. */
TEST(a_dry_run_fits_nothing) {
    enum { CHANNELS = 192, SIDE = 8 };
    static const char *const steps[] = {"{\"op\":\"narrow\",\"factor\":0.75}",
                                        "{\"op\":\"narrow\",\"factor\":0.75,\"mode\":\"activation\"}",
                                        "{\"op\":\"factor\",\"layer\":\"conv*\",\"rank\":60,\"mode\":\"data\"}",
                                        "{\"op\":\"widen\",\"layer\":\"conv1\",\"factor\":1.1,\"mode\":\"grad-max\"}"};
    static float inputs[SAMPLES * 3 * SIDE * SIDE];
    static int64_t labels[SAMPLES];
    struct world w = {0};
    struct small s = small_new(3, SIDE, SIDE);
    int x = s.x;
    for (int i = 0; i < 3; i++)
        x = small_act(&s, small_conv(&s, x, i ? CHANNELS : 3, CHANNELS, 3, 1, 1, 1, false), "Tanh");
    x = small_act(&s, small_act(&s, x, "GlobalAveragePool"), "Flatten");
    need(small_finish(&s, small_gemm(&s, x, CHANNELS, CLASSES, true)), "no graph");
    memory_host_add_model(&w.memory, "wide", s.g);
    memory_host_add_array(&w.memory, "images", "inputs", DT_FLOAT32, inputs, (int64_t[4]){SAMPLES, 3, SIDE, SIDE});
    memory_host_add_array(&w.memory, "images", "labels", DT_INT64, labels, (int64_t[4]){SAMPLES});
    w.host = memory_host_open(&w.memory, 1);
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        char json[256];
        struct graph_size size;
        struct err e = {0};
        text_print(json, sizeof json, "{\"model\":\"wide\",\"dataset\":\"images\",\"steps\":[%s]}", steps[i]);
        clock_t begun = clock();
        ok(request(NULL, &size, &w, json, &e) == 0, "%s: %s", json, e.text);
        double seconds = (double)(clock() - begun) / CLOCKS_PER_SEC;
        printf("# %s: %.2f s\n", steps[i], seconds);
        ok(seconds < 4, "%s took %.1f s", steps[i], seconds);
    }
    memory_host_close(&w.memory);
}

TEST_MAIN
