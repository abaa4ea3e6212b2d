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

/* ---- how many, and how large ---- */

/* Every number of samples asked for is kept to, the rows are those of all, and gradients are of the same samples. */
TEST(no_more_rows_than_were_asked_for) {
    static const size_t asked[] = {1, 2, 31, 32, 33, 64, 96, 100, 1000};
    struct calibration c, dry;
    struct err e = {0};
    if (!open_scene(SAMPLES)) return;
    int value = scene.g->nodes[0].outputs[0];
    need(!calibration_open(&c, &scene.all, &scene.host, &e), "%s", e.text);
    calibration_promise(&dry, &scene.all, &scene.host);
    double *all, *all_slopes;
    size_t n;
    need(!c.data.sample(&all, &n, &c, scene.g, value, SAMPLES, &e) && n == 96, "%zu: %s", n, e.text);
    need(!c.data.gradient(&all_slopes, &n, &c, scene.g, value, SAMPLES, &e) && n == 96, "%zu: %s", n, e.text);
    for (size_t i = 0; i < sizeof asked / sizeof *asked; i++) {
        double *rows = NULL, *slopes = NULL, *zeros = NULL;
        size_t given = 0, also = 0, promise = 0, most = asked[i] < 96 ? asked[i] : 96, row = 8 * SIDE * SIDE;
        need(!c.data.sample(&rows, &given, &c, scene.g, value, asked[i], &e) &&
                 !c.data.gradient(&slopes, &also, &c, scene.g, value, asked[i], &e) &&
                 !dry.data.sample(&zeros, &promise, &dry, scene.g, value, asked[i], &e),
             "%s", e.text);
        ok(given == most && also == most && promise == most, "%zu, %zu gradients, %zu promised instead of %zu", given,
           also, promise, most);
        ok(!memcmp(rows, all, given * row * sizeof *rows) && !memcmp(slopes, all_slopes, given * row * sizeof *rows),
           "other rows for %zu", most);
        mem_free(rows);
        mem_free(slopes);
        mem_free(zeros);
    }
    mem_free(all);
    mem_free(all_slopes);
    calibration_fini(&c);
    close_scene();
}

/* Allowed half of so many rows; a check says what the run says. */
TEST(rows_beyond_the_memory_are_refused) {
    enum { MADE = 8 * SIDE * SIDE };
    struct calibration c[2];
    struct err e = {0};
    if (!open_scene(SAMPLES)) return;
    int value = scene.g->nodes[0].outputs[0];
    need(!calibration_open(&c[0], &scene.all, &scene.host, &e), "%s", e.text);
    calibration_promise(&c[1], &scene.all, &scene.host);
    for (size_t rows = 40; rows <= 160; rows += 24) {
        struct err said[2] = {{0}, {0}};
        int status[2];
        for (int k = 0; k < 2; k++) {
            double *out = NULL;
            size_t n;
            c[k].memory = 2 * rows * MADE * sizeof(double);
            status[k] = c[k].data.sample(&out, &n, &c[k], scene.g, value, 64, &said[k]);
            ok(status[k] == (rows < 64 + 32 ? E_TOO_LARGE : 0), "room for %zu: %d, %s", rows, status[k], said[k].text);
            mem_free(out);
        }
        ok(!strcmp(said[0].text, said[1].text), "'%s' and '%s'", said[0].text, said[1].text);
    }
    calibration_fini(&c[0]);
    close_scene();
}

/* Statistics of 96 samples in the memory that one pass of 32 takes. */
TEST(statistics_are_of_all_samples_and_take_the_rows_of_one_pass) {
    enum { PLANE = SIDE * SIDE };
    struct calibration c;
    struct morph_statistics s;
    struct err e = {0};
    double *rows, sum = 0, squares = 0;
    size_t n;
    if (!open_scene(SAMPLES)) return;
    int value = scene.g->nodes[0].outputs[0];
    need(!calibration_open(&c, &scene.all, &scene.host, &e) &&
             !c.data.sample(&rows, &n, &c, scene.g, value, SAMPLES, &e),
         "%s", e.text);
    c.memory = 2 * 32 * 8 * PLANE * sizeof(double);
    need(!c.data.statistics(&s, &c, scene.g, value, &e), "%s", e.text);
    for (size_t i = 0; i < n; i++)
        for (size_t p = 0; p < PLANE; p++) {
            double x = rows[(i * 8 + 5) * PLANE + p];
            sum += x, squares += x * x;
        }
    double count = (double)n * PLANE, mean = sum / count, variance = squares / count - mean * mean;
    ok(s.samples == n && s.channels == 8, "%zu samples, %zu channels", s.samples, s.channels);
    ok(fabs(s.mean[5] - mean) < 1e-12 && fabs(s.variance[5] - variance) < 1e-12 * variance + 1e-12,
       "mean %g and variance %g, not %g and %g", s.mean[5], s.variance[5], mean, variance);
    mem_free(s.mean);
    mem_free(s.variance);
    mem_free(rows);
    calibration_fini(&c);
    close_scene();
}

TEST_MAIN
