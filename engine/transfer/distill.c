/* distill.c - method "distill": a student learns a teacher's answers (Hinton et al. 2015, arXiv:1503.02531). */
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "engine/nn/net.h"
#include "engine/nn/train.h"
#include "engine/transfer/material.h"
#include "engine/transfer/method.h"
#include "engine/transfer/report.h"
#include "engine/transfer/student.h"
#include "engine/transfer/teacher.h"

struct distill_spec {
    struct teacher_spec teacher[TARGETS_MAX];
    int n_teachers;
    struct dataset_spec dataset, evaluate;
    bool has_evaluate;
    double holdout;
    struct student_spec student;
    struct loss_spec loss[LOSS_MAX_TERMS];
    int n_loss;
    struct train_spec train;
    char output[OUTPUT_SIZE];
};

static const struct param loss_element[] = {
    {.name = "term",
     .type = PARAM_TYPE_OBJECT,
     .size = sizeof(struct loss_spec),
     .present_offset = PARAM_NO_PRESENT,
     .fields = loss_params,
     .bare = "kind",
     .help = "one term of the loss"},
    PARAM_END,
};

static const struct param distill_params[] = {
    {.name = "teacher",
     .type = PARAM_TYPE_LIST,
     .required = true,
     .offset = offsetof(struct distill_spec, teacher),
     .size = sizeof(struct teacher_spec),
     .count_offset = offsetof(struct distill_spec, n_teachers),
     .max = TARGETS_MAX,
     .present_offset = PARAM_NO_PRESENT,
     .fields = teacher_list_params,
     .help = "the network to learn from, or several"},
    {.name = "dataset",
     .type = PARAM_TYPE_OBJECT,
     PARAM_AT(struct distill_spec, dataset),
     .required = true,
     .fields = dataset_params,
     .bare = "ref",
     .help = "what to train on: inputs, and labels if there are any"},
    PARAM_OPTIONAL(struct distill_spec, evaluate, has_evaluate, dataset_params, "ref",
                   "what to evaluate on after every epoch; prepared like dataset unless it says how"),
    PARAM_REAL(struct distill_spec, holdout, "0.1", 0, 0.9,
               "share of dataset kept for evaluation when evaluate is not given"),
    {.name = "student",
     .type = PARAM_TYPE_OBJECT,
     PARAM_AT(struct distill_spec, student),
     .required = true,
     .fields = student_params,
     .help = "the network that learns"},
    {.name = "loss",
     .type = PARAM_TYPE_LIST,
     .offset = offsetof(struct distill_spec, loss),
     .size = sizeof(struct loss_spec),
     .count_offset = offsetof(struct distill_spec, n_loss),
     .max = LOSS_MAX_TERMS,
     .present_offset = PARAM_NO_PRESENT,
     .fields = loss_element,
     .standard = "[{\"kind\":\"kl\"}]",
     .help = "what is minimised: a term, or a list of weighted ones"},
    PARAM_OBJECT(struct distill_spec, train, train_params, NULL, "how to train"),
    PARAM_STRING(struct distill_spec, output, NULL, "name of the student; <teacher>-student when not given"),
    PARAM_END,
};

/* Everything loaded and checked, nothing computed yet. */
struct distillation {
    struct teachers teachers;
    struct network student;
    struct material material;
    struct loss_plan plan;
};

static void distillation_fini(struct distillation *d) {
    teachers_fini(&d->teachers);
    network_fini(&d->student);
    material_fini(&d->material);
}

static int check_training(struct distillation *d, struct distill_spec *s, struct err *e) {
    bool evaluates = d->material.eval.n > 0;
    int64_t steps, each;
    int status = loss_plan(&d->plan, s->loss, s->n_loss, d->material.train_set.labels, true, e);
    if (!status && s->train.has_early_stop && !evaluates)
        status = err_set_at(e, E_INVALID, "/train/early_stop",
                            "without an evaluation nothing says when to stop: give evaluate or holdout");
    if (!status) status = train_check(&s->train, d->material.evaluated->labels, true, e);
    return status ? status : train_steps(&steps, &each, &s->train, d->material.train.n, 0, e);
}

static int prepare(struct distillation *d, struct distill_spec *s, const struct host *host, bool sizes_only,
                   struct err *e) {
    *d = (struct distillation){0};
    int status = student_check(&s->student, e);
    if (!status) status = teachers_load(&d->teachers, s->teacher, s->n_teachers, &s->dataset, host, e);
    if (status) return status;
    const struct network *teacher = &d->teachers.nets[0];
    if (s->has_evaluate) material_inherit(&s->evaluate, &s->dataset);
    struct material_spec wish = {&s->dataset, s->has_evaluate ? &s->evaluate : NULL, s->holdout,
                                 (uint64_t)s->train.seed};
    status = material_open(&d->material, &wish, host, &teacher->input, teacher->classes, e);
    if (!status) status = check_training(d, s, e);
    struct student_origin origin = {.template = teacher,
                                    .data = &s->dataset,
                                    .input = teacher->input,
                                    .classes = teacher->classes,
                                    .seed = (uint64_t)s->train.seed,
                                    .sizes_only = sizes_only};
    if (!status) status = student_build(&d->student, &s->student, &origin, host, e);
    if (!status) report_output(s->output, sizeof s->output, s->teacher[0].model, "-student");
    return status;
}

static int distill_check(void *spec, const struct host *host, struct graph_size *student, struct err *e) {
    struct distillation *d = mem_calloc(1, sizeof *d);
    if (!d) return err_memory(e, sizeof *d);
    int status = prepare(d, spec, host, true, e);
    if (!status && student) *student = d->student.size;
    distillation_fini(d);
    mem_free(d);
    return status;
}

/* ---- the run ---- */

struct distill_run {
    struct distillation d;
    const struct distill_spec *spec;
    const struct host *host;
    struct crew *crew;
    struct targets train_targets, eval_targets; /* eval_targets only with an evaluation set of its own */
    struct score teacher_scores[TARGETS_MAX];
    bool guessing[TARGETS_MAX]; /* which teachers score like chance */
    struct train_result result;
};

static const struct targets *targets_of_eval(const struct distill_run *r) {
    return r->spec->has_evaluate ? &r->eval_targets : &r->train_targets;
}

static int ask_teachers(struct distill_run *r, struct err *e) {
    const struct material *m = &r->d.material;
    int status = teachers_answer(&r->train_targets, &r->d.teachers, &m->train_set, r->host, r->crew, e);
    if (!status && r->spec->has_evaluate)
        status = teachers_answer(&r->eval_targets, &r->d.teachers, &m->eval_set, r->host, r->crew, e);
    return status;
}

/* Scores the teachers where the student will be scored (on all training data when nothing is held out). */
static int judge_teachers(struct distill_run *r, struct err *e) {
    const struct material *m = &r->d.material;
    const struct selection *s = m->eval.n ? &m->eval : &m->train;
    size_t classes = (size_t)r->d.student.classes;
    double majority = 1;
    int status = teachers_score(r->teacher_scores, &r->d.teachers, m->eval.n ? targets_of_eval(r) : &r->train_targets,
                                s, r->host, r->crew, e);
    if (status || !s->data->labels.data) return status;
    status = evaluate_majority(&majority, s, classes, e);
    for (int i = 0; i < r->d.teachers.n && !status; i++) {
        double accuracy = r->teacher_scores[i].accuracy;
        const char *name = r->spec->teacher[i].model;
        r->guessing[i] = teacher_is_guessing(accuracy, majority, classes, s->n);
        if (r->guessing[i])
            report_log(
                r->host,
                "warning: the teacher, %s, scores %.4f on %s, no better than chance: check scale, mean, std, layout and "
                "the order of the classes",
                name, accuracy, m->described);
        else
            report_log(r->host, "the teacher, %s, scores %.4f on %s", name, accuracy, m->described);
    }
    return status;
}

static int teach(struct distill_run *r, struct err *e) {
    struct train_task task = {
        .spec = &r->spec->train,
        .loss = &r->d.plan,
        .train = r->d.material.train,
        .train_targets = r->train_targets,
        .eval = r->d.material.eval,
        .eval_targets = *targets_of_eval(r),
        .memory = r->host->memory,
        .keep_memory = r->spec->train.keep_optimizer,
    };
    struct train_hooks hooks = report_hooks(r->host);
    for (int i = 0; i < r->d.teachers.n; i++) network_forget(&r->d.teachers.nets[i]); /* they have said everything */
    return train_run(&r->result, r->d.student.graph, r->crew, &task, &hooks, e);
}

static void write_warnings(struct json_writer *w, const struct distill_run *r) {
    json_open_array(w, "warnings");
    for (int i = 0; i < r->d.teachers.n; i++) {
        if (!r->guessing[i]) continue;
        char line[REFERENCE_SIZE + 160];
        text_print(line, sizeof line,
                   "teacher %s scores %.4f, no better than chance: its data is probably prepared differently",
                   r->spec->teacher[i].model, r->teacher_scores[i].accuracy);
        json_put_string(w, NULL, line);
    }
    json_close_array(w);
}

static void write_report(struct text *out, const struct distill_run *r) {
    const struct teachers *t = &r->d.teachers;
    const struct network *student = &r->d.student;
    text_init(out, REPORT_MAX);
    struct json_writer w = json_writer(out);
    json_open_object(&w, NULL);
    json_open_array(&w, "teachers");
    for (int i = 0; i < t->n; i++)
        report_network(&w, NULL, r->spec->teacher[i].model, &t->nets[i].size, t->nets[i].source.bytes,
                       &r->teacher_scores[i]);
    json_close_array(&w);
    report_network(&w, "student", r->spec->output, &student->size, 0, &r->result.score);
    json_open_object(&w, "student_to_teacher");
    report_number(&w, "parameters", (double)student->size.parameters / (double)t->nets[0].size.parameters);
    report_number(&w, "macs", (double)student->size.macs / (double)t->nets[0].size.macs);
    report_number(&w, "accuracy", r->result.score.accuracy / r->teacher_scores[0].accuracy);
    json_close_object(&w);
    json_put_int(&w, "trained_on", (int64_t)r->d.material.train.n);
    json_put_int(&w, "evaluated_on", (int64_t)r->d.material.eval.n);
    json_put_string(&w, "evaluation", r->d.material.described);
    report_training(&w, &r->result, &r->d.plan);
    write_warnings(&w, r);
    json_close_object(&w);
}

static int run_all(struct outcome *out, struct distill_run *r, struct err *e) {
    int status = crew_new(&r->crew, r->host->threads, e);
    if (!status) status = ask_teachers(r, e);
    if (!status) status = judge_teachers(r, e);
    if (!status) status = teach(r, e);
    if (status) return status;
    report_metrics(&out->metrics, &r->d.student.size, &r->result.score, &r->result);
    report_metrics(&out->teacher_metrics, &r->d.teachers.nets[0].size, &r->teacher_scores[0], NULL);
    write_report(&out->report, r);
    status = report_check(out, e);
    return status ? status : network_restore(&out->student, &r->d.student, e);
}

static int distill_run(struct outcome *out, const void *spec, const struct host *host, struct err *e) {
    *out = (struct outcome){0};
    struct distill_spec *s = mem_copy(spec, sizeof *s); /* prepare completes what is complete already */
    struct distill_run *r = mem_calloc(1, sizeof *r);
    int status = s && r ? 0 : err_memory(e, sizeof *s + sizeof *r);
    if (!status) {
        r->spec = s;
        r->host = host;
        status = prepare(&r->d, s, host, false, e);
        if (!status) status = run_all(out, r, e);
        crew_free(r->crew);
        distillation_fini(&r->d);
    }
    mem_free(r);
    mem_free(s);
    if (status) outcome_free(out);
    return status;
}

const struct method method_distill = {
    .name = "distill",
    .summary = "a smaller network learns the answers of one or several teachers",
    .params = distill_params,
    .spec_size = sizeof(struct distill_spec),
    .check = distill_check,
    .run = distill_run,
};
