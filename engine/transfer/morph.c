/* morph.c - method "morph": a network takes another shape and computes the same function, proved, and then perhaps trains
 * on (Net2Net, Network Morphism, Modularized Morphing; the way back to smaller). */
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "engine/nn/net.h"
#include "engine/nn/train.h"
#include "engine/surgery/aim.h"
#include "engine/surgery/morph.h"
#include "engine/surgery/proof.h"
#include "engine/transfer/calibration.h"
#include "engine/transfer/material.h"
#include "engine/transfer/method.h"
#include "engine/transfer/report.h"
#include "engine/transfer/restart.h"

struct morph_spec {
    char model[REFERENCE_SIZE];
    struct morph_step steps[MORPH_MAX_STEPS];
    int n_steps;
    struct morph_aim aim;
    bool has_aim;
    struct dataset_spec dataset, evaluate;
    bool has_dataset, has_evaluate;
    double holdout;
    struct train_spec train;
    bool has_train;
    int restart; /* enum restart */
    int64_t seed;
    char output[OUTPUT_SIZE];
};

static const struct param step_element[] = {
    {.name = "step",
     .type = PARAM_TYPE_OBJECT,
     .size = sizeof(struct morph_step),
     .present_offset = PARAM_NO_PRESENT,
     .fields = morph_step_params,
     .bare = "op",
     .help = "one step"},
    PARAM_END,
};

static const struct param morph_params[] = {
    PARAM_MODEL(struct morph_spec, model, true, "the parent"),
    PARAM_LIST(struct morph_spec, steps, n_steps, step_element, "what is done to it, in order"),
    {.name = "auto",
     .type = PARAM_TYPE_OBJECT,
     .offset = offsetof(struct morph_spec, aim),
     .size = sizeof(struct morph_aim),
     .present_offset = offsetof(struct morph_spec, has_aim),
     .fields = morph_aim_params,
     .help = "a size to reach instead of steps: all layers are widened or narrowed alike"},
    PARAM_OPTIONAL(struct morph_spec, dataset, has_dataset, dataset_params, "ref",
                   "data to compare parent and child on, for statistics and calibration, and to train on"),
    PARAM_OPTIONAL(struct morph_spec, evaluate, has_evaluate, dataset_params, "ref",
                   "what to evaluate on; prepared like dataset unless it says how"),
    PARAM_REAL(struct morph_spec, holdout, "0.1", 0, 0.9,
               "share of dataset kept for evaluation when evaluate is not given"),
    PARAM_OPTIONAL(struct morph_spec, train, has_train, train_params, NULL,
                   "how to train the child on; not at all when it is not given"),
    PARAM_CHOICE(struct morph_spec, restart, "\"parent\"", RESTART_CHOICES,
                 "with the state of the parent's optimizer, mapped to the child, when training has left one; or fresh"),
    PARAM_INT(struct morph_spec, seed, "1", 0, 1e15, "of what is drawn: which channels are copied, fresh weights"),
    PARAM_STRING(struct morph_spec, output, NULL, "name of the child; <model>-morph when not given"),
    PARAM_END,
};

/* ---- opening ---- */

/* Everything loaded and checked, nothing changed yet. */
struct transformation {
    struct network parent; /* with data its answer is the logits */
    bool fed;              /* there is data */
    struct material material;
    struct loss_plan loss;
    struct calibration calibration;
    struct morphing morphing; /* the child */
    bool exact;               /* every step claims to be */
    const char *training;     /* why parent and child may differ in training; NULL: they may not */
    struct graph *base;       /* what the last lossy step made; NULL: the parent */
    const char *since;        /* as `training`, of the steps since */
    struct morph_run *run;    /* which proves; NULL in a check */
};

static int prove_since(struct transformation *t, struct json_writer *w, struct err *e);

static void transformation_fini(struct transformation *t) {
    morphing_fini(&t->morphing);
    graph_free(t->base);
    calibration_fini(&t->calibration);
    material_fini(&t->material);
    network_fini(&t->parent);
}

/* Any network can take another shape; data goes into one with one input and one output only. */
static int load_parent(struct transformation *t, struct morph_spec *s, const struct host *host, struct err *e) {
    t->fed = s->has_dataset;
    if (t->fed) return network_load(&t->parent, host, s->model, &s->dataset, "/model", e);
    int status = host->load_graph(&t->parent.graph, &t->parent.source, host->context, s->model, e);
    if (status && e && !e->pointer[0]) text_copy(e->pointer, sizeof e->pointer, "/model");
    if (!status && t->parent.graph->n_free_axes)
        status =
            err_set_at(e, E_INVALID, "/dataset", "the network leaves sizes open: a dataset would say which they are");
    return status ? status : graph_measure(&t->parent.size, t->parent.graph, e);
}

static int open_data(struct transformation *t, struct morph_spec *s, const struct host *host, struct err *e) {
    if (!t->fed && s->has_train) return err_set_at(e, E_INVALID, "/dataset", "training needs a dataset");
    if (!t->fed && s->has_evaluate)
        return err_set_at(
            e, E_INVALID, "/evaluate",
            "there is nothing to evaluate without a dataset: name one, for which that of evaluate will do, "
            "or leave evaluate out");
    if (!t->fed) return 0;
    if (s->has_evaluate) material_inherit(&s->evaluate, &s->dataset);
    struct material_spec wish = {&s->dataset, s->has_evaluate ? &s->evaluate : NULL, s->holdout, (uint64_t)s->seed};
    int status = material_open(&t->material, &wish, host, &t->parent.input, t->parent.classes, e);
    if (status || !s->has_train) return status;
    struct loss_spec ce = {.kind = LOSS_CE, .weight = 1, .temperature = 1};
    if (!t->material.train_set.labels)
        return err_set_at(e, E_INVALID, "/dataset", "data set %s has no array \"labels\" to train on", s->dataset.ref);
    status = loss_plan(&t->loss, &ce, 1, true, false, e);
    restart_complete(&s->train, t->parent.graph, t->material.train.n);
    if (!status) status = train_check(&s->train, t->material.evaluated->labels, false, e);
    return status ? status : restart_check(&s->train, t->parent.graph, t->material.train.n, e);
}

static int check_steps(struct morph_spec *s, struct err *e) {
    int status = 0;
    if ((s->n_steps > 0) == s->has_aim) return err_set_at(e, E_INVALID, "/steps", "give either steps or auto");
    if (s->has_aim) return morph_aim_check(&s->aim, "/auto", e);
    for (int i = 0; i < s->n_steps && !status; i++) {
        char at[32];
        text_print(at, sizeof at, "/steps/%d", i);
        status = morph_check(&s->steps[i], at, e);
    }
    return status;
}

static int keep_alive(void *context, struct err *e) {
    const struct host *host = context;
    return host->progress ? host->progress(host->context, 0, 0, e) : 0;
}

static int prepare(struct transformation *t, struct morph_spec *s, const struct host *host, struct err *e) {
    struct graph *child;
    *t = (struct transformation){.exact = true};
    int status = check_steps(s, e);
    if (!status) status = load_parent(t, s, host, e);
    if (!status && s->restart == RESTART_PARENT) status = restart_recall(t->parent.graph, host, s->model, e);
    if (!status) status = open_data(t, s, host, e);
    if (!status) status = graph_clone(&child, t->parent.graph, e);
    if (status) return status;
    graph_forget_training(t->parent.graph); /* the child has it */
    report_output(s->output, sizeof s->output, s->model, "-morph");
    morphing_init(&t->morphing, child, (uint64_t)s->seed, NULL);
    t->morphing.memory = host->memory;
    t->morphing.tick = (struct tick){keep_alive, (void *)(size_t)host};
    return 0;
}

/* ---- the steps ---- */

/* What a job may hold: the values of parent and child at least. */
static int check_size(const struct transformation *t, const struct host *host, struct err *e) {
    struct graph_size size;
    int status = graph_measure(&size, t->morphing.graph, e);
    double needed = ((double)size.parameters + (double)t->parent.size.parameters) * sizeof(float);
    if (status || !host->memory || needed <= (double)host->memory) return status;
    return err_set(
        e, E_TOO_LARGE,
        "the network gets %lld parameters: with those of its parent they take %.0f bytes, and a job may take "
        "%zu",
        (long long)size.parameters, needed, host->memory);
}

/* Whether the proof will find the memory that it needs. */
static int check_proof(const struct transformation *t, const struct morph_spec *s, const struct host *host,
                       struct err *e) {
    struct proof_options options = {.seed = (uint64_t)s->seed, .threads = host->threads, .memory = host->memory};
    struct err why = {0};
    int status = proof_fits(t->parent.graph, t->morphing.graph, &options, &why);
    if (!status) return 0;
    return err_set_at(e, status, s->has_aim ? "/auto" : "/steps",
                      "the child is compared with its parent, on one sample at least: %s", why.text);
}

/* From a lossy step on, what is exact is so of what that made. norms: before the step. */
static int note_step(struct transformation *t, const struct morph_step *step, int norms, struct err *e) {
    const char *differs = morph_training(step, norms, t->morphing.graph);
    if (differs && !t->training) t->training = differs;
    if (differs && !t->since) t->since = differs;
    if (morph_is_exact(step)) return 0;
    t->exact = false;
    t->since = NULL;
    graph_free(t->base);
    t->base = NULL;
    return graph_clone(&t->base, t->morphing.graph, e);
}

/* The value that the child gives out when it is stored; names outlive steps. VALUE_NONE without data. */
static int find_answer(const struct transformation *t) {
    return t->fed ? graph_find_value(t->morphing.graph, t->parent.graph->values[t->parent.answer].name) : VALUE_NONE;
}

/* A step may have put something between what were the logits and the final Softmax. */
static int find_logits(struct transformation *t, struct err *e) {
    struct graph *g = t->morphing.graph;
    int answer = find_answer(t), logits;
    if (answer < 0 || t->parent.answer == t->parent.graph->outputs[0]) return 0;
    logits = network_logits(g, answer);
    if (logits == g->outputs[0]) return 0;
    g->outputs[0] = logits;
    return morphing_finish(&t->morphing, e);
}

/* ends: the last of some exact steps in a row that has lossy ones before or behind it. */
static int apply_one(struct transformation *t, const struct morph_step *step, bool ends, const char *at,
                     const struct host *host, struct json_writer *w, struct err *e) {
    if (w) json_open_object(w, NULL);
    int norms = morph_count_norms(t->morphing.graph), status = morph_apply(&t->morphing, step, w, e);
    if (!status) status = find_logits(t, e);
    if (!status) status = check_size(t, host, e);
    if (!status) status = note_step(t, step, norms, e);
    if (status && e && !e->pointer[0]) text_copy(e->pointer, sizeof e->pointer, at);
    if (!status && ends && t->run) status = prove_since(t, w, e);
    if (w) json_close_object(w);
    return status;
}

/* Whether the exact step is the last before a lossy one, or before the end of steps of which one was lossy. */
static bool ends_exact_steps(const struct transformation *t, const struct morph_step *steps, int i, int n) {
    if (!morph_is_exact(&steps[i])) return false;
    return i + 1 < n ? !morph_is_exact(&steps[i + 1]) : !t->exact;
}

static int apply_all(struct transformation *t, const struct morph_spec *s, const struct host *host,
                     struct json_writer *w, struct err *e) {
    struct morph_step *aimed = NULL;
    int status = 0, n = s->n_steps;
    if (s->has_aim) {
        aimed = mem_calloc(1, sizeof *aimed);
        status = aimed ? morph_aim_step(aimed, &t->morphing, &s->aim, e) : err_memory(e, sizeof *aimed);
        if (status && e && !e->pointer[0]) text_copy(e->pointer, sizeof e->pointer, "/auto");
        n = 1;
    }
    if (w) json_open_array(w, "steps");
    for (int i = 0; i < n && !status; i++) {
        const struct morph_step *steps = aimed ? aimed : s->steps;
        char at[32];
        text_print(at, sizeof at, s->has_aim ? "/auto" : "/steps/%d", i);
        status = apply_one(t, &steps[i], ends_exact_steps(t, steps, i, n), at, host, w, e);
    }
    if (w) json_close_array(w);
    mem_free(aimed);
    return status;
}

static int morph_check_spec(void *spec, const struct host *host, struct graph_size *student, struct err *e) {
    struct transformation *t = mem_calloc(1, sizeof *t);
    if (!t) return err_memory(e, sizeof *t);
    int status = prepare(t, spec, host, e);
    if (!status) {
        graph_forget_training(t->morphing.graph);
        t->morphing.sketch = true;
        if (t->fed) calibration_promise(&t->calibration, &t->material.train, host);
        if (t->fed) t->morphing.data = &t->calibration.data;
        status = apply_all(t, spec, host, NULL, e);
        if (!status) status = check_proof(t, spec, host, e);
    }
    if (!status && student) status = graph_measure(student, t->morphing.graph, e);
    transformation_fini(t);
    mem_free(t);
    return status;
}

/* ---- the run ---- */

struct morph_run {
    struct transformation t;
    const struct morph_spec *spec;
    const struct host *host;
    struct crew *crew;
    struct proof proof; /* of the child */
    struct network child;
    struct score before, morphed, after; /* of the parent, the child, and the child trained on */
    struct graph_training kept;          /* what the child kept of the parent's training */
    struct train_result result;
    struct json_writer w; /* of the report */
};

/* What may help a proof that only rounding spoils: steps whose factors are the smaller the more channels are in between. */
static const char *advise(const struct morph_spec *s) {
    for (int i = 0; i < s->n_steps; i++) {
        const char *kind = morph_table[s->steps[i].op]->name;
        bool split = strcmp(kind, "deepen") == 0 && strcmp(s->steps[i].mode, "netmorph") == 0;
        if (split || strcmp(kind, "subnet") == 0 || strcmp(kind, "module") == 0)
            return "; a larger 'to' makes the factors of deepen, subnet and module smaller, so that less cancels";
    }
    return "";
}

/* The network as it is now against an earlier one: the same function if every step between claims to keep it. */
static int prove(struct proof *out, struct morph_run *r, const struct graph *from, bool exact, const char *training,
                 struct err *e) {
    struct transformation *t = &r->t;
    struct proof_options options = {
        .seed = (uint64_t)r->spec->seed,
        .threads = r->host->threads,
        .memory = r->host->memory,
        .training_expected = exact && !training,
        .training_reason = training,
        .approximate = !exact,
        .tick = {keep_alive, (void *)(size_t)r->host},
    };
    const float *data[] = {t->calibration.rows};
    if (t->fed) {
        options.data = data;
        options.data_samples = t->calibration.samples;
        options.logits = t->material.train_set.labels;
    }
    int status = proof_run(out, from, t->morphing.graph, &options, e);
    if (status) return status;
    char line[512];
    proof_describe(line, sizeof line, out);
    report_log(r->host, "%s%s", from == t->parent.graph ? "" : "since the last lossy step: ", line);
    if (!exact || out->exact) return 0;
    const struct proof_difference *d = &out->first;
    return err_set(e, E_INTERNAL, "the child does not compute the parent's function: %s; they part at node '%s'%s%s%s",
                   line, d->node ? d->node : "?", d->last_equal ? ", equal up to " : "",
                   d->last_equal ? d->last_equal : "", advise(r->spec));
}

static int prove_since(struct transformation *t, struct json_writer *w, struct err *e) {
    struct proof proof = {0};
    int status = prove(&proof, t->run, t->base ? t->base : t->parent.graph, true, t->since, e);
    if (!status) proof_write(w, "proof", &proof);
    proof_free(&proof);
    return status;
}

/* A network for as many samples at once as the memory does for, at most 128. */
static int open_scored(struct net **net, struct morph_run *r, struct graph *g, size_t n, struct err *e) {
    struct net_options options = {.batch = n < 128 ? (int)n : 128, .memory = r->host->memory};
    for (;; options.batch /= 2) {
        struct err why = {0};
        int status = net_new(net, g, r->crew, &options, &why);
        if (status == E_TOO_LARGE && options.batch > 1) continue;
        return status ? err_set(e, status, "%s", why.text) : 0;
    }
}

/* What a network answers: *logits [s->n, classes] with mem_free. */
static int answer(real **logits, struct morph_run *r, struct graph *g, const struct selection *s, struct err *e) {
    struct net *net = NULL;
    size_t classes = (size_t)r->t.parent.classes;
    *logits = mem_calloc(s->n, classes * sizeof **logits);
    int status = *logits ? open_scored(&net, r, g, s->n, e) : err_memory(e, s->n * classes * sizeof **logits);
    struct tick tick = {keep_alive, (void *)(size_t)r->host};
    if (!status) status = evaluate_logits(*logits, net, s, false, tick, e);
    net_free(net);
    return status;
}

static int score(struct score *out, struct morph_run *r, struct graph *g, struct err *e) {
    const struct selection *s = r->t.material.eval.n ? &r->t.material.eval : &r->t.material.train;
    real *logits;
    int status = answer(&logits, r, g, s, e);
    if (!status)
        status = evaluate_score(out, r->crew, logits, s, &(struct targets){.n = 0}, (size_t)r->t.parent.classes, e);
    mem_free(logits);
    return status;
}

static int not_finite(struct morph_run *r, size_t i, const char *what, struct err *e) {
    return err_set_at(e, E_INVALID, "/dataset",
                      "sample %u of data set %s %s: parent and child cannot be compared on it; repair the data, or say "
                      "scale, mean and std that suit the network",
                      selection_sample(&r->t.material.train, i), r->spec->dataset.ref, what);
}

/* What is not finite compares with nothing. */
static int check_data(struct morph_run *r, struct err *e) {
    const struct calibration *c = &r->t.calibration;
    struct selection s = r->t.material.train;
    size_t classes = (size_t)r->t.parent.classes;
    real *logits = NULL;
    int status = 0;
    s.n = c->samples;
    for (size_t i = 0; i < s.n * c->row; i++)
        if (!isfinite(c->rows[i])) return not_finite(r, i / c->row, "has a value that is not finite", e);
    if (s.n) status = answer(&logits, r, r->t.parent.graph, &s, e);
    for (size_t i = 0; i < s.n * classes && !status; i++)
        if (!isfinite(logits[i])) status = not_finite(r, i / classes, "makes the parent's answers infinite", e);
    mem_free(logits);
    return status;
}

static int train_on(struct morph_run *r, struct err *e) {
    struct train_task task = {.spec = &r->spec->train,
                              .loss = &r->t.loss,
                              .train = r->t.material.train,
                              .eval = r->t.material.eval,
                              .memory = r->host->memory,
                              .keep_memory = r->spec->train.keep_optimizer};
    struct train_hooks hooks = report_hooks(r->host);
    r->kept = r->child.graph->training;
    restart_plan(&task, r->child.graph);
    int status = train_run(&r->result, r->child.graph, r->crew, &task, &hooks, e);
    if (!status) r->after = r->result.score;
    return status;
}

/* The child as a network that data goes into. */
static int take_child(struct morph_run *r, struct err *e) {
    struct graph *g = r->t.morphing.graph;
    int answer = find_answer(&r->t);
    r->t.morphing.graph = NULL;
    if (!r->t.fed) {
        r->child.graph = g;
        r->child.answer = g->outputs[0];
        return graph_measure(&r->child.size, g, e);
    }
    if (answer >= 0) g->outputs[0] = answer; /* of which network_take finds the logits */
    return network_take(&r->child, g, e);
}

static void write_end(struct morph_run *r) {
    struct json_writer *w = &r->w;
    proof_write(w, "proof", &r->proof);
    report_network(w, "parent", r->spec->model, &r->t.parent.size, r->t.parent.source.bytes, &r->before);
    report_network(w, "student", r->spec->output, &r->child.size, 0, &r->after);
    if (r->spec->has_train) {
        json_open_object(w, "restart");
        restart_report(w, &r->kept, &r->spec->train, r->result.steps);
        report_number(w, "accuracy_before", r->morphed.accuracy);
        report_number(w, "loss_before", r->morphed.loss);
        json_close_object(w);
        report_training(w, &r->result, &r->t.loss);
    }
    json_close_object(w);
}

static int run_all(struct outcome *out, struct morph_run *r, struct err *e) {
    struct transformation *t = &r->t;
    int status = crew_new(&r->crew, r->host->threads, e);
    if (!status && t->fed) status = calibration_open(&t->calibration, &t->material.train, r->host, e);
    if (!status && t->fed) t->morphing.data = &t->calibration.data;
    if (!status && t->fed) status = check_data(r, e);
    if (!status && t->fed) status = score(&r->before, r, t->parent.graph, e);
    t->run = r;
    if (!status) status = apply_all(t, r->spec, r->host, &r->w, e);
    if (!status) status = prove(&r->proof, r, t->parent.graph, t->exact, t->training, e);
    if (!status) status = morph_round(t->morphing.graph, t->parent.graph, e);
    if (!status) status = take_child(r, e);
    if (!status && t->fed) status = score(&r->morphed, r, r->child.graph, e);
    r->after = r->morphed;
    if (!status && r->spec->has_train) status = train_on(r, e);
    if (status) return status;
    report_metrics(&out->metrics, &r->child.size, &r->after, r->spec->has_train ? &r->result : NULL);
    report_metrics(&out->teacher_metrics, &t->parent.size, &r->before, NULL);
    write_end(r);
    status = report_check(out, e);
    return status ? status : network_restore(&out->student, &r->child, e);
}

static int morph_run_spec(struct outcome *out, const void *spec, const struct host *host, struct err *e) {
    *out = (struct outcome){0};
    struct morph_spec *s = mem_copy(spec, sizeof *s); /* prepare completes what is complete already */
    struct morph_run *r = mem_calloc(1, sizeof *r);
    int status = s && r ? 0 : err_memory(e, sizeof *s + sizeof *r);
    if (!status) {
        struct score unknown = {(double)NAN, (double)NAN, (double)NAN, (double)NAN};
        *r = (struct morph_run){.spec = s, .host = host, .before = unknown, .morphed = unknown, .after = unknown};
        text_init(&out->report, REPORT_MAX);
        r->w = json_writer(&out->report);
        json_open_object(&r->w, NULL);
        status = prepare(&r->t, s, host, e);
        if (!status) status = run_all(out, r, e);
        proof_free(&r->proof);
        network_fini(&r->child);
        crew_free(r->crew);
        transformation_fini(&r->t);
    }
    mem_free(r);
    mem_free(s);
    if (status) outcome_free(out);
    return status;
}

const struct method method_morph = {
    .name = "morph",
    .summary = "a network takes another shape and computes the same function, proved, and may train on",
    .params = morph_params,
    .spec_size = sizeof(struct morph_spec),
    .check = morph_check_spec,
    .describe = morph_describe,
    .run = morph_run_spec,
};
