/* material.c - opening data sets through the host. */
#include "engine/transfer/material.h"

#include <string.h>

#include "base/memory.h"
#include "base/random.h"

enum { RANDOM_HOLDOUT = 3 }; /* label for splitting the seed */

/* Gives an error the field it is about. */
static int at(const char *pointer, int status, struct err *e) {
    if (status && e && !e->pointer[0]) text_copy(e->pointer, sizeof e->pointer, pointer);
    return status;
}

int examples_open(struct examples *out, const struct dataset_spec *spec, const struct host *host,
                  const struct shape *input, int64_t classes, const char *pointer, struct err *e) {
    *out = (struct examples){.spec = *spec};
    struct data_array inputs, labels;
    int status = host->load_array(&inputs, &out->source, host->context, spec->ref, "inputs", e);
    if (status) return at(pointer, status, e);
    struct err missing = {0};
    status = host->load_array(&labels, NULL, host->context, spec->ref, "labels", &missing);
    out->labels = status == 0;
    if (status && status != E_NOT_FOUND) return at(pointer, err_set(e, status, "%s", missing.text), e);
    return at(pointer, dataset_open(&out->data, spec, &inputs, out->labels ? &labels : NULL, input, classes, e), e);
}

void material_inherit(struct dataset_spec *evaluate, const struct dataset_spec *train) {
    bool plain = evaluate->scale == 1 && evaluate->n_mean == 0 && evaluate->n_std == 0 && evaluate->layout == 0;
    if (!plain) return;
    struct dataset_spec s = *train;
    memcpy(s.ref, evaluate->ref, sizeof s.ref);
    s.limit = evaluate->limit;
    *evaluate = s;
}

static int open_evaluation(struct material *m, const struct material_spec *spec, const struct host *host,
                           const struct shape *input, int64_t classes, struct err *e) {
    int status = examples_open(&m->eval_set, spec->evaluate, host, input, classes, "/evaluate", e);
    m->train = (struct selection){&m->train_set.data, NULL, m->train_set.data.samples};
    m->eval = (struct selection){&m->eval_set.data, NULL, m->eval_set.data.samples};
    m->evaluated = &m->eval_set;
    text_print(m->described, sizeof m->described, "%s", spec->evaluate->ref);
    return status;
}

static int hold_out(struct material *m, const struct material_spec *spec, struct err *e) {
    struct random all = random_seed(spec->seed), random = random_split(&all, RANDOM_HOLDOUT);
    m->evaluated = &m->train_set;
    text_print(m->described, sizeof m->described, "%g %% of %s, held out", 100 * spec->holdout, spec->dataset->ref);
    return at(
        "/holdout",
        selection_split(&m->train, &m->eval, &m->split, &m->train_set.data, spec->holdout, random_u64(&random), e), e);
}

int material_open(struct material *out, const struct material_spec *spec, const struct host *host,
                  const struct shape *input, int64_t classes, struct err *e) {
    *out = (struct material){0};
    int status = examples_open(&out->train_set, spec->dataset, host, input, classes, "/dataset", e);
    if (status) return status;
    return spec->evaluate ? open_evaluation(out, spec, host, input, classes, e) : hold_out(out, spec, e);
}

void material_fini(struct material *m) {
    mem_free(m->split);
    m->split = NULL;
}
