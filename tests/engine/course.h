/* course.h - a small network that has something to learn, and courses of training on it, with checkpoints and a log. */
#ifndef TESTS_ENGINE_COURSE_H
#define TESTS_ENGINE_COURSE_H

#include "engine/formats/training_memory.h"
#include "engine/nn/optimizer.h"
#include "engine/nn/train.h"
#include "engine/transfer/init.h"
#include "engine/transfer/student.h"
#include "tests/engine/memory_host.h"

enum { SAMPLES = 1024, SIDE = 8, CLASSES = 4, BATCH = 64, BEFORE = 300, AFTER = 100, LONG = 200, MOST = 700 };
enum { SGD, ADAM, RMSPROP, RULES };

static const double rates[RULES] = {0.02, 0.002, 0.001};

/* ---- a network and data that it cannot learn by heart ---- */

static float images[SAMPLES][SIDE][SIDE];
static int32_t labels[SAMPLES];

/* A bright bar in one of four directions, in noise, and one label in ten is wrong. */
static inline void make_data(bool all_alike) {
    struct random r = random_seed(7);
    for (int i = 0; i < SAMPLES; i++) {
        int at = (int)random_below(&r, SIDE), kind = (int)random_below(&r, CLASSES);
        for (int y = 0; y < SIDE; y++)
            for (int x = 0; x < SIDE; x++) {
                int line = kind == 0 ? y : kind == 1 ? x : kind == 2 ? (x + y) % SIDE : (x - y + SIDE) % SIDE;
                images[i][y][x] = (float)(0.8 * random_normal(&r) + (line == at ? 1 : 0));
            }
        labels[i] = random_unit(&r) < 0.1 ? (int32_t)random_below(&r, CLASSES) : kind;
    }
    for (int i = 1; i < SAMPLES && all_alike; i++) {
        memcpy(images[i], images[0], sizeof images[0]);
        labels[i] = labels[0];
    }
}

static inline struct graph *small_net(bool norm) {
    enum { ROOM = 11 };
    static const struct layer_spec nothing = {.op = -1,
                                              .conv = PARAM_ABSENT,
                                              .dense = PARAM_ABSENT,
                                              .maxpool = PARAM_ABSENT,
                                              .avgpool = PARAM_ABSENT,
                                              .dropout = (double)NAN,
                                              .kernel = PARAM_ABSENT,
                                              .stride = PARAM_ABSENT,
                                              .pad = PARAM_ABSENT,
                                              .groups = PARAM_ABSENT};
    struct layer_spec l[ROOM];
    int n = 0, relu = param_word_index(layer_params[0].choices, "relu");
    for (int i = 0; i < ROOM; i++) l[i] = nothing;
    for (int i = 0; i < 2; i++) {
        l[n++].conv = 8;
        if (norm) l[n++].op = param_word_index(layer_params[0].choices, "batchnorm");
        l[n++].op = relu;
        l[n++].maxpool = 2;
    }
    l[n++].dense = 16;
    l[n++].op = relu;
    l[n++].dense = CLASSES;
    struct shape input = {.rank = 4, .dim = {DIM_BATCH, 1, SIDE, SIDE}};
    struct graph *g = NULL;
    struct err e = {0};
    int status = student_check_layers(l, n, &e);
    if (!status) status = student_chain(&g, l, n, &input, (size_t)1 << 20, &e);
    if (!status) status = init_graph(g, 3, &e);
    ok(status == 0, "%s", e.text);
    return g;
}

struct course {
    struct memory_host world; /* for checkpoints */
    struct dataset data;
    struct loss_plan plan;
    struct train_spec spec;
    struct train_task task;
    char log[1024];
    double losses[MOST]; /* of every step */
};

static inline void hear_metric(void *context, const char *series, int64_t step, double value) {
    struct course *c = context;
    if (!strcmp(series, "train_loss") && step <= MOST) c->losses[step - 1] = value;
}

static inline void hear_log(void *context, const char *text) {
    struct course *c = context;
    if (!strstr(text, "memory:")) snprintf(c->log, sizeof c->log, "%s", text);
}

static inline void course_init(struct course *c, int rule, size_t samples, int64_t batch) {
    struct data_array x = {.type = DT_FLOAT32, .data = images, .shape = {.rank = 3, .dim = {SAMPLES, SIDE, SIDE}}};
    struct data_array y = {.type = DT_INT32, .data = labels, .shape = {.rank = 1, .dim = {SAMPLES}}};
    struct dataset_spec spec = {.ref = "bars", .scale = 1, .limit = PARAM_ABSENT};
    struct shape input = {.rank = 4, .dim = {DIM_BATCH, 1, SIDE, SIDE}};
    struct loss_spec ce = {.kind = LOSS_CE, .weight = 1, .temperature = 1};
    struct err e = {0};
    memset(c, 0, sizeof *c);
    ok(dataset_open(&c->data, &spec, &x, &y, &input, CLASSES, &e) == 0, "%s", e.text);
    loss_plan(&c->plan, &ce, 1, true, false, NULL);
    param_parse(&c->spec, train_params, NULL, "", NULL);
    c->spec.optimizer = rule;
    c->spec.learning_rate = rates[rule];
    c->spec.batch = batch;
    c->task = (struct train_task){
        .spec = &c->spec, .loss = &c->plan, .train = {&c->data, NULL, samples}, .go_on = true, .keep_memory = true};
}

/* ---- checkpoints ---- */

static inline int stop_there(void *context, int64_t step, int64_t steps, struct err *e) {
    return mh_progress(&((struct course *)context)->world, step, steps, e);
}

static inline bool due(void *context) {
    return mh_checkpoint_due(&((struct course *)context)->world);
}

static inline int save(const struct checkpoint_part *pieces, int n, void *context, struct err *e) {
    return mh_checkpoint_save(pieces, n, &((struct course *)context)->world, e);
}

static inline int find(struct checkpoint_source *out, void *context, struct err *e) {
    return mh_checkpoint_find(out, &((struct course *)context)->world, e);
}

/* ---- a run ---- */

static inline bool course_run(struct course *c, struct graph *g, int64_t steps, int64_t seed) {
    struct crew *crew;
    struct train_result result;
    struct train_hooks hooks = {.context = c,
                                .metric = hear_metric,
                                .log = hear_log,
                                .progress = stop_there,
                                .checkpoint_due = due,
                                .checkpoint_save = save,
                                .checkpoint_find = find};
    struct err e = {0};
    c->log[0] = 0;
    c->spec.steps = steps;
    c->spec.epochs = PARAM_ABSENT;
    c->spec.seed = seed;
    int status = train_check(&c->spec, true, false, &e);
    if (!status) status = crew_new(&crew, 1, &e);
    if (!status) status = train_run(&result, g, crew, &c->task, &hooks, &e);
    crew_free(crew);
    return c->world.stop_at ? ok(status == E_CANCELLED, "%s", e.text) : ok(status == 0, "%s", e.text);
}

/* What the graph keeps goes through a file, as from one job to another. */
/* What an optimizer keeps, out of a file. */
static inline int course_read(struct graph *g, const struct text *file, struct err *e) {
    struct training_memory_reader *r = NULL;
    int status = training_memory_reader_new(&r, g, e);
    if (!status) status = training_memory_reader_feed(r, file->data, file->length, e);
    if (!status) status = training_memory_reader_finish(r, e);
    training_memory_reader_free(r);
    return status;
}

static inline bool through_bytes(struct graph *g) {
    struct text file;
    struct err e = {0};
    text_init(&file, 1 << 24);
    int status = training_memory_write(byte_sink_text(&file), g, &e);
    if (!status) status = course_read(g, &file, &e);
    text_free(&file);
    return ok(status == 0, "%s", e.text);
}

#endif
