/* What surgery learns from a data set: the values of a network on it, how many of them, and what that may take. */
#define TEST_SECONDS 60
#include "engine/transfer/calibration.h"

#include <math.h>

#include "tests/engine/small_net.h"

enum { SAMPLES = 100, CHANNELS = 3, SIDE = 6, ROW = CHANNELS * SIDE * SIDE, CLASSES = 4 };

/* A convolution with a normalisation, a dense layer, and data for them. */
struct scene {
    struct graph *g;
    float rows[SAMPLES * ROW];
    int64_t labels[SAMPLES];
    struct dataset data;
    struct selection all;
    struct host host;
};
static struct scene scene;

static bool open_scene(size_t samples) {
    struct small s = small_new(CHANNELS, SIDE, SIDE);
    int y = small_act(&s, small_norm(&s, small_conv(&s, s.x, CHANNELS, 8, 3, 1, 1, 1, false), 8), "Relu");
    y = small_act(&s, small_act(&s, y, "GlobalAveragePool"), "Flatten");
    if (!small_finish(&s, small_gemm(&s, y, 8, CLASSES, true))) return false;
    struct random r = random_seed(12);
    for (size_t i = 0; i < SAMPLES * ROW; i++) scene.rows[i] = (float)random_normal(&r);
    for (size_t i = 0; i < SAMPLES; i++) scene.labels[i] = (int64_t)random_below(&r, CLASSES);
    struct data_array rows = {DT_FLOAT32, {4, {SAMPLES, CHANNELS, SIDE, SIDE}}, scene.rows};
    struct data_array labels = {DT_INT64, {1, {SAMPLES}}, scene.labels};
    struct dataset_spec spec;
    struct err e = {0};
    scene.g = s.g;
    int status = param_parse(&spec, dataset_params, NULL, "", &e);
    if (!status)
        status = dataset_open(&scene.data, &spec, &rows, &labels, &s.g->values[s.g->inputs[0]].shape, CLASSES, &e);
    scene.all = (struct selection){.data = &scene.data, .n = samples};
    scene.host = (struct host){.threads = 1};
    return ok(status == 0, "%s", e.text);
}

static void close_scene(void) {
    graph_free(scene.g);
}

/* ---- memory that runs out ---- */

static bool promised;
static struct morph_step step;

static int deepen(void) {
    struct calibration c = {0};
    struct graph *deeper = NULL;
    struct err e = {0};
    int status = 0;
    if (promised)
        calibration_promise(&c, &scene.all, &scene.host);
    else
        status = calibration_open(&c, &scene.all, &scene.host, &e);
    if (!status) status = small_apply_step(&deeper, scene.g, &step, &c.data, NULL, &e);
    graph_free(deeper);
    calibration_fini(&c);
    return status;
}

TEST(memory_may_run_out) {
    if (!open_scene(SAMPLES) || !parse_step(&step, "{\"op\":\"deepen\",\"layer\":\"conv1\"}")) return;
    for (int k = 0; k < 2; k++) {
        promised = k == 0;
        starve(promised ? "a check" : "statistics", deepen);
    }
    close_scene();
}

TEST_MAIN
