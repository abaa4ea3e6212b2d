/* proof_gradients.c - whether what is new in the child can learn. */
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "base/random.h"
#include "engine/nn/outputs.h"
#include "engine/surgery/proof_parts.h"

static bool is_parameter(const struct graph *g, int v) {
    return v >= 0 && v < g->n_values && g->values[v].constant && g->values[v].trainable;
}

/* Whether the parent has no such parameter. */
static bool is_new(const struct trial *t, int v) {
    const struct value *after = &t->graphs[CHILD]->values[v];
    int u = graph_find_value(t->graphs[PARENT], after->name);
    return !is_parameter(t->graphs[PARENT], u) ||
           !shape_equal(&t->graphs[PARENT]->values[u].constant->shape, &after->constant->shape);
}

/* The parameters to be measured, into `list`, which has room for all. */
static int choose(int *list, int *n, const struct trial *t, struct err *e) {
    const struct graph *g = t->graphs[CHILD];
    const struct proof_options *o = t->options;
    *n = 0;
    for (int i = 0; o->parameters && i < o->n_parameters; i++) {
        if (!is_parameter(g, o->parameters[i]))
            return err_set(e, E_INVALID, "value %d is no parameter of the new network", o->parameters[i]);
        list[(*n)++] = o->parameters[i];
    }
    for (int v = 0; v < g->n_values && !o->parameters; v++)
        if (is_parameter(g, v) && is_new(t, v)) list[(*n)++] = v;
    return 0;
}

/* A random direction for every output, in one block: the loss is the sum of their products. */
static int draw_targets(double **block, const double **out, const struct trial *t, struct err *e) {
    size_t total = 0;
    for (int i = 0; i < t->graphs[CHILD]->n_outputs; i++) total += proof_count(&t->shapes[i]);
    *block = mem_calloc(total + 1, sizeof **block);
    if (!*block) return err_memory(e, total * sizeof **block);
    struct random all = random_seed(t->options->seed), r = random_split(&all, 77);
    for (size_t i = 0; i < total; i++) (*block)[i] = random_normal(&r);
    total = 0;
    for (int i = 0; i < t->graphs[CHILD]->n_outputs; i++) {
        out[i] = *block + total;
        total += proof_count(&t->shapes[i]);
    }
    return 0;
}

static int descend(struct gradient_size *sizes, const struct trial *t, struct err *e) {
    const struct graph *g = t->graphs[CHILD];
    const struct proof_options *o = t->options;
    double *block = NULL;
    const double **targets = mem_calloc((size_t)g->n_outputs + 1, sizeof *targets);
    int status = targets ? draw_targets(&block, targets, t, e) : err_memory(e, sizeof *targets);
    enum proof_input input = proof_tries(t, PROOF_TRAINING, PROOF_DATA) ? PROOF_DATA : PROOF_NORMAL;
    struct outputs_task task = {.graph = g,
                                .batch = t->samples,
                                .inputs = (const double *const *)(t->inputs + (int)input * g->n_inputs),
                                .training = true,
                                .seed = o->seed,
                                .threads = o->threads,
                                .output_gradients = targets,
                                .steps = PROOF_STEPS,
                                .rate = 0.02,
                                .gradients = sizes};
    if (o->memory) task.memory = o->memory > t->own ? o->memory - t->own : 1;
    if (!status && o->tick.call) status = o->tick.call(o->tick.context, e);
    if (!status) status = outputs_double(&task, e);
    mem_free(block);
    mem_free(targets);
    return status;
}

static int report(struct proof *out, const struct graph *g, const int *list, int n, const struct gradient_size *sizes,
                  struct err *e) {
    out->gradients = mem_calloc((size_t)n + 1, sizeof *out->gradients);
    if (!out->gradients) return err_memory(e, (size_t)n * sizeof *out->gradients);
    for (int i = 0; i < n; i++) {
        struct proof_gradient *p = &out->gradients[i];
        const struct gradient_size *later = sizes + g->n_values + list[i];
        p->parameter = mem_string(g->values[list[i]].name);
        if (!p->parameter) return err_memory(e, 1);
        out->n_gradients++;
        p->elements = g->values[list[i]].constant->count;
        p->norm = sizes[list[i]].norm;
        for (int step = 1; step <= PROOF_STEPS; step++, later += g->n_values) {
            if (later->norm > p->norm_later || isnan(later->norm)) p->norm_later = later->norm;
            p->idle = later->idle;
        }
        p->dead = p->idle == p->elements && p->elements > 0;
        if (p->dead) out->trainable = false;
    }
    return 0;
}

int proof_measure_gradients(struct proof *out, struct trial *t, struct err *e) {
    const struct graph *g = t->graphs[CHILD];
    int n, *list = mem_alloc(((size_t)g->n_values + (size_t)t->options->n_parameters + 1) * sizeof *list);
    struct gradient_size *sizes = mem_calloc(((size_t)g->n_values + 1) * (PROOF_STEPS + 1), sizeof *sizes);
    int status = list && sizes ? 0 : err_memory(e, (size_t)g->n_values * sizeof *sizes);
    if (!status) status = choose(list, &n, t, e);
    if (!status && n) status = descend(sizes, t, e);
    if (!status && n) status = report(out, g, list, n, sizes, e);
    mem_free(list);
    mem_free(sizes);
    return status;
}
