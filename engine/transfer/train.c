/* train.c - method "train": a network learns from labels alone. */
#include <string.h>

#include "base/memory.h"
#include "engine/nn/net.h"
#include "engine/nn/train.h"
#include "engine/transfer/layers.h"
#include "engine/transfer/material.h"
#include "engine/transfer/method.h"
#include "engine/transfer/report.h"
#include "engine/transfer/restart.h"
#include "engine/transfer/student.h"

#define MAX_FREEZE 64

struct head_spec {
    int64_t classes;
};

struct train_method_spec {
    char model[REFERENCE_SIZE];
    struct student_spec student;
    bool has_student;
    struct dataset_spec dataset, evaluate;
    bool has_evaluate;
    double holdout;
    char freeze[MAX_FREEZE][LAYER_PATTERN_SIZE];
    int n_freeze;
    struct head_spec new_head;
    bool has_new_head;
    struct train_spec train;
    int restart; /* enum restart */
    char output[OUTPUT_SIZE];
};

static const struct param pattern_params[] = {
    {.name = "layer",
     .type = PARAM_TYPE_STRING,
     .size = LAYER_PATTERN_SIZE,
     .present_offset = PARAM_NO_PRESENT,
     .help = "name of a layer or parameter; * and ? stand for any"},
    PARAM_END,
};

static const struct param head_params[] = {
    {.name = "classes",
     .type = PARAM_TYPE_INT,
     PARAM_AT(struct head_spec, classes),
     .required = true,
     .low = 2,
     .high = 1 << 20,
     .help = "outputs of the new last layer"},
    PARAM_END,
};

static const struct param train_method_params[] = {
    PARAM_MODEL(struct train_method_spec, model, false,
                "the network to go on training, or whose shape student.width scales"),
    PARAM_OPTIONAL(struct train_method_spec, student, has_student, student_params, NULL,
                   "a network of another shape, with new weights unless init keeps those of a model"),
    {.name = "dataset",
     .type = PARAM_TYPE_OBJECT,
     PARAM_AT(struct train_method_spec, dataset),
     .required = true,
     .fields = dataset_params,
     .bare = "ref",
     .help = "inputs and labels to train on"},
    PARAM_OPTIONAL(struct train_method_spec, evaluate, has_evaluate, dataset_params, "ref",
                   "what to evaluate on after every epoch; prepared like dataset unless it says how"),
    PARAM_REAL(struct train_method_spec, holdout, "0.1", 0, 0.9,
               "share of dataset kept for evaluation when evaluate is not given"),
    PARAM_LIST(struct train_method_spec, freeze, n_freeze, pattern_params,
               "layers that are not trained, like [\"conv1*\"]; running statistics still follow the data"),
    PARAM_OPTIONAL(struct train_method_spec, new_head, has_new_head, head_params, NULL, "a fresh last layer"),
    PARAM_OBJECT(struct train_method_spec, train, train_params, NULL, "how to train"),
    PARAM_CHOICE(
        struct train_method_spec, restart, "\"parent\"", RESTART_CHOICES,
        "with the state of the optimizer that an earlier training of model has left, if it has and nothing is new; or fresh"),
    PARAM_STRING(struct train_method_spec, output, NULL, "name of the result; <model>-trained when not given"),
    PARAM_END,
};

/* Everything loaded and checked, nothing computed yet. */
struct course {
    struct network template; /* empty without `model` */
    struct network net;
    struct material material;
    struct loss_plan plan;
};

static void course_fini(struct course *c) {
    network_fini(&c->template);
    network_fini(&c->net);
    material_fini(&c->material);
}

/* The shape that samples of a data set have as an input: images without channels get one. */
static int input_of_data(struct shape *out, const struct train_method_spec *s, const struct host *host, struct err *e) {
    struct data_array inputs;
    int status = host->load_array(&inputs, NULL, host->context, s->dataset.ref, "inputs", e);
    if (status) {
        if (e && !e->pointer[0]) text_copy(e->pointer, sizeof e->pointer, "/dataset");
        return status;
    }
    const struct shape *stored = &inputs.shape;
    *out = *stored;
    if (stored->rank == 3 && s->dataset.layout == 0) { /* [N,H,W] */
        *out = (struct shape){.rank = 4, .dim = {0, 1, stored->dim[1], stored->dim[2]}};
    } else if (stored->rank == 4 && s->dataset.layout == 1) { /* [N,H,W,C] */
        *out = (struct shape){.rank = 4, .dim = {0, stored->dim[3], stored->dim[1], stored->dim[2]}};
    }
    out->dim[0] = DIM_BATCH;
    return 0;
}

static int build_student(struct course *c, struct train_method_spec *s, const struct host *host, bool sizes_only,
                         struct err *e) {
    struct student_origin origin = {.data = &s->dataset, .seed = (uint64_t)s->train.seed, .sizes_only = sizes_only};
    int status = 0;
    if (s->model[0]) {
        status = network_load(&c->template, host, s->model, &s->dataset, "/model", e);
        origin.template = &c->template;
        origin.input = c->template.input;
    } else if (s->student.n_layers) {
        status = input_of_data(&origin.input, s, host, e);
    }
    return status ? status : student_build(&c->net, &s->student, &origin, host, e);
}

static int load_net(struct course *c, struct train_method_spec *s, const struct host *host, bool sizes_only,
                    struct err *e) {
    if (!s->model[0] && !s->has_student)
        return err_set_at(e, E_INVALID, "/model", "what to train is missing: give model, student, or both");
    int status;
    if (s->has_student) {
        status = student_check(&s->student, e);
        if (!status) status = build_student(c, s, host, sizes_only, e);
    } else {
        status = network_load(&c->net, host, s->model, &s->dataset, "/model", e);
        if (!status && s->restart == RESTART_PARENT && !s->has_new_head)
            status = restart_recall(c->net.graph, host, s->model, e);
    }
    if (!status && s->has_new_head) status = layers_new_head(&c->net, s->new_head.classes, (uint64_t)s->train.seed, e);
    for (int i = 0; i < s->n_freeze && !status; i++) {
        char pointer[64];
        text_print(pointer, sizeof pointer, "/freeze/%d", i);
        status = layers_freeze(c->net.graph, s->freeze[i], pointer, e);
    }
    return status ? status : layers_check_trainable(c->net.graph, e);
}

static int prepare(struct course *c, struct train_method_spec *s, const struct host *host, bool sizes_only,
                   struct err *e) {
    *c = (struct course){0};
    int status = load_net(c, s, host, sizes_only, e);
    if (status) return status;
    if (s->has_evaluate) material_inherit(&s->evaluate, &s->dataset);
    struct material_spec wish = {&s->dataset, s->has_evaluate ? &s->evaluate : NULL, s->holdout,
                                 (uint64_t)s->train.seed};
    status = material_open(&c->material, &wish, host, &c->net.input, c->net.classes, e);
    if (!status && !c->material.train_set.labels)
        status = err_set_at(e, E_INVALID, "/dataset",
                            "data set %s has no array \"labels\", which this method learns from", s->dataset.ref);
    struct loss_spec ce = {.kind = LOSS_CE, .weight = 1, .temperature = 1};
    if (!status) status = loss_plan(&c->plan, &ce, 1, true, false, e);
    if (!status && s->train.has_early_stop && c->material.eval.n == 0)
        status = err_set_at(e, E_INVALID, "/train/early_stop",
                            "without an evaluation nothing says when to stop: give evaluate or holdout");
    if (!status) restart_complete(&s->train, c->net.graph, c->material.train.n);
    if (!status) status = train_check(&s->train, c->material.evaluated->labels, false, e);
    if (!status) status = restart_check(&s->train, c->net.graph, c->material.train.n, e);
    const char *stem = s->model[0] ? s->model : s->student.model[0] ? s->student.model : s->dataset.ref;
    if (!status) report_output(s->output, sizeof s->output, stem, "-trained");
    return status;
}

static int train_check_spec(void *spec, const struct host *host, struct graph_size *student, struct err *e) {
    struct course *c = mem_calloc(1, sizeof *c);
    if (!c) return err_memory(e, sizeof *c);
    int status = prepare(c, spec, host, true, e);
    if (!status && student) *student = c->net.size;
    course_fini(c);
    mem_free(c);
    return status;
}

static void write_report(struct outcome *out, const struct course *c, const struct train_method_spec *s,
                         const struct graph_training *kept, const struct train_result *result) {
    report_metrics(&out->metrics, &c->net.size, &result->score, result);
    text_init(&out->report, REPORT_MAX);
    struct json_writer w = json_writer(&out->report);
    json_open_object(&w, NULL);
    report_network(&w, "student", s->output, &c->net.size, 0, &result->score);
    json_put_int(&w, "trained_on", (int64_t)c->material.train.n);
    json_put_int(&w, "evaluated_on", (int64_t)c->material.eval.n);
    json_put_string(&w, "evaluation", c->material.described);
    json_open_object(&w, "restart");
    restart_report(&w, kept, &s->train, result->steps);
    json_close_object(&w);
    report_training(&w, result, &c->plan);
    json_close_object(&w);
}

static int learn(struct outcome *out, struct course *c, const struct train_method_spec *s, const struct host *host,
                 struct err *e) {
    struct crew *crew = NULL;
    struct train_result result;
    struct train_task task = {.spec = &s->train,
                              .loss = &c->plan,
                              .train = c->material.train,
                              .eval = c->material.eval,
                              .memory = host->memory,
                              .keep_memory = s->train.keep_optimizer};
    struct train_hooks hooks = report_hooks(host);
    struct graph_training kept = c->net.graph->training;
    restart_plan(&task, c->net.graph);
    network_fini(&c->template);
    int status = crew_new(&crew, host->threads, e);
    if (!status) status = train_run(&result, c->net.graph, crew, &task, &hooks, e);
    crew_free(crew);
    if (status) return status;
    write_report(out, c, s, &kept, &result);
    status = report_check(out, e);
    return status ? status : network_restore(&out->student, &c->net, e);
}

static int train_run_spec(struct outcome *out, const void *spec, const struct host *host, struct err *e) {
    *out = (struct outcome){0};
    struct train_method_spec *s = mem_copy(spec, sizeof *s);
    struct course *c = mem_calloc(1, sizeof *c);
    int status = s && c ? 0 : err_memory(e, sizeof *s + sizeof *c);
    if (!status) {
        status = prepare(c, s, host, false, e);
        if (!status) status = learn(out, c, s, host, e);
        course_fini(c);
    }
    mem_free(c);
    mem_free(s);
    if (status) outcome_free(out);
    return status;
}

const struct method method_train = {
    .name = "train",
    .summary = "a network learns from labels alone",
    .params = train_method_params,
    .spec_size = sizeof(struct train_method_spec),
    .check = train_check_spec,
    .run = train_run_spec,
};
