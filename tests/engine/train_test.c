/* The training loop: it learns, and its result depends on nothing but data, specification and seed. */
#define TEST_SECONDS 60
#include "engine/nn/train.h"

#include "engine/transfer/init.h"
#include "engine/transfer/student.h"
#include "tests/engine/memory_host.h"

#define SAMPLES 300
#define SIDE 8
#define CLASSES 3

static float images[SAMPLES][SIDE][SIDE];
static int32_t labels[SAMPLES];

/* Noise with a bright row, column or corner. */
static void make_data(void) {
    struct random r = random_seed(7);
    for (int i = 0; i < SAMPLES; i++) {
        labels[i] = (int32_t)random_below(&r, CLASSES);
        int at = (int)random_below(&r, SIDE);
        for (int y = 0; y < SIDE; y++)
            for (int x = 0; x < SIDE; x++) {
                bool bright = labels[i] == 0 ? y == at : labels[i] == 1 ? x == at : x + y < 4;
                images[i][y][x] = (float)(0.3 * random_normal(&r) + (bright ? 1 : 0));
            }
    }
}

struct lab {
    struct graph *graph;
    struct dataset data;
    uint32_t *split;
    struct loss_plan plan;
    struct train_spec spec;
    struct train_task task;
    struct memory_host world;
};

static int layer_op(const char *word) {
    return param_word_index(layer_params[0].choices, word);
}

static struct layer_spec layer(void) {
    return (struct layer_spec){.op = -1,
                               .conv = PARAM_ABSENT,
                               .dense = PARAM_ABSENT,
                               .maxpool = PARAM_ABSENT,
                               .avgpool = PARAM_ABSENT,
                               .dropout = (double)NAN,
                               .kernel = PARAM_ABSENT,
                               .stride = PARAM_ABSENT,
                               .pad = PARAM_ABSENT,
                               .groups = PARAM_ABSENT};
}

static struct graph *small_net(void) {
    struct layer_spec l[8];
    for (int i = 0; i < 8; i++) l[i] = layer();
    l[0].conv = 8;
    l[1].op = layer_op("batchnorm");
    l[2].op = layer_op("relu");
    l[3].maxpool = 2;
    l[4].dropout = 0.1;
    l[5].dense = 16;
    l[6].op = layer_op("relu");
    l[7].dense = CLASSES;
    struct shape input = {.rank = 4, .dim = {DIM_BATCH, 1, SIDE, SIDE}};
    struct graph *g = NULL;
    struct err e = {0};
    int status = student_check_layers(l, 8, &e);
    if (!status) status = student_chain(&g, l, 8, &input, (size_t)1 << 20, &e);
    if (!status) status = init_graph(g, 3, &e);
    ok(status == 0, "%s", e.text);
    return g;
}

static void lab_open(struct lab *lab) {
    memset(lab, 0, sizeof *lab);
    make_data();
    lab->graph = small_net();
    struct data_array x = {.type = DT_FLOAT32, .data = images, .shape = {.rank = 3, .dim = {SAMPLES, SIDE, SIDE}}};
    struct data_array y = {.type = DT_INT32, .data = labels, .shape = {.rank = 1, .dim = {SAMPLES}}};
    struct dataset_spec spec = {.ref = "rows", .scale = 1, .limit = PARAM_ABSENT};
    struct shape input = {.rank = 4, .dim = {DIM_BATCH, 1, SIDE, SIDE}};
    struct err e = {0};
    ok(dataset_open(&lab->data, &spec, &x, &y, &input, CLASSES, &e) == 0, "%s", e.text);
    ok(selection_split(&lab->task.train, &lab->task.eval, &lab->split, &lab->data, 0.2, 5, &e) == 0, "%s", e.text);
    struct loss_spec ce = {.kind = LOSS_CE, .weight = 1, .temperature = 1};
    loss_plan(&lab->plan, &ce, 1, true, false, NULL);
    param_parse(&lab->spec, train_params, NULL, "", NULL);
    lab->spec.epochs = 6;
    lab->spec.batch = 32;
    lab->spec.learning_rate = 0.01;
    lab->task.spec = &lab->spec;
    lab->task.loss = &lab->plan;
}

static void lab_close(struct lab *lab) {
    graph_free(lab->graph);
    mem_free(lab->split);
    memory_host_close(&lab->world);
}

static int lab_run(struct lab *lab, struct train_result *result, int threads, struct err *e) {
    struct crew *crew;
    struct host host = memory_host_open(&lab->world, threads);
    struct train_hooks hooks = {.context = host.context,
                                .progress = host.progress,
                                .metric = host.metric,
                                .log = host.log,
                                .checkpoint_due = host.checkpoint_due,
                                .checkpoint_save = host.checkpoint_save,
                                .checkpoint_find = host.checkpoint_find};
    int status = train_check(&lab->spec, true, false, e);
    if (!status) status = crew_new(&crew, threads, e);
    if (status) return status;
    status = train_run(result, lab->graph, crew, &lab->task, &hooks, e);
    crew_free(crew);
    if (status) { /* the next attempt loads the network anew */
        graph_free(lab->graph);
        lab->graph = small_net();
    }
    return status;
}

TEST(it_learns) {
    for (int optimizer = 0; optimizer < 3; optimizer++) {
        struct lab lab;
        struct train_result result;
        struct err e = {0};
        lab_open(&lab);
        lab.spec.optimizer = optimizer;
        lab.spec.learning_rate = optimizer == 2 ? 0.002 : 0.02;
        lab.spec.schedule.kind = SCHEDULE_COSINE;
        lab.spec.epochs = 15;
        need(lab_run(&lab, &result, 2, &e) == 0, "%s", e.text);
        ok(result.score.accuracy > 0.9, "optimizer %d: accuracy %g, loss %g", optimizer, result.score.accuracy,
           result.loss);
        ok(result.steps == 15 * (240 / 32) && result.epochs == 15, "%d steps", (int)result.steps);
        lab_close(&lab);
    }
}

TEST(bits_do_not_depend_on_threads) {
    struct lab one, two;
    struct train_result a, b;
    lab_open(&one);
    lab_open(&two);
    one.spec.clip_norm = two.spec.clip_norm = 1;
    need(lab_run(&one, &a, 1, NULL) == 0 && lab_run(&two, &b, 2, NULL) == 0, "runs");
    ok(same_weights(one.graph, two.graph), "weights");
    ok(a.loss == b.loss && a.score.loss == b.score.loss, "losses");
    lab_close(&one);
    lab_close(&two);
}

TEST(seeds_differ) {
    struct lab one, two;
    struct train_result a, b;
    lab_open(&one);
    lab_open(&two);
    two.spec.seed = 2;
    need(lab_run(&one, &a, 1, NULL) == 0 && lab_run(&two, &b, 1, NULL) == 0, "runs");
    ok(!same_weights(one.graph, two.graph), "weights");
    lab_close(&one);
    lab_close(&two);
}

/* Stops at every kind of step: the first, inside an epoch, at its end, and just before the end. */
TEST(resumed_is_uninterrupted) {
    static const int64_t stops[] = {1, 5, 7, 14, 20, 41};
    for (int optimizer = 0; optimizer < 3; optimizer++) {
        struct lab whole, parts;
        struct train_result a, b;
        lab_open(&whole);
        lab_open(&parts);
        whole.spec.optimizer = parts.spec.optimizer = optimizer;
        whole.spec.has_early_stop = parts.spec.has_early_stop = true;
        whole.spec.early_stop = parts.spec.early_stop = (struct early_stop){STOP_LOSS, 2};
        need(lab_run(&whole, &a, 1, NULL) == 0, "uninterrupted");
        parts.world.checkpoint_every = 1;
        for (size_t i = 0; i < sizeof stops / sizeof *stops; i++) {
            struct err e = {0};
            if (stops[i] >= a.steps) break;
            parts.world.stop_at = stops[i];
            ok(lab_run(&parts, &b, 2, &e) == E_CANCELLED, "stop at %d: %s", (int)stops[i], e.text);
        }
        parts.world.stop_at = 0;
        need(lab_run(&parts, &b, 1, NULL) == 0, "the rest");
        ok(same_weights(whole.graph, parts.graph), "weights");
        ok(a.loss == b.loss && a.best_epoch == b.best_epoch && a.score.loss == b.score.loss, "result");
        lab_close(&whole);
        lab_close(&parts);
    }
}

TEST(stale_checkpoints_repeat_the_steps_since) {
    struct lab whole, parts;
    struct train_result a, b;
    lab_open(&whole);
    lab_open(&parts);
    need(lab_run(&whole, &a, 1, NULL) == 0, "uninterrupted");
    parts.world.checkpoint_every = 4;
    parts.world.stop_at = 11;
    ok(lab_run(&parts, &b, 1, NULL) == E_CANCELLED, "stopped");
    parts.world.stop_at = 0;
    need(lab_run(&parts, &b, 1, NULL) == 0, "the rest");
    ok(same_weights(whole.graph, parts.graph), "weights");
    lab_close(&whole);
    lab_close(&parts);
}

TEST(damaged_checkpoints_start_over) {
    struct lab whole, parts;
    struct train_result a, b;
    lab_open(&whole);
    lab_open(&parts);
    need(lab_run(&whole, &a, 1, NULL) == 0, "uninterrupted");
    parts.world.checkpoint_every = 1;
    parts.world.stop_at = 9;
    ok(lab_run(&parts, &b, 1, NULL) == E_CANCELLED, "stopped");
    ((char *)parts.world.checkpoint)[parts.world.checkpoint_size / 2] ^= 1;
    parts.world.stop_at = 0;
    need(lab_run(&parts, &b, 1, NULL) == 0, "from the beginning");
    ok(same_weights(whole.graph, parts.graph), "weights");
    lab_close(&whole);
    lab_close(&parts);
}

TEST(early_stop_keeps_the_best) {
    struct lab lab;
    struct train_result result;
    lab_open(&lab);
    lab.spec.epochs = 40;
    lab.spec.has_early_stop = true;
    lab.spec.early_stop = (struct early_stop){STOP_LOSS, 2};
    need(lab_run(&lab, &result, 1, NULL) == 0, "run");
    ok(result.epochs < 40 && result.best_epoch == result.epochs - 2, "stopped after %d, kept %d", (int)result.epochs,
       (int)result.best_epoch);
    struct crew *crew;
    struct net *net;
    struct net_options options = {.batch = 16};
    struct score score;
    static const struct targets none;
    real logits[60 * CLASSES];
    need(crew_new(&crew, 1, NULL) == 0 && net_new(&net, lab.graph, crew, &options, NULL) == 0, "net");
    evaluate_logits(logits, net, &lab.task.eval, false, (struct tick){0}, NULL);
    evaluate_score(&score, crew, logits, &lab.task.eval, &none, CLASSES, NULL);
    ok(fabs(score.loss - result.score.loss) < 1e-5, "loss %g, reported %g", score.loss, result.score.loss);
    ok(score.accuracy == result.score.accuracy, "accuracy");
    net_free(net);
    crew_free(crew);
    lab_close(&lab);
}

/* What the optimizer has at the end belongs to the weights of the end. */
TEST(early_stop_keeps_the_state_of_the_last_epoch_only) {
    for (int stop = 0; stop < 2; stop++) {
        struct lab lab;
        struct train_result result;
        lab_open(&lab);
        lab.task.keep_memory = true;
        lab.spec.epochs = stop ? 40 : 2; /* in two epochs it does get better */
        lab.spec.has_early_stop = true;
        lab.spec.early_stop = (struct early_stop){STOP_LOSS, 2};
        need(lab_run(&lab, &result, 1, NULL) == 0, "run");
        ok((result.best_epoch == result.epochs) == !stop, "epoch %d of %d", (int)result.best_epoch, (int)result.epochs);
        ok((lab.graph->training.rule >= 0) == !stop, "rule %d", lab.graph->training.rule);
        lab_close(&lab);
    }
}

TEST(divergence_is_an_error) {
    struct lab lab;
    struct train_result result;
    struct err e = {0};
    lab_open(&lab);
    lab.spec.optimizer = 0;
    lab.spec.learning_rate = 1e30;
    ok(lab_run(&lab, &result, 1, &e) == E_INVALID, "status");
    ok(strstr(e.text, "step ") && strstr(e.text, "1e+30"), "%s", e.text);
    lab_close(&lab);
}

TEST(batches_larger_than_the_data) {
    struct lab lab;
    struct train_result result;
    lab_open(&lab);
    lab.spec.batch = 4096;
    lab.spec.epochs = PARAM_ABSENT;
    lab.spec.steps = 3;
    need(lab_run(&lab, &result, 1, NULL) == 0, "run");
    ok(result.steps == 3 && result.epochs == 3, "%d steps", (int)result.steps);
    lab_close(&lab);
}

TEST(specifications_are_completed) {
    struct train_spec s;
    struct err e = {0};
    param_parse(&s, train_params, NULL, "", NULL);
    ok(train_check(&s, true, true, &e) == 0 && s.epochs == 10 && s.momentum == 0.9 && s.seed == 1, "%s", e.text);
    s.steps = 5;
    ok(train_check(&s, true, true, &e) == E_INVALID && !strcmp(e.pointer, "/train/steps"), "%s", e.text);
    err_clear(&e);
    param_parse(&s, train_params, NULL, "", NULL);
    s.has_early_stop = true;
    ok(train_check(&s, false, true, &e) == E_INVALID && !strcmp(e.pointer, "/train/early_stop/metric"), "%s", e.text);
}

TEST_MAIN
