/* evaluate.c - method "evaluate": measures a network on a data set. */
#include "engine/nn/evaluate.h"

#include "base/memory.h"
#include "engine/nn/net.h"
#include "engine/transfer/material.h"
#include "engine/transfer/method.h"
#include "engine/transfer/report.h"

#define BATCH 128

struct evaluate_spec {
    char model[REFERENCE_SIZE];
    struct dataset_spec dataset;
};

static const struct param evaluate_params[] = {
    PARAM_MODEL(struct evaluate_spec, model, true, "the network to measure"),
    {.name = "dataset",
     .type = PARAM_TYPE_OBJECT,
     PARAM_AT(struct evaluate_spec, dataset),
     .required = true,
     .fields = dataset_params,
     .bare = "ref",
     .help = "inputs and labels to measure it on"},
    PARAM_END,
};

static int prepare(struct network *n, struct examples *x, const struct evaluate_spec *s, const struct host *host,
                   struct err *e) {
    int status = network_load(n, host, s->model, &s->dataset, "/model", e);
    if (!status) status = examples_open(x, &s->dataset, host, &n->input, n->classes, "/dataset", e);
    if (!status && !x->labels)
        status = err_set_at(e, E_INVALID, "/dataset", "data set %s has no array \"labels\" to compare answers with",
                            s->dataset.ref);
    return status;
}

static int evaluate_check(void *spec, const struct host *host, struct graph_size *student, struct err *e) {
    struct network n = {0};
    struct examples x = {0};
    int status = prepare(&n, &x, spec, host, e);
    if (student) *student = (struct graph_size){0};
    network_fini(&n);
    return status;
}

/* How far a run is, in batches. */
struct count {
    const struct host *host;
    int64_t done, batches;
};

static int count_batch(void *context, struct err *e) {
    struct count *c = context;
    return c->host->progress(c->host->context, ++c->done, c->batches, e);
}

static int measure(struct score *out, const struct network *n, const struct examples *x, const struct host *host,
                   struct err *e) {
    static const struct targets none;
    struct selection all = {&x->data, NULL, x->data.samples};
    size_t width = (size_t)n->classes, batch = all.n < BATCH ? all.n : BATCH, bytes;
    void *logits;
    if (!mem_mul(&bytes, all.n, width * sizeof(real)))
        return err_set(e, E_TOO_LARGE, "the answers to %zu samples are too many: limit the data set", all.n);
    struct count count = {host, 0, (int64_t)((all.n + batch - 1) / batch)};
    struct crew *crew = NULL;
    struct net *net = NULL;
    int status = host->scratch(&logits, bytes, host->context, e);
    if (!status) status = crew_new(&crew, host->threads, e);
    struct net_options options = {.batch = (int)batch, .memory = host->memory};
    if (!status) status = net_new(&net, n->graph, crew, &options, e);
    if (!status) status = evaluate_logits(logits, net, &all, false, (struct tick){count_batch, &count}, e);
    if (!status) status = evaluate_score(out, crew, logits, &all, &none, width, e);
    net_free(net);
    crew_free(crew);
    return status;
}

static void write_report(struct outcome *out, const struct evaluate_spec *s, const struct network *n,
                         const struct examples *x, const struct score *score) {
    report_metrics(&out->metrics, &n->size, score, NULL);
    text_init(&out->report, REPORT_MAX);
    struct json_writer w = json_writer(&out->report);
    json_open_object(&w, NULL);
    report_network(&w, "model", s->model, &n->size, n->source.bytes, score);
    json_put_int(&w, "evaluated_on", (int64_t)x->data.samples);
    json_put_string(&w, "evaluation", s->dataset.ref);
    json_close_object(&w);
}

static int evaluate_run(struct outcome *out, const void *spec, const struct host *host, struct err *e) {
    *out = (struct outcome){0};
    const struct evaluate_spec *s = spec;
    struct network n = {0};
    struct examples x = {0};
    struct score score;
    int status = prepare(&n, &x, s, host, e);
    if (!status) status = measure(&score, &n, &x, host, e);
    if (!status) {
        write_report(out, s, &n, &x, &score);
        status = report_check(out, e);
    }
    network_fini(&n);
    if (status) outcome_free(out);
    return status;
}

const struct method method_evaluate = {
    .name = "evaluate",
    .summary = "how good a network is on a data set",
    .params = evaluate_params,
    .spec_size = sizeof(struct evaluate_spec),
    .check = evaluate_check,
    .run = evaluate_run,
};
